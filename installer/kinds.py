"""The closed sets of words that facts use, apart from the fact types so that probing needs no pydantic."""

from enum import StrEnum


class Verdict(StrEnum):
    """Three-way answers."""

    yes = "yes"
    no = "no"
    unknown = "unknown"


class VirtualizationState(StrEnum):
    """Whether this machine can run KVM guests now, and if not, what is in the way."""

    lacking = "lacking"
    """The processor has neither VT-x nor AMD-V."""
    off_in_firmware = "off in firmware"
    """The processor has it, the firmware switched it off."""
    module_missing = "module missing"
    """The processor has it, but kvm_intel or kvm_amd is not loaded."""
    nested_guest = "nested guest"
    """This is itself a guest, and its hypervisor passes virtualization on."""
    ready = "ready"
    """/dev/kvm works."""
    unknown = "unknown"
    """The evidence does not tell."""


class FirmwareKind(StrEnum):
    """How this system was booted; what the installed one must be made for."""

    uefi64 = "UEFI 64-bit"
    uefi32 = "UEFI 32-bit"
    bios = "BIOS"


class ChassisKind(StrEnum):
    """What kind of machine it is (DMI chassis type, SMBIOS specification 7.4.1, and hypervisor signs)."""

    server = "server"
    desktop = "desktop"
    laptop = "laptop"
    virtual = "virtual machine"
    other = "other"
    unknown = "unknown"


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
    unknown = "unknown"
    """Neither the firmware's tables nor the groups could be looked at."""


class Passthrough(StrEnum):
    """Whether a guest can have a device."""

    yes = "yes"
    with_group = "only with its group"
    no = "no"


class GpuKind(StrEnum):
    """Where a GPU sits."""

    discrete = "discrete"
    integrated = "integrated"
    virtual = "virtual"
    management = "management"
    """A server's BMC (ASPEED, Matrox): keep it for the host."""


class Transport(StrEnum):
    """What a disk hangs on."""

    nvme = "nvme"
    sata = "sata"
    sas = "sas"
    scsi = "scsi"
    usb = "usb"
    virtio = "virtio"
    mmc = "mmc"
    fibre_channel = "fc"
    iscsi = "iscsi"
    other = "other"
    unknown = "unknown"


class HolderKind(StrEnum):
    """What may stand on a disk or partition."""

    luks = "luks"
    lvm_pv = "lvm physical volume"
    lvm_lv = "lvm logical volume"
    md = "md array"
    zfs = "zfs member"
    bcache = "bcache"
    multipath = "multipath"
    dm = "device mapper"
    btrfs = "btrfs member"
    swap = "swap"
    filesystem = "filesystem"
