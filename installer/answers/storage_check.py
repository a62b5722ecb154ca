"""Whether disks, redundancy, file system and volumes of an answer file make a layout."""

import posixpath
from collections.abc import Iterator

from installer.answers.model import (
    DiskSelector,
    EspKind,
    ExistingKind,
    FilesystemKind,
    LayoutKind,
    PartitionAnswers,
    PoolAnswers,
    Redundancy,
    StorageAnswers,
    VolumesKind,
)
from installer.answers.problems import Path, Problem
from installer.answers.sizes import KIB, MIB, parse_size
from installer.answers.storage_shape import (
    BTRFS_COPIES,
    LEAST_DISKS,
    MD_ONLY,
    ZFS_ONLY,
    counted,
    needs_md,
    pool_redundancy,
    system_redundancy,
)

_FIND = "`hv probe` lists the disks with their serials; `hv answers new --machine` fills them in"
_NOT_KEPT = (
    "/nix",
    "/etc",
    "/boot",
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/run",
    "/proc",
    "/sys",
    "/dev",
    "/tmp",  # noqa: S108
)
"""What is the system's own, and new with it."""
_HOLDERS = ("/", "/var", "/var/lib", "/var/log", "/var/lib/hyper-nixos")
"""Folders of others' data, where keeping all would keep the old system too."""
_RECORD_SIZES = (4 * KIB, MIB)


def selectors(storage: StorageAnswers) -> Iterator[tuple[Path, DiskSelector]]:
    """Every selector, with its path."""
    for path, table in _tables(storage):
        if table.disk is not None:
            yield (*path, "disk"), table.disk
        for number, each in enumerate(table.disks):
            yield (*path, "disks", number), each
    for number, partition in enumerate(storage.partitions):
        if partition.disk is not None:
            yield ("storage", "partitions", number, "disk"), partition.disk


def _tables(storage: StorageAnswers) -> Iterator[tuple[Path, StorageAnswers | PoolAnswers]]:
    yield ("storage",), storage
    if storage.pool is not None:
        yield ("storage", "pool"), storage.pool


def check_storage(storage: StorageAnswers) -> Iterator[Problem]:
    """Every contradiction in disks and layout."""
    path: Path = ("storage",)
    for where, selector in selectors(storage):
        yield from _selector(selector, where)
    for table_path, table in _tables(storage):
        if table.disk is not None and table.disks:
            yield Problem(
                (*table_path, "disks"),
                "stands beside `disk`",
                "write all disks into `disks`, or use `disk` with `count`",
            )
    if not storage.selectors:
        yield Problem(
            (*path, "disk"), "no disk is named", f'add a table `[storage.disk]` with `serial = "…"`; {_FIND}'
        )
    if storage.layout is not LayoutKind.auto and storage.selectors:
        number = list(_layout(storage, counted(storage.selectors)))
        yield from number or _redundancy(storage)
    yield from _volumes(storage)
    yield from _swap_file(storage)
    yield from _existing(storage)
    if storage.pool is not None:
        yield from _pool(storage)


def _existing(storage: StorageAnswers) -> Iterator[Problem]:
    """What becomes of what is on the disks."""
    keeps, again = (storage.existing is kind for kind in (ExistingKind.keep, ExistingKind.reinstall))
    if not keeps and storage.esp is not EspKind.auto and not again:
        yield Problem(
            ("storage", "esp"),
            f"means nothing with existing `{storage.existing.value}`",
            'remove it, or write `existing = "keep"`',
        )
    if keeps and storage.layout is LayoutKind.auto:
        yield Problem(
            ("storage", "layout"),
            "is chosen by the disks, and with `existing` `keep` by what is free on them",
            'write `layout = "one-disk"`, `"mirror"` or `"array"`, or `existing = "erase"`',
        )
    if keeps and storage.layout is not LayoutKind.one_disk and storage.esp is EspKind.share:
        yield Problem(
            ("storage", "esp"),
            f"shares one disk's, and with layout `{storage.layout.value}` each disk starts the host alone",
            'remove it: each gets one of its own, or write `layout = "one-disk"`',
        )
    if storage.keep and not again:
        yield Problem(
            ("storage", "keep"),
            f"means nothing with existing `{storage.existing.value}`",
            'remove it, or write `existing = "reinstall"`; partitions are kept with `existing = "keep"`',
        )
    for number, path in enumerate(storage.keep):
        if wrong := _not_a_place(path) or _own_of_the_system(path):
            yield Problem(
                ("storage", "keep", number), wrong, "name a folder of data, e.g. `/home` or `/srv`"
            )
    for number, each in enumerate(storage.partitions):
        where: Path = ("storage", "partitions", number)
        yield from _partition(each, where)
        yield from _fate(storage, each, where)
    places = [each.mount for each in storage.partitions if each.mount]
    for number, each in enumerate(storage.partitions):
        if each.mount and places.count(each.mount) > 1:
            yield Problem(
                ("storage", "partitions", number, "mount"),
                "is there twice",
                "mount each at a place of its own",
            )


