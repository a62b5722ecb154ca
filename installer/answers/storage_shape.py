"""What a choice of disks, redundancy and file system comes to: how many disks it needs, how many may fail."""

from collections.abc import Iterable

from installer.answers.model import DiskSelector, FilesystemKind, Redundancy, StorageAnswers, VolumesKind

ZFS_ONLY = frozenset((Redundancy.raidz1, Redundancy.raidz2, Redundancy.raidz3))
MD_ONLY = frozenset((Redundancy.raid5, Redundancy.raid6))
LEAST_DISKS = {
    Redundancy.none: 1,
    Redundancy.mirror: 2,
    Redundancy.raid10: 4,
    Redundancy.raid5: 3,
    Redundancy.raid6: 4,
    Redundancy.raidz1: 3,
    Redundancy.raidz2: 4,
    Redundancy.raidz3: 5,
}
"""Fewer work in places, and keep nothing that a mirror would not keep as well."""
BTRFS_COPIES = 4
"""btrfs keeps at most four copies (raid1c4, mkfs.btrfs(8))."""


def counted(selectors: Iterable[DiskSelector]) -> int:
    """How many disks the selectors must match together."""
    return sum(selector.count for selector in selectors)


def usual_redundancy(disks: int, *, zfs: bool = False) -> Redundancy:
    """What suits a number of disks: VMs write small blocks at random, which mirrors do fast and parity slowly."""
    if disks == 1:
        return Redundancy.none
    if disks <= 3:
        return Redundancy.mirror
    if disks % 2 == 0:
        return Redundancy.raid10
    return Redundancy.raidz2 if zfs else Redundancy.raid6


def system_redundancy(storage: StorageAnswers) -> Redundancy:
    """What stays of the system when disks fail, as asked or as suits its disks; the layout is not `auto`."""
    disks = counted(storage.selectors)
    if storage.redundancy is not None:
        return storage.redundancy
    if storage.layout == "mirror":
        return Redundancy.mirror
    chosen = usual_redundancy(disks, zfs=storage.filesystem is FilesystemKind.zfs)
    # An odd number of disks under a btrfs of its own: three copies are more than a parity it should not have.
    return Redundancy.mirror if chosen is Redundancy.raid6 and not needs_md(storage) else chosen


def pool_redundancy(storage: StorageAnswers) -> Redundancy:
    """The same of a pool on disks of its own."""
    assert storage.pool is not None
    chosen = storage.pool.redundancy or usual_redundancy(
        counted(storage.pool_selectors), zfs=storage.pool.kind == "zfs"
    )
    own = storage.pool.kind == "dir" and storage.pool.filesystem is FilesystemKind.btrfs
    return Redundancy.mirror if storage.pool.redundancy is None and own and chosen in MD_ONLY else chosen


def needs_md(storage: StorageAnswers) -> bool:
    """Whether md joins the system's disks: btrfs and ZFS do it themselves, unless LVM lies between."""
    alone = storage.filesystem in (FilesystemKind.btrfs, FilesystemKind.zfs)
    return not alone or storage.volumes is not VolumesKind.none


def luks_devices(storage: StorageAnswers) -> int:
    """How many devices stage 1 opens at once, each with memory of its own for argon2id."""
    return 1 if needs_md(storage) else max(1, counted(storage.selectors))
