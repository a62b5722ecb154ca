"""The processor, and whether KVM can use it."""

from installer.kinds import Verdict, VirtualizationState
from installer.probe.draft import Cpu, Judgement, Virtualization
from installer.probe.root import Root, number

CPU_DEVICES = "/sys/devices/system/cpu"
HARDWARE_FLAGS = {"vmx": "kvm_intel", "svm": "kvm_amd"}
"""Flag in /proc/cpuinfo to the KVM module that uses it."""
RAW_CPUID = {"GenuineIntel": ("0x1", 5, "VMX"), "AuthenticAMD": ("0x80000001", 2, "SVM")}
"""Vendor to leaf, bit of ECX, name: what the processor can, whatever firmware and kernel did (Intel SDM, AMD APM)."""
FEATURE_CONTROL = "0x3a"
"""IA32_FEATURE_CONTROL: bit 0 locked, bit 2 VMX outside SMX."""
VM_CR = "0xc0010114"
"""AMD VM_CR: bit 4 SVMDIS."""
ERA_FLAG = "avx2"
"""Every Intel and AMD processor with it (2013 and later) has VT-x or AMD-V."""


class Processors:
    """The first processor's entry in /proc/cpuinfo, and the topology of all."""

    def __init__(self, root: Root) -> None:
        entries: list[dict[str, str]] = [{}]
        for line in (root.text("/proc/cpuinfo") or "").splitlines():
            name, colon, value = line.partition(":")
            if not colon:
                entries.append({})
                continue
            entries[-1][name.strip()] = value.strip()
        self.entries = [entry for entry in entries if "processor" in entry]
        self.first = self.entries[0] if self.entries else {}
        self.flags = frozenset((self.first.get("flags") or self.first.get("Features") or "").split())
        self.read = bool(self.entries)


def probe_cpu(root: Root, cpus: Processors, guest_of: str | None) -> Cpu:
    """The processors as one."""
    sockets, cores = _topology(root, cpus)
    return Cpu(
        architecture=_architecture(root, cpus),
        vendor=cpus.first.get("vendor_id") or _arm_vendor(cpus) or "unknown",
        model=cpus.first.get("model name") or cpus.first.get("Model") or "unknown",
        sockets=sockets,
        cores=cores,
        threads=max(1, len(cpus.entries)),
        numa_nodes=max(1, _count(root.text("/sys/devices/system/node/has_cpu"))),
        virtualization=_virtualization(root, cpus, guest_of),
        second_level_paging=_flag(cpus, ("ept", "npt")),
        nested=_parameter(root, cpus, "nested", "nested"),
        apic_virtualization=_parameter(root, cpus, "enable_apicv", "avic"),
        pages_1gib=_flag(cpus, ("pdpe1gb",)),
        sev=_confidential(root, cpus, "sev"),
        sev_es=_confidential(root, cpus, "sev_es"),
        sev_snp=_confidential(root, cpus, "sev_snp"),
        tdx=_tdx(root, cpus),
    )


def _architecture(root: Root, cpus: Processors) -> str:
    """From cpuinfo's own words, because a recorded machine may replay on another one."""
    if "vendor_id" in cpus.first or "flags" in cpus.first:
        return "x86_64" if "lm" in cpus.flags or not cpus.flags else "i686"
    if "CPU implementer" in cpus.first:
        return "aarch64"
    return root.text("/proc/sys/kernel/arch") or "unknown"


def _arm_vendor(cpus: Processors) -> str | None:
    implementers = {
        "0x41": "ARM Limited",
        "0x61": "Apple",
        "0xc0": "Ampere",
        "0x51": "Qualcomm",
        "0x48": "HiSilicon",
    }
    return implementers.get(cpus.first.get("CPU implementer", ""))


def _topology(root: Root, cpus: Processors) -> tuple[int, int]:
    """Sockets and cores; where cpuinfo does not tell (not x86), from sysfs; at least one of each."""
    pairs = set()
    for entry in cpus.entries:
        socket, core = entry.get("physical id"), entry.get("core id")
        if socket is None or core is None:
            topology = f"{CPU_DEVICES}/cpu{entry['processor']}/topology"
            socket = root.text(f"{topology}/physical_package_id") or "0"
            core = root.text(f"{topology}/core_id") or entry["processor"]
        pairs.add((socket, core))
    return max(1, len({socket for socket, _ in pairs})), max(1, len(pairs))


def _count(ranges: str | None) -> int:
    """How many numbers a kernel list such as `0-1,4` names."""
    total = 0
    for part in (ranges or "").split(","):
        first, _, last = part.partition("-")
        low, high = number(first), number(last or first)
        if low is not None and high is not None and 0 <= high - low < 1 << 16:
            total += high - low + 1
    return total


