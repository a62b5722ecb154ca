"""What stays of a disk that other things are on: which partitions, where the free space is, whose ESP starts the host."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from installer.answers.model import Answers, BootLoader, EspKind, KernelsPlace, PartitionAnswers
from installer.answers.select import title
from installer.answers.sizes import GIB, format_size
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk, Partition
from installer.facts.systems import InstalledSystem
from installer.plan.actions import FoundPartition
from installer.plan.layouts.fates import fates
from installer.plan.losses import partition_words
from installer.plan.model import Destruction, DiskIdentity
from installer.plan.naming import Names
from installer.plan.storage import gpt
from installer.plan.storage.element import Layout
from installer.plan.storage.filesystem import Mount
from installer.plan.storage.found import FoundDevice
from installer.plan.storage.gpt import Partition as NewPartition
from installer.plan.storage.gpt import PartitionType
from installer.plan.storage.kept import KeptDisk, KeptFilesystem, KeptPartition, KeptTable

RESERVED = {
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery environment",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3": "metadata of Windows' dynamic disks",
    "af9b60a0-1431-4f62-bc68-3311714a69ad": "a Windows dynamic disk",
    "e75caf8f-f680-4cee-afa3-b001e56efc2d": "Windows storage spaces",
    "558d43c5-a1ac-43c0-aac8-d1472b2923d1": "Windows storage replica",
}
"""Types that Windows has for itself, and cannot do without (Windows SDK, PARTITION_INFORMATION_GPT)."""
ENTRIES = 128
"""Partitions of a GPT as everybody makes it (UEFI specification 2.10, section 5.3)."""
MOUNTABLE = {
    "ext4": ("noatime",),
    "xfs": ("noatime",),
    "btrfs": ("noatime",),
    "vfat": ("fmask=0077", "dmask=0077"),
    "exfat": ("fmask=0077", "dmask=0077"),
}
"""File systems that the host mounts as they are, with their options. Not NTFS: Windows may only be asleep."""
ROLES = ("esp", "xbootldr", "grub", "boot", "swap", "root")
"""Last parts of the names of a host's partitions on one disk."""
SHARED_FLOOR = GIB
"""Bytes of an ESP that is shared without being asked for: a few generations beside the other system's files."""
PATIENCE = ("nofail", "x-systemd.device-timeout=90s")
"""Host's options of what it starts without: disks that spin up slowly are waited for, as long as systemd waits for any,
and dead ones not for ever."""


@dataclass(frozen=True)
class Kept:
    """What stays of one disk, and what is free on it."""

    disk: Disk
    """As probed."""
    stays: tuple[Partition, ...]
    """Not one byte of them changes by the installer, but for files on an ESP that is shared."""
    deleted: tuple[Partition, ...]
    """Their space becomes free."""
    formatted: tuple[tuple[Partition, PartitionAnswers], ...]
    """Their place stays, with the end that they get."""
    ends: tuple[int, ...]
    """Bytes where these end afterwards."""
    mounted: tuple[tuple[Partition, str], ...]
    """Those that the host mounts, and where."""
    free: tuple[int, int]
    """The largest free stretch: start and end in bytes; equal: there is none."""
    esp: Partition | None
    """The EFI system partition that is shared."""

    @property
    def root(self) -> tuple[Partition, int] | None:
        """The partition that the root takes, and where it ends; none: it goes into the free space."""
        return next(
            (
                (partition, end)
                for (partition, wanted), end in zip(self.formatted, self.ends, strict=True)
                if wanted.mount == "/"
            ),
            None,
        )

    @property
    def room(self) -> int:
        """Bytes of what the root is cut from."""
        if self.root:
            return self.root[1] - self.root[0].start
        return self.free[1] - self.free[0]

    def numbers(self) -> Iterator[int]:
        """Numbers for new partitions, lowest first."""
        taken = {each.number for each in (*self.stays, *(partition for partition, _ in self.formatted))}
        return (number for number in range(1, ENTRIES + 1) if number not in taken)


