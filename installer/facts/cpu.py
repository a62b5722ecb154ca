"""The processor and what it can virtualise."""

from installer.facts.common import Judgement, Unknown
from installer.frozen import Frozen
from installer.kinds import VirtualizationState

__all__ = ["Cpu", "Memory", "Virtualization", "VirtualizationState"]


class Virtualization(Frozen):
    """KVM's state with what it was concluded from."""

    state: VirtualizationState
    """The conclusion."""
    evidence: tuple[str, ...]
    """What was read, in the order it was weighed, e.g. `cpuinfo flag vmx is present`."""


class Cpu(Frozen):
    """The processors as one: hosts mix no models."""

    architecture: str
    """Kernel's machine name, `x86_64` or `aarch64`."""
    vendor: str
    """`GenuineIntel`, `AuthenticAMD`, ... as cpuid gives it; `unknown` where the kernel does not tell."""
    model: str
    """Marketing name."""
    sockets: int
    """Physical packages."""
    cores: int
    """Physical cores of all packages."""
    threads: int
    """Logical processors."""
    numa_nodes: int
    """NUMA nodes with processors; 1 on a machine without NUMA."""
    virtualization: Virtualization
    """Whether KVM can run."""
    second_level_paging: Judgement
    """EPT (Intel) or NPT (AMD)."""
    nested: Judgement
    """Whether guests may run guests (`/sys/module/kvm_*/parameters/nested`)."""
    apic_virtualization: Judgement
    """APICv (Intel) or AVIC (AMD)."""
    pages_1gib: Judgement
    """1 GiB pages (flag pdpe1gb)."""
    sev: Judgement
    """AMD Secure Encrypted Virtualization."""
    sev_es: Judgement
    """SEV with encrypted register state."""
    sev_snp: Judgement
    """SEV with secure nested paging."""
    tdx: Judgement
    """Intel Trust Domain Extensions, as a host."""


class Memory(Frozen):
    """Main memory."""

    total: int
    """Bytes the kernel has (MemTotal)."""
    available: int | Unknown
    """Bytes free for use when probed (MemAvailable)."""
    ecc: Judgement
    """Error correction, from EDAC or DMI."""
    hugepage_sizes: tuple[int, ...]
    """Bytes of each size the kernel offers, ascending (`/sys/kernel/mm/hugepages`)."""