def _fate(storage: StorageAnswers, each: PartitionAnswers, path: Path) -> Iterator[Problem]:
    """What becomes of a partition, beside what becomes of the disks."""
    existing = storage.existing
    if existing is ExistingKind.keep:
        if each.mount == "/" and storage.layout is not LayoutKind.one_disk:
            yield Problem(
                (*path, "mount"),
                f"puts the root into one partition, and the layout is `{storage.layout.value}`",
                'leave it out: the root goes into what is free on each disk; or write `layout = "one-disk"`',
            )
    elif existing is ExistingKind.erase and each.disk is None:
        yield Problem(
            path,
            "is on a disk of the system, of which everything goes with existing `erase`",
            'write `existing = "keep"`, or say with `disk` which other disk it is on',
        )
    elif each.action != "keep" or each.mount is None:
        yield Problem(
            (*path, "mount" if each.action == "keep" else "action"),
            f"changes nothing with existing `{existing.value}`: partitions are only mounted then",
            'write a `mount` for it, or `existing = "keep"` if it is on a disk of the system',
        )
    taken = storage.subvolumes.values() if storage.filesystem is FilesystemKind.btrfs else ()
    if each.mount in taken and each.mount != "/":
        yield Problem(
            (*path, "mount"),
            "is a subvolume's of the root",
            "mount it elsewhere, or leave that place out of `storage.subvolumes`",
        )


def _partition(each: PartitionAnswers, path: Path) -> Iterator[Problem]:
    whole = each.disk is not None and each.action == "keep" and each.mount is not None
    if each.number is None and each.uuid is None and each.label is None and not whole:
        yield Problem(
            path, "has no condition, so it would match any partition", "add `uuid`, `number` or `label`"
        )
    if each.disk is not None and each.disk.count > 1:
        yield Problem((*path, "disk", "count"), "is of one disk", "remove it")
    if each.grow and each.action != "format":
        yield Problem(
            (*path, "grow"),
            f"means nothing with action `{each.action}`",
            'remove it, or write `action = "format"`',
        )
    if each.action == "format" and each.mount is None:
        yield Problem(
            (*path, "mount"),
            "is missing: nothing would use it",
            'write `mount = "/"` for the root, or another place',
        )
    if each.action == "delete" and each.mount is not None:
        yield Problem((*path, "mount"), "means nothing with action `delete`", "remove it")
    if each.mount == "/" and each.action == "keep":
        yield Problem(
            (*path, "mount"),
            "would put the root over what is kept",
            'write `action = "format"`, or leave it out: the root goes into the free space',
        )
    elif (
        each.mount
        and each.mount != "/"
        and (wrong := _not_a_place(each.mount) or _own_of_the_system(each.mount))
    ):
        yield Problem((*path, "mount"), wrong, "write another place, e.g. `/srv/data`")


def _not_a_place(path: str) -> str | None:
    return None if posixpath.normpath(path) == path else "is not written plainly (a `/` too many, or `..`)"


def _own_of_the_system(path: str) -> str | None:
    """Why a place is none for data; none: it is one."""
    if path in _HOLDERS:
        return "is where the system's own data is too"
    if any(path == each or path.startswith(f"{each}/") for each in _NOT_KEPT):
        return "is the system's own"
    return None


