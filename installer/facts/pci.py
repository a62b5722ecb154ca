"""PCI devices, IOMMU groups, and what of them a guest can be given."""

from enum import StrEnum

from installer.facts.common import PciAddress, Unknown
from installer.frozen import Frozen


class IommuState(StrEnum):
    """Why there are IOMMU groups, or why not."""

    absent = "absent"
    """No DMAR or IVRS table and no sign that the hardware has one."""
    off_in_firmware = "off in firmware"
    """The processor's platform has one; the firmware gives no table."""
    off_in_kernel = "off in kernel"
    """The firmware gives a table; the kernel made no groups."""
    on = "on"
    """There are groups."""


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


class Passthrough(StrEnum):
    """Whether a guest can have a device."""

    yes = "yes"
    with_group = "only with its group"
    no = "no"


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
    """Modules whose alias fits this device."""
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
    """PCI bridge (class 06): the IOMMU group rule does not count it."""
    companions: tuple[PciAddress, ...]
    """Other functions of the same device, e.g. a GPU's audio."""
    passthrough: PassthroughVerdict
    """Whether a guest can have it."""


class GpuKind(StrEnum):
    """Where a GPU sits."""

    discrete = "discrete"
    integrated = "integrated"
    virtual = "virtual"
    management = "management"
    """A server's BMC (ASPEED, Matrox): keep it for the host."""


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