def keep(
    facts: Facts,
    answers: Answers,
    disk: Disk,
    firmware: str,
    wanted: Mapping[int, PartitionAnswers] | None = None,
    *,
    alone: bool = True,
) -> Kept:
    """What the answers leave on this disk.

    Args:
        facts: The machine.
        answers: What is wanted.
        disk: Which disk.
        firmware: `uefi` or `bios`.
        wanted: What becomes of single partitions of it, by number, where that is known already.
        alone: The system goes onto this disk alone; of several each has an EFI system partition of its own.

    Raises:
        HyperError: they name what is not there (Exit.selection), what must not be touched, or cannot be kept
            (Exit.unsuitable).
    """
    if disk.table != "gpt":
        raise _no_gpt(disk)
    _require_known(disk)
    if wanted is None:
        wanted = fates(facts, answers, (disk,)).of(disk)
    systems = [each for each in facts.systems if each.disk == disk.name]
    deleted, formatted, stays, mounted = [], [], [], []
    for partition in disk.partitions:
        each = wanted.get(partition.number)
        match each.action if each else "keep":
            case "delete":
                deleted.append(partition)
            case "format" if each is not None:
                formatted.append((partition, each))
            case _:
                stays.append(partition)
                if each and each.mount:
                    mounted.append((partition, each.mount))
    for partition in (*deleted, *(partition for partition, _ in formatted)):
        _require_expendable(partition, disk, systems)
    for partition, place in mounted:
        _require_mountable(partition, place)
        require_alone(facts, disk, partition)
    if firmware == "bios" and (there := [each for each in systems if not each.running]):
        raise HyperError(
            f"{title(disk)} cannot be shared with {there[0].name}",
            why="a BIOS starts whatever loader is in the first sector of a disk, and there is one place for it",
            remedy="choose another disk for this host, or start machine and installer by UEFI if the other system does",
            code=Exit.unsuitable,
        )
    esp = _shared(answers, disk, stays) if firmware == "uefi" and alone else None
    used = sorted(
        (each.start, each.start + each.size) for each in (*stays, *(partition for partition, _ in formatted))
    )
    limit = gpt.usable_end(disk.size)
    ends = tuple(_end(partition, each, used, limit) for partition, each in formatted)
    taken = sorted(
        (
            *((each.start, each.start + each.size) for each in stays),
            *((partition.start, end) for (partition, _), end in zip(formatted, ends, strict=True)),
        )
    )
    return Kept(
        disk=disk,
        stays=tuple(stays),
        deleted=tuple(deleted),
        formatted=tuple(formatted),
        ends=ends,
        mounted=tuple(mounted),
        free=max(free_regions(taken, limit), key=lambda each: (each[1] - each[0], -each[0]), default=(0, 0)),
        esp=esp,
    )


def _no_gpt(disk: Disk) -> HyperError:
    """MBR tables have no GUIDs by which a partition would be told again, no copy, and four entries."""
    have = "no partition table" if disk.table is None else f"a partition table of the kind {disk.table}"
    if disk.table == "dos":
        have = "an MBR partition table"
    single = (
        ", or install on another disk and have partitions of this one mounted as they are ([[storage.partitions]] with "
        "`disk` and `mount`)"
        if disk.partitions or disk.filesystem
        else ""
    )
    return HyperError(
        f"nothing on {title(disk)} can be kept beside the host",
        why=f"it has {have}, and a host is put beside partitions in a GPT only",
        remedy='write storage.existing = "erase" if nothing on it is needed, convert the table first (mbr2gpt in Windows, '
        f"gdisk otherwise, after copying what is dear to you){single}",
        code=Exit.unsuitable,
    )


def is_blank(disk: Disk) -> bool:
    """Whether there is nothing on it that could be kept."""
    return disk.table is None and not (disk.partitions or disk.filesystem or disk.holders)


def beside_again(answers: Answers, disk: Disk, firmware: str) -> Kept | None:
    """What stays of a disk on which this host is installed once more, where it starts from another system's EFI system
    partition; none: it has one of its own, or none.

    Its own partitions are those that have its name; where they are is found out later, so that all of the disk counts as
    free here.
    """
    names = Names(answers.hostname, ())
    own = {names.label(role, gpt.LABEL_LIMIT): role for role in ROLES}
    ours = {own[each.label]: each for each in disk.partitions if each.label in own}
    wanted = answers.storage.esp
    if firmware != "uefi" or disk.table != "gpt" or wanted is EspKind.own or "esp" in ours:
        return None
    if wanted is EspKind.auto and "root" not in ours:
        return None
    stays = tuple(each for each in disk.partitions if each.label not in own)
    shares = answers.storage.model_copy(update={"esp": EspKind.share})
    return Kept(
        disk=disk,
        stays=stays,
        deleted=(),
        formatted=(),
        ends=(),
        mounted=(),
        free=(gpt.ALIGNMENT, gpt.usable_end(disk.size)),
        esp=_shared(answers.model_copy(update={"storage": shares}), disk, stays),
    )