def _selector(disk: DiskSelector, path: Path) -> Iterator[Problem]:
    conditions = disk.model_dump(exclude={"count"}, exclude_none=True)
    if not conditions:
        yield Problem(path, "has no condition, so it would match any disk", f'add `serial = "…"`; {_FIND}')
    elif set(conditions) == {"model"} and not conditions["model"].strip("*?"):
        yield Problem((*path, "model"), "matches any disk", f'write `serial = "…"` instead; {_FIND}')
    for name, value in conditions.items():
        if isinstance(value, str) and not value.strip():
            yield Problem(
                (*path, name), "is empty, which no disk's property is", f"remove it or fill it in; {_FIND}"
            )
    if disk.by_id and "-part" in disk.by_id:
        yield Problem((*path, "by_id"), "names a partition", "name the whole disk, without `-part…`")
    if disk.size_min and disk.size_max and parse_size(disk.size_min) > parse_size(disk.size_max):
        yield Problem((*path, "size_min"), "is larger than size_max", "swap the two, or remove one")
    single = next((each for each in ("serial", "wwn", "by_id") if conditions.get(each)), None)
    if disk.count > 1 and single:
        yield Problem(
            (*path, "count"),
            f"asks for {disk.count} disks, and `{single}` names one",
            f"remove `{single}`, or list each disk in `disks`",
        )


def _layout(storage: StorageAnswers, disks: int) -> Iterator[Problem]:
    """The number of disks that the layout takes."""
    path: Path = ("storage", "disk", "count") if storage.disk else ("storage", "disks")
    if storage.layout is LayoutKind.one_disk and disks != 1:
        yield Problem(
            path,
            "must be 1 with layout `one-disk`" if storage.disk else "must be one with layout `one-disk`",
            'remove it, or write `layout = "mirror"` (all carry the same) or `"array"`',
        )
    elif storage.layout is LayoutKind.mirror and disks < LEAST_DISKS[Redundancy.mirror]:
        yield Problem(
            path, "must be at least 2 with layout `mirror`", 'name two disks, or write `layout = "one-disk"`'
        )
    elif storage.layout is LayoutKind.array and disks < LEAST_DISKS[Redundancy.mirror]:
        yield Problem(
            path, "must be at least 2 with layout `array`", 'name more disks, or write `layout = "one-disk"`'
        )


def _redundancy(storage: StorageAnswers) -> Iterator[Problem]:
    """What redundancy the file system and the number of disks can have."""
    path: Path = ("storage", "redundancy")
    disks, redundancy = counted(storage.selectors), system_redundancy(storage)
    if storage.layout is LayoutKind.mirror and redundancy is not Redundancy.mirror:
        yield Problem(path, "contradicts layout `mirror`", 'remove it, or write `layout = "array"`')
        return
    if storage.layout is LayoutKind.one_disk and redundancy is not Redundancy.none:
        yield Problem(
            path,
            "means nothing with one disk",
            'remove it, or name more disks and write `layout = "mirror"`',
        )
        return
    zfs = storage.filesystem is FilesystemKind.zfs
    if disks > 1:
        btrfs = not zfs and not needs_md(storage)
        yield from _possible(redundancy, disks, path, zfs=zfs, btrfs=btrfs)


def _possible(
    redundancy: Redundancy, disks: int, path: Path, *, zfs: bool, btrfs: bool
) -> Iterator[Problem]:
    """What joins the disks is ZFS, btrfs, or md."""
    if redundancy in ZFS_ONLY and not zfs:
        yield Problem(path, "is ZFS's own", 'write "raid5" or "raid6" (md), or choose ZFS')
    elif redundancy in MD_ONLY and zfs:
        yield Problem(path, "is md's", 'write "raidz1" or "raidz2", its like in ZFS')
    elif redundancy in MD_ONLY and btrfs:
        yield Problem(
            path,
            "is what btrfs loses data with when power fails in the middle of a write",
            'write "mirror" or "raid10", or put the file system on md with ext4, xfs or `volumes = "lvm"`',
        )
    elif redundancy is Redundancy.none and not btrfs:
        yield Problem(
            path,
            "would make every disk's failure the loss of all of them",
            "choose a redundancy, or btrfs, or one disk",
        )
    elif disks < LEAST_DISKS[redundancy]:
        yield Problem(
            path,
            f"takes at least {LEAST_DISKS[redundancy]} disks, and there are {disks}",
            "name more disks, or choose another",
        )
    elif redundancy is Redundancy.raid10 and disks % 2:
        yield Problem(
            path, f"pairs disks, and {disks} is odd", "name one disk more or less, or choose another"
        )
    elif redundancy is Redundancy.mirror and btrfs and disks > BTRFS_COPIES:
        yield Problem(
            path, f"is {BTRFS_COPIES} copies at most with btrfs", 'write "raid10", or name fewer disks'
        )