def _virtualization(root: Root, cpus: Processors, guest_of: str | None) -> Virtualization:
    """Weighs the flag, the raw processor registers, the modules, and /dev/kvm by use."""
    evidence: list[str] = []

    def conclude(state: VirtualizationState) -> Virtualization:
        return Virtualization(state=state, evidence=tuple(evidence))

    if not cpus.read:
        evidence.append(root.why("/proc/cpuinfo"))
        return conclude(VirtualizationState.unknown)
    if guest_of is not None:
        evidence.append(f"this machine is a guest (hypervisor: {guest_of})")
    answer = root.ask("kvm", "")
    works = answer is not None and answer.startswith("ok ")
    if answer is None:
        unreported = root.silent("/dev/kvm")
        evidence.append(root.why("/dev/kvm") if unreported else "/dev/kvm does not exist")
    elif works:
        evidence.append(f"/dev/kvm speaks API {answer.removeprefix('ok ')} and creates a virtual machine")
    else:
        evidence.append(f"/dev/kvm {answer}")
    running = VirtualizationState.ready if guest_of is None else VirtualizationState.nested_guest

    if "CPU implementer" in cpus.first:
        return conclude(running if works else VirtualizationState.unknown)
    flag = next((name for name in HARDWARE_FLAGS if name in cpus.flags), None)
    if flag is None:
        evidence.append("cpuinfo has neither the flag vmx nor svm")
        if works:
            evidence.append(
                "so that /dev/kvm is not hardware virtualization, and ordinary guests do not run on it"
            )
        return conclude(_without_flag(root, cpus, guest_of, evidence))
    evidence.append(f"cpuinfo flag {flag} is present")
    if works:
        return conclude(running)
    if _off_in_registers(root, flag, evidence):
        return conclude(VirtualizationState.off_in_firmware)
    module = HARDWARE_FLAGS[flag]
    loaded = root.real(f"/sys/module/{module}") is not None
    if answer is None and root.silent("/sys/module"):
        return conclude(VirtualizationState.unknown)
    evidence.append(f"module {module} is {'loaded' if loaded else 'not loaded'}")
    if not loaded:
        return conclude(VirtualizationState.module_missing)
    # The module refuses to load where the firmware switched virtualization off, so a device that only
    # this user may not open is a good one.
    refused = answer is not None and answer.startswith("cannot be opened")
    return conclude(running if refused else VirtualizationState.unknown)


def _without_flag(
    root: Root, cpus: Processors, guest_of: str | None, evidence: list[str]
) -> VirtualizationState:
    """The kernel hides the flag both where the processor lacks it and where the firmware switched it off."""
    if guest_of is not None:
        evidence.append("the hypervisor does not pass virtualization on")
        return VirtualizationState.lacking
    leaf, bit, name = RAW_CPUID.get(cpus.first.get("vendor_id", ""), ("", 0, ""))
    answer = root.ask("cpuid", leaf) if leaf else None
    if answer is not None and len(answer) == 32:
        present = (number(_swapped(answer[16:24]), 16) or 0) >> bit & 1
        evidence.append(
            f"the processor itself says {name} is {'there' if present else 'not there'} (CPUID {leaf})"
        )
        return VirtualizationState.off_in_firmware if present else VirtualizationState.lacking
    if leaf and ERA_FLAG in cpus.flags:
        evidence.append(f"but every processor of its make with {ERA_FLAG} has {name}: the firmware hides it")
        return VirtualizationState.off_in_firmware
    return VirtualizationState.lacking


def _swapped(little_endian: str) -> str:
    return "".join(little_endian[place : place + 2] for place in range(len(little_endian) - 2, -1, -2))


def _off_in_registers(root: Root, flag: str, evidence: list[str]) -> bool:
    """Whether a register says that the firmware switched virtualization off."""
    register = FEATURE_CONTROL if flag == "vmx" else VM_CR
    value = number(_swapped(root.ask("msr", register) or ""), 16)
    if value is None:
        return False
    off = (value & 0b101) == 0b001 if flag == "vmx" else bool(value & 1 << 4)
    if off:
        evidence.append(f"register {register} is {value:#x}: locked off by the firmware")
    return off


def _flag(cpus: Processors, names: tuple[str, ...]) -> Judgement:
    found = [name for name in names if name in cpus.flags]
    if found:
        return Judgement(verdict=Verdict.yes, because=f"cpuinfo flag {found[0]}")
    if not cpus.flags:
        return Judgement(verdict=Verdict.unknown, because="/proc/cpuinfo gives no flags")
    return Judgement(verdict=Verdict.no, because=f"cpuinfo lacks the flag {' and '.join(names)}")


def _parameter(root: Root, cpus: Processors, intel: str, amd: str) -> Judgement:
    """A switch of the loaded KVM module (`Y`, `N`, `1`, `0`)."""
    for module, name in (("kvm_intel", intel), ("kvm_amd", amd)):
        path = f"/sys/module/{module}/parameters/{name}"
        value = root.text(path)
        if value is not None:
            verdict = Verdict.yes if value in ("Y", "1") else Verdict.no
            return Judgement(verdict=verdict, because=f"{path} is {value}")
    used = next((module for flag, module in HARDWARE_FLAGS.items() if flag in cpus.flags), None)
    if used is None:
        return Judgement(verdict=Verdict.no, because="cpuinfo has neither the flag vmx nor svm")
    path = f"/sys/module/{used}"
    because = root.why(path) if root.silent(path) else f"module {used} is not loaded or has no such switch"
    return Judgement(verdict=Verdict.unknown, because=because)


def _confidential(root: Root, cpus: Processors, name: str) -> Judgement:
    """SEV and its relatives: the processor's flag, then whether kvm_amd has it switched on."""
    if name not in cpus.flags:
        return _flag(cpus, (name,))
    path = f"/sys/module/kvm_amd/parameters/{name}"
    value = root.text(path)
    if value is None:
        because = f"the processor has {name}, but whether KVM uses it is unknown: {root.why(path)}"
        return Judgement(verdict=Verdict.unknown, because=because)
    verdict = Verdict.yes if value in ("Y", "1") else Verdict.no
    return Judgement(verdict=verdict, because=f"cpuinfo flag {name}, and {path} is {value}")


def _tdx(root: Root, cpus: Processors) -> Judgement:
    if "tdx_host_platform" not in cpus.flags:
        return _flag(cpus, ("tdx_host_platform",))
    path = "/sys/module/kvm_intel/parameters/tdx"
    value = root.text(path)
    verdict = Verdict.unknown if value is None else Verdict.yes if value in ("Y", "1") else Verdict.no
    because = root.why(path) if value is None else f"{path} is {value}"
    return Judgement(verdict=verdict, because=f"cpuinfo flag tdx_host_platform; {because}")
