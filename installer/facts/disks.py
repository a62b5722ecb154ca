"""Disks, by identity; partitions, file systems and every stack on top of them."""

from pydantic import Field

from installer.facts.common import Unknown
from installer.frozen import Frozen
from installer.kinds import HolderKind, Transport

__all__ = ["Disk", "Filesystem", "Health", "Holder", "HolderKind", "Partition", "Transport"]


class Holder(Frozen):
    """One layer of a stack on a disk or partition."""

    kind: HolderKind
    """What it is."""
    name: str
    """Its name: mapped device, array, volume group/volume, pool, or file system type."""
    uuid: str | None = None
    """Its UUID."""
    mountpoints: tuple[str, ...] = ()
    """Where it is mounted now, or `[SWAP]`."""
    spans: tuple[str, ...] = ()
    """Other disks (by kernel name in this record) that the same stack reaches: destroying one harms all."""
    active: bool = True
    """Whether the kernel has it assembled or open; False when only a signature on the disk tells of it."""
    layers: tuple["Holder", ...] = ()
    """What stands on it."""


class Filesystem(Frozen):
    """A signature found by blkid."""

    kind: str
    """`ext4`, `vfat`, `crypto_LUKS`, `LVM2_member`, `linux_raid_member`, `zfs_member`, `swap`, `iso9660`, ..."""
    uuid: str | None = None
    """UUID as blkid writes it."""
    label: str | None = None
    """Label."""
    mountpoints: tuple[str, ...] = ()
    """Where it is mounted now."""


class Partition(Frozen):
    """A partition as the kernel has it."""

    number: int
    """Partition number, from 1."""
    name: str
    """Kernel name now, `sda1`: shown to people, never used to name a target."""
    start: int
    """Bytes from the start of the disk."""
    size: int
    """Bytes."""
    type_uuid: str | None = None
    """GPT partition type, lower case; an MBR type as `0x83`."""
    part_uuid: str | None = None
    """GPT unique GUID, lower case, or MBR disk id and number."""
    label: str | None = None
    """GPT partition name."""
    filesystem: Filesystem | None = None
    """What blkid finds in it."""
    holders: tuple[Holder, ...] = ()
    """What is stacked on it: what the kernel has active, else what a member signature tells."""


class Health(Frozen):
    """What the disk says of itself, where that can be read without spinning it up."""

    summary: str
    """One line, e.g. `passed, 3 % worn, 38 °C`."""
    failing: bool
    """Whether it reports its own failure."""


class Disk(Frozen):
    """One whole disk."""

    name: str
    """Kernel name now, `sda`: shown to people, never used to name a target."""
    wwn: str | None
    """World-wide name or NVMe namespace id (`0x5000…`, `eui.…`, `nvme.…`)."""
    serial: str | None
    """Serial number as the device gives it."""
    by_id: tuple[str, ...]
    """Names in /dev/disk/by-id, without the folder, sorted."""
    model: str | None
    """Model."""
    vendor: str | None = None
    """Vendor."""
    transport: Transport
    """What it hangs on."""
    path: str | None = None
    """Name in /dev/disk/by-path, without the folder."""
    ends: str | None = None
    """SHA-256 over its first and last MiB; read only of a disk that has neither a WWN nor a serial number."""
    pci_address: str | None = None
    """PCI function of its controller; giving that away would take the disk along."""
    size: int = Field(ge=0)
    """Bytes."""
    logical_sector: int
    """Bytes per addressable sector."""
    physical_sector: int
    """Bytes per physical sector."""
    rotational: bool | Unknown
    """Whether it spins."""
    removable: bool
    """Whether the kernel calls it removable."""
    read_only: bool
    """Whether the kernel refuses writes."""
    health: Health | Unknown
    """Health where readable."""
    table: str | None
    """`gpt`, `dos`, or none; `unknown` where the source (nixos-facter) does not report it."""
    filesystem: Filesystem | None = None
    """A file system or member signature on the whole disk, without partitions."""
    partitions: tuple[Partition, ...] = ()
    """In order of number."""
    holders: tuple[Holder, ...] = ()
    """What is stacked on the whole disk: what the kernel has active, else what a member signature tells."""
    install_medium: bool
    """Whether the running live system comes from it."""
    in_use: tuple[str, ...]
    """Everything that uses it now, for a person, e.g. `sda2 is mounted at /`; empty when free."""