def _volumes(storage: StorageAnswers) -> Iterator[Problem]:
    if storage.filesystem is FilesystemKind.zfs and storage.volumes is not VolumesKind.none:
        yield Problem(
            ("storage", "volumes"), "means nothing with ZFS, which divides its space itself", "remove it"
        )
    if storage.root_size and storage.volumes is VolumesKind.none:
        yield Problem(
            ("storage", "root_size"),
            "means nothing without LVM: the root takes its partition whole",
            'remove it, or write `volumes = "lvm"`',
        )


def _swap_file(storage: StorageAnswers) -> Iterator[Problem]:
    swap = storage.swap
    several = storage.layout is not LayoutKind.one_disk
    if swap.kind == "file" and storage.filesystem is FilesystemKind.zfs:
        yield Problem(
            ("storage", "swap", "kind"),
            "is a file, to which Linux cannot swap on ZFS",
            'write "partition" or "zram"',
        )
    elif (
        swap.kind == "file"
        and storage.filesystem is FilesystemKind.btrfs
        and several
        and not needs_md(storage)
    ):
        yield Problem(
            ("storage", "swap", "kind"),
            "is a file, to which Linux cannot swap on a btrfs of several disks",
            'write "partition" or "zram"',
        )


def _pool(storage: StorageAnswers) -> Iterator[Problem]:
    pool = storage.pool
    assert pool is not None
    path: Path = ("storage", "pool")
    record = parse_size(pool.record_size)
    if pool.kind != "zfs" and pool.record_size != "64KiB":
        yield Problem((*path, "record_size"), f"means nothing with kind `{pool.kind}`", "remove it")
    elif not _RECORD_SIZES[0] <= record <= _RECORD_SIZES[1] or record & (record - 1):
        yield Problem((*path, "record_size"), "is not a power of two from 4 KiB to 1 MiB", "write `64KiB`")
    if storage.pool_selectors:
        yield from _own_disks(storage)
    else:
        yield from _same_disks(storage)


def _own_disks(storage: StorageAnswers) -> Iterator[Problem]:
    pool = storage.pool
    assert pool is not None
    path: Path = ("storage", "pool")
    btrfs = pool.kind == "dir" and pool.filesystem is FilesystemKind.btrfs
    if pool.nodatacow is not None and not btrfs:
        yield Problem(
            (*path, "nodatacow"), "is an option of btrfs", 'remove it, or write `filesystem = "btrfs"`'
        )
    if pool.kind != "dir" and pool.filesystem is not FilesystemKind.xfs:
        yield Problem((*path, "filesystem"), f"means nothing with kind `{pool.kind}`", "remove it")
    disks, redundancy = counted(storage.pool_selectors), pool_redundancy(storage)
    if disks == 1 and redundancy is not Redundancy.none:
        yield Problem((*path, "redundancy"), "takes more than one disk", "remove it, or name more disks")
    elif disks > 1:
        yield from _possible(redundancy, disks, (*path, "redundancy"), zfs=pool.kind == "zfs", btrfs=btrfs)


def _same_disks(storage: StorageAnswers) -> Iterator[Problem]:
    """A pool on the system's disks: part of what stands there."""
    pool = storage.pool
    assert pool is not None
    path: Path = ("storage", "pool")
    own = "name disks for it in `[storage.pool.disk]`"
    said = {
        "redundancy": pool.redundancy is not None,
        "filesystem": pool.filesystem is not FilesystemKind.xfs,
    }
    for field, is_said in said.items():
        if is_said:
            yield Problem((*path, field), "follows from the system's disks", f"remove it, or {own}")
    match pool.kind:
        case "dir" if storage.filesystem is not FilesystemKind.btrfs or storage.layout is LayoutKind.auto:
            yield Problem(
                (*path, "kind"),
                "would be a folder of the root, which is there without it; only on btrfs it differs",
                f'remove `[storage.pool]`, {own}, or write `filesystem = "btrfs"`',
            )
        case "lvm-thin" if storage.volumes is VolumesKind.none:
            yield Problem(
                (*path, "kind"), "needs LVM on the system's disks", f'write `volumes = "lvm"`, or {own}'
            )
        case "zfs" if storage.filesystem is not FilesystemKind.zfs:
            yield Problem(
                (*path, "kind"), "needs ZFS on the system's disks", f'write `filesystem = "zfs"`, or {own}'
            )
        case _:
            pass
    if pool.nodatacow is not None and pool.kind != "dir":
        yield Problem((*path, "nodatacow"), "is an option of btrfs", "remove it")
