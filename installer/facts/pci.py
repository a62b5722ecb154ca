"""PCI devices, IOMMU groups, and what of them a guest can be given."""

from installer.facts.common import PciAddress, Unknown
from installer.frozen import Frozen
from installer.kinds import GpuKind, IommuState, Passthrough

__all__ = [
    "Gpu",
    "GpuKind",
    "Iommu",
    "IommuGroup",
    "IommuState",
    "Passthrough",
    "PassthroughVerdict",
    "PciDevice",
]


class IommuGroup(Frozen):
    """Devices that the IOMMU cannot tell apart: they go to a guest together or not at all."""

    number: int
    """Group number; may change between boots."""
    kind: str | Unknown
    """Default domain type, `DMA`, `identity`, ... (`iommu_groups/N/type`)."""
    members: tuple[PciAddress, ...]
    """Devices in address order."""


class Iommu(Frozen):
    """The IOMMU as a whole."""

    state: IommuState
    """Whether it works."""
    evidence: tuple[str, ...]
    """What the state rests on."""
    units: tuple[str, ...]
    """`/sys/class/iommu`: dmar0, ivhd0, ..."""
    groups: tuple[IommuGroup, ...]
    """Ascending by number."""


class PassthroughVerdict(Frozen):
    """The verdict with its reasons."""

    verdict: Passthrough
    """Yes, only with its group, or no."""
    reasons: tuple[str, ...]
    """Why; for `only with its group` the companions, for `no` everything that stands in the way."""
    cautions: tuple[str, ...] = ()
    """What may still go wrong, e.g. no reset method, identical ids of a device that the host keeps."""


class PciDevice(Frozen):
    """One PCI function."""

    address: PciAddress
    """Where it sits."""
    class_code: str
    """Six hexadecimal digits: base class, subclass, programming interface; `030000` is a VGA controller."""
    class_name: str
    """Name from pci.ids, or the code."""
    vendor_id: str
    """Four hexadecimal digits."""
    device_id: str
    """Four hexadecimal digits."""
    subsystem_vendor_id: str | None = None
    """Four hexadecimal digits."""
    subsystem_device_id: str | None = None
    """Four hexadecimal digits."""
    vendor_name: str
    """Name from pci.ids, or the id."""
    device_name: str
    """Name from pci.ids, or the id."""
    driver: str | None
    """Driver bound now."""
    modules: tuple[str, ...] = ()
    """Modules of the drivers bound to it and to its virtio child, e.g. `virtio_pci`, `virtio_blk`."""
    iommu_group: int | None
    """Group number."""
    reset_methods: tuple[str, ...] | Unknown
    """`flr`, `pm`, `bus`, ...; empty: cannot be reset (`reset_method`, Linux ≥ 5.15)."""
    resizable_bars: dict[int, tuple[int, ...]]
    """BAR number to the sizes in bytes it can take (`resourceN_resize`, Linux ≥ 6.1); empty where there is none."""
    sriov_total: int
    """Virtual functions it could have; 0 without SR-IOV."""
    sriov_active: int
    """Virtual functions it has."""
    is_virtual_function: bool = False
    """Whether it is itself a virtual function (`physfn`)."""
    numa_node: int | None
    """Nearest NUMA node; none where the firmware does not say (-1)."""
    boot_vga: bool
    """Whether the firmware showed its screens on it."""
    is_bridge: bool
    """Host or PCI bridge (class 0600, 0604, 0609): the IOMMU group rule does not count it."""
    companions: tuple[PciAddress, ...]
    """Other functions of the same device, e.g. a GPU's audio."""
    passthrough: PassthroughVerdict
    """Whether a guest can have it."""


class Gpu(Frozen):
    """A display controller (class 03)."""

    address: PciAddress
    """Its PCI function; details are under `pci`."""
    name: str
    """Vendor and model."""
    kind: GpuKind
    """Discrete, integrated, virtual, or a server's management controller."""
    boot: bool
    """Whether it is the boot display."""
    only: bool
    """Whether it is the only display controller."""
    connectors: tuple[str, ...]
    """DRM connectors with a screen attached, e.g. `DP-1`."""
    functions: tuple[PciAddress, ...]
    """All functions that go along: itself, audio, USB-C."""
    passthrough: PassthroughVerdict
    """Verdict over all its functions."""
