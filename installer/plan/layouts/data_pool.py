"""A pool for VMs on disks of its own. The host starts without it."""

from collections.abc import Iterator

from installer.answers.model import Answers, FilesystemKind, PoolAnswers, Redundancy
from installer.answers.sizes import parse_size
from installer.answers.storage_shape import pool_redundancy
from installer.plan.layouts.ground import (
    DEFAULT_OPTIONS,
    Elements,
    Ground,
    Slice,
    cut,
    encrypted,
    joined,
    with_number,
)
from installer.plan.layouts.kept import PATIENCE
from installer.plan.naming import Names
from installer.plan.storage import gpt
from installer.plan.storage.btrfs import Btrfs
from installer.plan.storage.element import Element
from installer.plan.storage.ext4 import Ext4
from installer.plan.storage.filesystem import Filesystem, Mount
from installer.plan.storage.gpt import PartitionType, Table
from installer.plan.storage.in_place import InPlace
from installer.plan.storage.lvm import Volume, VolumeGroup
from installer.plan.storage.xfs import Xfs
from installer.plan.storage.zfs import ZfsDataset, ZfsPool

KEY_FILE = "/var/lib/hyper-nixos/secrets/keys/{}.key"
"""On the host: only who has opened the root can read it."""


def own_dataset(answers: Answers, pool: str) -> ZfsDataset:
    """The dataset of a ZFS pool that holds the VMs' disks."""
    assert answers.storage.pool is not None
    return ZfsDataset(
        key="pool",
        pool=pool,
        name="vms",
        mounts=(Mount(answers.first_run.pool, (), PATIENCE),),
        properties=(f"recordsize={parse_size(answers.storage.pool.record_size)}",),
    )


def data_pool(answers: Answers, ground: Ground) -> tuple[Elements, Elements]:
    """The pool's disks, and what stands on them; both empty where it has none of its own."""
    if not ground.pool or answers.storage.pool is None:
        return (), ()
    return ground.pool, tuple(_elements(answers, answers.storage.pool, ground))


def _elements(answers: Answers, pool: PoolAnswers, ground: Ground) -> Iterator[Element]:
    disks = ground.pool
    several = len(disks) > 1
    redundancy = pool_redundancy(answers.storage) if several else Redundancy.none
    zfs = pool.kind == "zfs"
    btrfs = pool.kind == "dir" and pool.filesystem is FilesystemKind.btrfs
    md = several and not zfs and not btrfs
    names = Names(answers.hostname, tuple(disk.disk for disk in disks))
    smallest = min(disk.disk.size for disk in disks)
    for place, disk in enumerate(disks):
        yield Table(key=f"{disk.key}-table", disk=disk.key)
        size = disk.disk.size if redundancy is Redundancy.none else smallest
        number = place + 1 if several else None
        yield from cut(
            (Slice("vms", _type(answers, pool, md=md), None),),
            disk,
            number,
            answers.hostname,
            gpt.usable_end(size),
        )
    bases = tuple(
        with_number("vms-partition", place + 1 if several else None) for place in range(len(disks))
    )
    if md:
        array = joined("vms", bases, redundancy, answers.hostname, names)
        yield array
        bases = (array.key,)
    if answers.storage.encryption.enable:
        single = len(bases) == 1
        crypts = tuple(
            encrypted(
                "cryptvms" if single else f"cryptvms-{place + 1}",
                on,
                names if single else Names(answers.hostname, (disks[place].disk,)),
                role="luks-vms" if single else f"luks-vms-{place + 1}",
                answers=answers,
                memory=ground.pbkdf_memory,
                key_file=KEY_FILE.format("vms" if single else f"vms-{place + 1}"),
            )
            for place, on in enumerate(bases)
        )
        yield from crypts
        bases = tuple(crypt.key for crypt in crypts)
    yield from _upper(answers, pool, bases, redundancy, names)


def _type(answers: Answers, pool: PoolAnswers, *, md: bool) -> PartitionType:
    if md:
        return PartitionType.raid
    if answers.storage.encryption.enable:
        return PartitionType.luks
    return {"dir": PartitionType.linux, "lvm-thin": PartitionType.lvm, "zfs": PartitionType.zfs}[pool.kind]


def _upper(
    answers: Answers, pool: PoolAnswers, bases: tuple[str, ...], redundancy: Redundancy, names: Names
) -> Iterator[Element]:
    match pool.kind:
        case "zfs":
            zpool = ZfsPool(
                key="vms-zpool", on=bases, name=names.group("vms"), redundancy=redundancy, nofail=True
            )
            yield zpool
            yield own_dataset(answers, zpool.key)
        case "lvm-thin":
            uuids = tuple(names.volume_uuid(f"pv-{place}") for place in range(len(bases)))
            group = VolumeGroup(key="vms-group", on=bases, name=names.group("vms"), uuids=uuids)
            yield group
            yield Volume(key="vms-pool", group=group.key, name="vms", size=None, segment="thin-pool")
        case "dir":
            yield _filesystem(answers, pool, bases, redundancy, names)
            single = redundancy is Redundancy.none or len(bases) == 1
            in_place = single if pool.nodatacow is None else pool.nodatacow
            if pool.filesystem is FilesystemKind.btrfs and in_place:
                yield InPlace(key="pool-folder", on="pool", path=answers.first_run.pool)


def _filesystem(
    answers: Answers, pool: PoolAnswers, bases: tuple[str, ...], redundancy: Redundancy, names: Names
) -> Filesystem:
    on, *more = bases
    uuid = names.uuid("vms")
    options = DEFAULT_OPTIONS[pool.filesystem]
    mirrored = bool(more) and redundancy is not Redundancy.none
    on_host = (*PATIENCE, *(("degraded",) if mirrored else ()))
    mounts = (Mount(answers.first_run.pool, options, on_host, held=True),)
    match pool.filesystem:
        case FilesystemKind.ext4:
            label = names.label("vms", Ext4.label_limit)
            return Ext4(key="pool", on=on, uuid=uuid, label=label, mounts=mounts)
        case FilesystemKind.xfs:
            label = names.label("vms", Xfs.label_limit)
            return Xfs(key="pool", on=on, uuid=uuid, label=label, mounts=mounts)
        case FilesystemKind.btrfs:
            return Btrfs(
                key="pool",
                on=on,
                uuid=uuid,
                label=names.label("vms", Btrfs.label_limit),
                subvolumes=(),
                mounts=mounts,
                more=tuple(more),
                redundancy=redundancy if more else Redundancy.none,
            )
