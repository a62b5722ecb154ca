"""Facts: what a machine is. Made by `installer.probe`, read by everything after it, changed by nothing."""

from typing import Literal

from installer.facts.cpu import Cpu, Memory
from installer.facts.disks import Disk
from installer.facts.firmware import Firmware
from installer.facts.nics import Nic
from installer.facts.pci import Gpu, Iommu, PciDevice
from installer.facts.systems import InstalledSystem
from installer.frozen import Frozen

FACTS_VERSION: Literal[1] = 1


class Facts(Frozen):
    """Everything known about one machine, in a stable order."""

    version: Literal[1] = FACTS_VERSION
    """Format of this record."""
    cpu: Cpu
    """Processor and virtualization."""
    memory: Memory
    """Main memory."""
    firmware: Firmware
    """Firmware, TPM, chassis, serial consoles."""
    iommu: Iommu
    """IOMMU state and groups."""
    pci: tuple[PciDevice, ...]
    """PCI functions in address order."""
    gpus: tuple[Gpu, ...]
    """Display controllers in address order."""
    disks: tuple[Disk, ...]
    """Disks, sorted by transport, then by name."""
    nics: tuple[Nic, ...]
    """Network interfaces, sorted by name."""
    systems: tuple[InstalledSystem, ...]
    """Systems found on the disks."""