def free_regions(taken: Sequence[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Aligned stretches between what is taken, in bytes: in order of place, up to the limit."""
    found, place = [], gpt.ALIGNMENT
    for start, end in (*sorted(taken), (limit, limit)):
        until = min(start, limit) // gpt.ALIGNMENT * gpt.ALIGNMENT
        if until > place:
            found.append((place, until))
        place = max(place, -(-end // gpt.ALIGNMENT) * gpt.ALIGNMENT)
    return found


def _end(partition: Partition, wanted: PartitionAnswers, used: Iterable[tuple[int, int]], limit: int) -> int:
    """Where a formatted partition ends: where it did, or at what comes next."""
    end = partition.start + partition.size
    if not wanted.grow:
        return end
    following = min((start for start, _ in used if start >= end), default=limit)
    return max(end, min(following, limit) // gpt.ALIGNMENT * gpt.ALIGNMENT)


def _require_known(disk: Disk) -> None:
    vague = [each.number for each in disk.partitions if not each.part_uuid or not each.type_uuid]
    if vague:
        raise HyperError(
            f"the partitions of {title(disk)} cannot be kept",
            why=f"of partition {', '.join(map(str, vague))} GUID or type are not known, by which it would be told again",
            remedy="probe as root on a live system where udev runs, and try again",
            code=Exit.unsuitable,
        )


def _require_expendable(partition: Partition, disk: Disk, systems: Iterable[InstalledSystem]) -> None:
    """HyperError (Exit.unsuitable) for what another system cannot do without."""
    reason = RESERVED.get(partition.type_uuid or "")
    windows = next((each for each in systems if each.name == "Windows"), None)
    if reason is None and partition.filesystem and partition.filesystem.kind == "BitLocker":
        reason = "a BitLocker volume"
    if reason is None and windows and partition.filesystem and partition.filesystem.kind == "ntfs":
        reason = "an NTFS of Windows"
    if reason is None and partition.type_uuid == PartitionType.esp:
        reason = "an EFI system partition, from which other systems may start"
    if reason:
        raise HyperError(
            f"partition {partition.number} of {title(disk)} is not touched",
            why=f"it is {reason}",
            remedy="leave it out of storage.partitions; remove it with the system that it belongs to, or give the whole "
            'disk up with storage.existing = "erase"',
            code=Exit.unsuitable,
        )


def _require_mountable(partition: Partition, place: str) -> None:
    filesystem = partition.filesystem
    if filesystem and filesystem.kind in MOUNTABLE and filesystem.uuid:
        return
    raise HyperError(
        f"partition {partition.number} cannot be mounted at {place} as it is",
        why=f"it holds {partition_words(partition)}; what is mounted as it is: {', '.join(MOUNTABLE)}",
        remedy="leave `mount` out: it stays as it is, and the host can be taught to open it later",
        code=Exit.unsuitable,
    )


def require_alone(facts: Facts, disk: Disk, partition: Partition | None) -> None:
    """HyperError (Exit.unsuitable) if another device carries the same UUID: the host could mount that one instead.

    Args:
        facts: The machine.
        disk: Where the file system is.
        partition: In which partition; none: on the whole disk.
    """
    filesystem = partition.filesystem if partition else disk.filesystem
    if filesystem is None or filesystem.kind == "btrfs":
        return  # each device of a btrfs carries its UUID
    own = partition.name if partition else disk.name
    for other in facts.disks:
        there = (
            (other.name, other.filesystem),
            *((each.name, each.filesystem) for each in other.partitions),
        )
        for name, found in there:
            if found and found.uuid == filesystem.uuid and (other.name, name) != (disk.name, own):
                raise HyperError(
                    f"the {filesystem.kind} of {title(disk)} cannot be told from a copy of it",
                    why=f"{name} on {title(other)} carries the UUID {found.uuid} as well, and the host mounts by UUID",
                    remedy="take the copy out, or give one of them a new UUID (tune2fs -U random, xfs_admin -U generate)",
                    code=Exit.unsuitable,
                )


def _shared(answers: Answers, disk: Disk, stays: Iterable[Partition]) -> Partition | None:
    """The ESP that the host starts from, of those that stay; none: it gets one of its own."""
    wanted = answers.storage.esp
    if wanted is EspKind.own:
        return None
    esps = [
        each
        for each in stays
        if each.type_uuid == PartitionType.esp
        and each.filesystem
        and each.filesystem.kind == "vfat"
        and each.filesystem.uuid
    ]
    largest = max(esps, key=lambda each: each.size, default=None)
    kernels = answers.boot.kernels
    # With kernels on a partition of their own the loader is all that goes there; its room is looked at before writing.
    apart = kernels is KernelsPlace.xbootldr or (kernels is KernelsPlace.auto and wanted is EspKind.share)
    if largest is not None and (
        largest.size >= SHARED_FLOOR or (apart and answers.boot.loader is not BootLoader.grub)
    ):
        return largest
    if wanted is EspKind.auto:
        return None
    have = (
        f"the largest on {title(disk)} has {format_size(largest.size)}, and every generation's kernel and initrd go there: "
        f"less than {format_size(SHARED_FLOOR)} runs full"
        if largest
        else f"{title(disk)} has none with a FAT on it"
    )
    raise HyperError(
        "no EFI system partition can be shared",
        why=have,
        remedy='write storage.esp = "own": the host gets a second one in the free space, and the firmware offers both',
        code=Exit.unsuitable,
    )


def too_small(esp: Partition) -> bool:
    """Whether a shared ESP cannot hold kernels."""
    return esp.size < SHARED_FLOOR


def found(partition: Partition) -> FoundPartition:
    """As the executor must find it."""
    return FoundPartition(
        number=partition.number,
        uuid=partition.part_uuid or "",
        type_uuid=partition.type_uuid or "",
        start=partition.start,
        size=partition.size,
    )


def ground_elements(kept: Kept, identity: DiskIdentity) -> tuple[KeptDisk, KeptTable]:
    """The disk and its table."""
    key = identity.key
    everything = sorted(kept.disk.partitions, key=lambda each: each.number)
    return (
        KeptDisk(key=key, disk=identity),
        KeptTable(
            key=f"{key}-table",
            disk=key,
            found=tuple(found(each) for each in everything),
            delete=tuple(sorted(each.number for each in kept.deleted)),
        ),
    )


def kept_elements(kept: Kept, table: str, number: int | None) -> Iterator[KeptPartition | KeptFilesystem]:
    """What stays on the table, and the file systems of it that the host mounts; `number` is the disk's among several."""
    mark = "" if number is None else f"{number}-"
    for each in kept.stays:
        yield KeptPartition(
            key=f"kept-{mark}{each.number}",
            table=table,
            found=found(each),
            label=each.label or "",
            content=partition_words(each),
        )
    for partition, place in kept.mounted:
        filesystem = partition.filesystem
        assert filesystem is not None
        assert filesystem.uuid is not None
        yield KeptFilesystem(
            key=f"kept-fs-{mark}{partition.number}",
            on=f"kept-{mark}{partition.number}",
            kind=filesystem.kind,
            uuid=filesystem.uuid,
            mounts=(Mount(place, MOUNTABLE[filesystem.kind], PATIENCE, held=True),),
        )


def kept_losses(kept: Kept, key: str) -> Destruction:
    """What is lost of the disk, and what stays."""

    def line(partition: Partition) -> str:
        return f"partition {partition.number}, {format_size(partition.size)}: {partition_words(partition)}"

    lost = (
        *(f"{line(each)} (deleted)" for each in kept.deleted),
        *(f"{line(each)} (formatted)" for each, _ in kept.formatted),
    )
    shared = f"{line(kept.esp)} (shared: this host's files come beside those on it)" if kept.esp else None
    return Destruction(
        disk=key,
        losses=lost or ("nothing: the host goes into the free space",),
        kept=tuple(shared if each is kept.esp and shared else line(each) for each in kept.stays),
    )


def require_no_twin(kept: Sequence[Kept], layout: Layout, everyone: Iterable[Disk], hostname: str) -> None:
    """HyperError (Exit.unsuitable) if this host's name was given to something that stays: UUIDs and labels follow from it."""
    ours = {
        uuid.lower()
        for element in layout.elements
        if not isinstance(element, KeptFilesystem | FoundDevice)
        and isinstance(uuid := getattr(element, "uuid", None), str)
    }
    labels = {element.label for element in layout.elements if isinstance(element, NewPartition)}
    beside = {each.disk.name: each for each in kept}
    for disk in everyone:
        own = beside.get(disk.name)
        stays = own.stays if own else disk.partitions
        for each in stays:
            uuid = each.filesystem.uuid if each.filesystem else None
            if (uuid and uuid.lower() in ours) or (own and each.label in labels):
                raise HyperError(
                    f"{hostname} is on {title(disk)} already, and would be there twice",
                    why=f"partition {each.number} ({each.label or 'no name'}) is this host's own, and stays",
                    remedy='give the new host another name, write storage.existing = "reinstall", or delete the old '
                    "partitions in storage.partitions",
                    code=Exit.unsuitable,
                )


def require_one_root(kept: Sequence[Kept], system: str) -> None:
    """HyperError (Exit.answers): a system for many hosts finds its root by the partition's type, which must be there once."""
    roots = (PartitionType.root_arm64.value, PartitionType.root_x86_64.value)
    if other := next((each for one in kept for each in one.stays if each.type_uuid in roots), None):
        raise HyperError(
            f"the ready system {system} cannot tell its root from partition {other.number}",
            why="it finds its root by the type of the partition, and that of another Linux has the same",
            remedy='have a system built for this host: system.source = "flake"',
            code=Exit.answers,
        )
