"""Which partition each entry of `storage.partitions` means, on the system's disks and on others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from installer.answers.model import Answers, ExistingKind, PartitionAnswers
from installer.answers.select import select_disks, title
from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk, Partition
from installer.plan.losses import content_words, partition_words


@dataclass(frozen=True)
class Meant:
    """What one entry means."""

    place: int
    """Of the entry, from 0."""
    wanted: PartitionAnswers
    """The entry."""
    disk: Disk
    """Which disk."""
    partition: Partition | None
    """Which partition of it; none: the whole disk, which has none."""


@dataclass(frozen=True)
class Fates:
    """What all entries mean."""

    changed: Mapping[str, Mapping[int, PartitionAnswers]]
    """Of the system's disks with `existing = "keep"`, by name: number to entry."""
    mounted: tuple[Meant, ...]
    """What is mounted as it is, on disks or in tables that are not changed."""

    def of(self, disk: Disk) -> Mapping[int, PartitionAnswers]:
        """The entries of one of the system's disks, by number."""
        return self.changed.get(disk.name, {})


def fates(facts: Facts, answers: Answers, disks: Sequence[Disk], pool: Sequence[Disk] = ()) -> Fates:
    """What the entries mean.

    Args:
        facts: The machine.
        answers: What is wanted.
        disks: The system's.
        pool: Those that the pool has for itself.

    Raises:
        HyperError: an entry matches no partition or several, or something that is emptied (Exit.selection).
    """
    meant = tuple(_meant(facts, each, disks, place) for place, each in enumerate(answers.storage.partitions))
    seen: dict[tuple[str, int | None], Meant] = {}
    for each in meant:
        key = each.disk.name, each.partition.number if each.partition else None
        if key in seen:
            raise HyperError(
                "two entries of storage.partitions mean the same partition",
                why=f"storage.partitions[{seen[key].place}] and [{each.place}] both match "
                f"{f'partition {key[1]} of ' if key[1] else ''}{title(each.disk)}",
                remedy="say of each partition once what becomes of it",
                code=Exit.selection,
            )
        seen[key] = each
    ours, emptied = {disk.name for disk in disks}, {disk.name for disk in pool}
    existing = answers.storage.existing
    if existing is ExistingKind.erase:
        emptied |= ours
    changed: dict[str, dict[int, PartitionAnswers]] = {}
    mounted = []
    for each in meant:
        if each.disk.name in emptied:
            raise HyperError(
                f"nothing on {title(each.disk)} can be mounted as it is",
                why=f"storage.partitions[{each.place}] means it, and the disk is emptied",
                remedy='leave the entry out, choose other disks, or keep what is on the system\'s: existing = "keep"',
                code=Exit.selection,
            )
        if existing is ExistingKind.keep and each.disk.name in ours and each.partition:
            changed.setdefault(each.disk.name, {})[each.partition.number] = each.wanted
        elif each.wanted.action != "keep":
            raise HyperError(
                f"nothing on {title(each.disk)} is formatted or deleted",
                why=f"storage.partitions[{each.place}] asks for it, and the disk is not one of the system's",
                remedy='write action = "keep" with a mount, or name the disk in storage.disk or storage.disks',
                code=Exit.selection,
            )
        elif each.wanted.mount is not None:
            mounted.append(each)
    return Fates(changed, tuple(mounted))


def names(wanted: PartitionAnswers, partition: Partition) -> bool:
    """Whether an entry of the answers means this partition, the disk apart."""
    return (
        (wanted.number is None or partition.number == wanted.number)
        and (wanted.uuid is None or partition.part_uuid == wanted.uuid)
        and (wanted.label is None or partition.label == wanted.label)
    )


def _meant(facts: Facts, wanted: PartitionAnswers, disks: Sequence[Disk], place: int) -> Meant:
    if wanted.disk is None:
        scope: Sequence[Disk] = disks
    else:
        scope = select_disks(wanted.disk, facts, f"storage.partitions[{place}].disk")
    if wanted.number is None and wanted.uuid is None and wanted.label is None and not scope[0].partitions:
        return Meant(place, wanted, scope[0], None)
    found = [(disk, each) for disk in scope for each in disk.partitions if names(wanted, each)]
    if len(found) == 1:
        return Meant(place, wanted, *found[0])
    listed = "\n".join(
        f"{title(disk)} has these:\n{_listed(disk)}" for disk in {each.name: each for each in scope}.values()
    )
    raise HyperError(
        f"storage.partitions[{place}] matches {len(found) or 'no'} partition{'' if len(found) == 1 else 's'}, must match one",
        why=listed,
        remedy="correct number, uuid or label; a uuid fits exactly one",
        code=Exit.selection,
    )


def _listed(disk: Disk) -> str:
    if not disk.partitions:
        return f"none; the whole disk: {content_words(disk.filesystem)}" if disk.filesystem else "none"
    return "\n".join(
        f"{each.number}: {each.label or 'no name'}, {each.part_uuid}, {format_size(each.size)}, {partition_words(each)}"
        for each in disk.partitions
    )
