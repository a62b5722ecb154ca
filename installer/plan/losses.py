"""What is on a disk now: shown before it is destroyed."""

from collections.abc import Iterable, Iterator

from installer.answers.sizes import MIB, format_size
from installer.errors import Exit, HyperError
from installer.facts.disks import Disk, Filesystem, Holder, Partition
from installer.facts.systems import InstalledSystem
from installer.plan.model import Destruction, Region
from installer.plan.storage.gpt import PartitionType

WORDS = {
    "crypto_LUKS": "LUKS container",
    "LVM2_member": "LVM physical volume",
    "linux_raid_member": "member of an md array",
    "zfs_member": "member of a ZFS pool",
    "bcache": "bcache device",
    "swap": "swap",
    "BitLocker": "BitLocker volume",
}
"""blkid's types for a person; others stand for themselves."""
TYPES = {
    PartitionType.bios_boot.value: "GRUB's BIOS code",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
}
"""Partition types that explain an empty-looking partition."""


EXTENDED = frozenset(("0x5", "0xf", "0x85"))
"""MBR types of partitions that hold nothing but the table of others, which wipefs leaves alone as they are no disks."""


def holding(disk: Disk) -> tuple[int, ...]:
    """Numbers of the partitions that may hold something."""
    return tuple(each.number for each in disk.partitions if each.type_uuid not in EXTENDED)


def content_words(filesystem: Filesystem | None) -> str:
    """A signature for a person."""
    if filesystem is None:
        return "nothing known"
    name = WORDS.get(filesystem.kind, filesystem.kind)
    return f'{name} "{filesystem.label}"' if filesystem.label else name


def partition_words(partition: Partition) -> str:
    """A partition's content for a person."""
    if partition.filesystem is None:
        return TYPES.get(partition.type_uuid or "", partition.label or "nothing known")
    return content_words(partition.filesystem)


def losses(disk: Disk, key: str, systems: Iterable[InstalledSystem]) -> Destruction:
    """What emptying a disk destroys."""
    found = [
        f"partition {each.number}, {format_size(each.size)}: {partition_words(each)}"
        for each in disk.partitions
    ]
    if disk.filesystem:
        found.insert(0, f"the whole disk: {content_words(disk.filesystem)}")
    names = {partition.name: partition.number for partition in disk.partitions}
    for system in systems:
        if system.disk == disk.name:
            number = names.get(system.partition or "")
            found.append(f"{system.name}, on partition {number}" if number else system.name)
    if not found and disk.table:
        found.append(f"an empty {disk.table} partition table")
    return Destruction(disk=key, losses=tuple(found) or ("nothing: the disk is blank",))


def picture(disk: Disk) -> tuple[Region, ...]:
    """The disk as it is, with the gaps of at least a MiB between partitions."""
    if not disk.partitions:
        content = content_words(disk.filesystem) if disk.filesystem else "free"
        return (Region(number=None, start=0, size=disk.size, content=content),)
    # Logical partitions lie inside their extended one, which holds nothing itself.
    there = sorted(disk.partitions, key=lambda partition: (partition.start, -partition.size))
    return with_gaps(
        [
            Region(number=each.number, start=each.start, size=each.size, content=partition_words(each))
            for each in there
        ],
        disk.size,
    )


def with_gaps(regions: Iterable[Region], size: int) -> tuple[Region, ...]:
    """Regions in order of place, on a disk of this size, with the gaps of at least a MiB between them."""
    found: list[Region] = []
    end = 0
    for each in regions:
        if each.start - end > MIB:
            found.append(Region(number=None, start=end, size=each.start - end, content="free"))
        found.append(each)
        end = max(end, each.start + each.size)
    if size - end > MIB:
        found.append(Region(number=None, start=end, size=size - end, content="free"))
    return tuple(found)


def require_name_free(name: str, everyone: Iterable[Disk]) -> None:
    """HyperError (Exit.busy) if a mapped device of this name is active already, on whichever disk."""
    for disk in everyone:
        if any(holder.name == name for holder in all_layers(_holders(disk))):
            raise HyperError(
                f"the name {name} is taken",
                why=f"a mapped device /dev/mapper/{name} is active on {disk.model or disk.name}",
                remedy=f"close it (`cryptsetup close {name}`)",
                code=Exit.busy,
            )


def _holders(disk: Disk) -> Iterator[Holder]:
    """What stands directly on the disk or one of its partitions."""
    yield from disk.holders
    for partition in disk.partitions:
        yield from partition.holders


def all_layers(holders: Iterable[Holder]) -> Iterator[Holder]:
    """Each, followed by all that stands on it."""
    for holder in holders:
        yield holder
        yield from all_layers(holder.layers)


def volume_group_doubt(disk: Disk, everyone: Iterable[Disk]) -> str | None:
    """Which other disks may belong to the same volume group: to blkid an inactive physical volume does not tell its
    group, and there was no `pvs` to ask.
    """
    if not _has_unknown_group(disk):
        return None
    others = [other for other in everyone if other.name != disk.name and _has_unknown_group(other)]
    return ", ".join(f"{other.model or 'disk'} ({other.serial or other.name})" for other in others) or None


def _has_unknown_group(disk: Disk) -> bool:
    """Whether there is a physical volume that stands for itself alone: its holder, if any, has no UUID but its own."""
    found = ((disk.filesystem, disk.holders), *((each.filesystem, each.holders) for each in disk.partitions))
    return any(
        filesystem is not None
        and filesystem.kind == "LVM2_member"
        and not any(holder.active or holder.uuid != filesystem.uuid for holder in holders)
        for filesystem, holders in found
    )
