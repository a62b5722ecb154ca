"""Other systems that hibernate: what is changed on disks of theirs meanwhile, they do not know of when they wake up, and ruin."""

from collections.abc import Collection, Iterable, Iterator

from installer.answers.select import title
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Holder, Partition
from installer.plan.layouts.kept import Kept
from installer.plan.losses import all_layers

MEMORY = "swsuspend"
"""What blkid(8) calls swap in which a memory lies. In LUKS or a file it cannot be seen, nor in a volume whose group is not up;
there the firmware may know of it.
"""


def require_awake(facts: Facts, kept: Iterable[Kept | None], emptied: Collection[str]) -> None:
    """HyperError (Exit.unsuitable) for a memory that stays, on whichever disk: its system may have had any mounted.

    Args:
        facts: The machine.
        kept: What stays of the system's disks.
        emptied: Names of disks of which nothing stays.
    """
    ours = {each.disk.name: {partition.number for partition in each.stays} for each in kept if each}
    stays = [
        (disk, partition)
        for disk in facts.disks
        if disk.name not in emptied
        for partition in disk.partitions
        if disk.name not in ours or partition.number in ours[disk.name]
    ]
    for disk, partition in stays:
        volume = next((each.name for each in all_layers(partition.holders) if MEMORY in _kinds(each)), None)
        if volume or (partition.filesystem and partition.filesystem.kind == MEMORY):
            where = f"partition {partition.number}"
            where = f"volume {volume} in {where}" if volume else where
            raise HyperError(
                f"a system on {title(disk)} hibernates",
                why=f"its memory lies in {where}; when it wakes up, it does "
                "not know of what was changed meanwhile on disks that it uses, and ruins them",
                remedy='start it and switch it off, or write action = "format" or "delete" for that partition in '
                "storage.partitions: then it begins anew"
                if disk.name in ours
                else "start it and switch it off, then run the same command again",
                code=Exit.unsuitable,
            )
    known = facts.firmware.hibernation
    if known and not any(
        known.uuid in _uuids(partition)
        for disk in facts.disks
        for partition in disk.partitions
        if (disk, partition) not in stays
    ):
        raise HyperError(
            f"a system ({known.system or 'of unknown name'}) hibernates",
            why=f"so says the firmware's variable HibernateLocation: its memory lies in {known.uuid}; when it wakes up, it "
            "does not know of what was changed meanwhile on disks that it uses, and ruins them",
            remedy="start it and switch it off, then run the same command again; if there is no such system any more, "
            "`chattr -i` and `rm` the variable in /sys/firmware/efi/efivars",
            code=Exit.unsuitable,
        )


def _kinds(holder: Holder) -> frozenset[str]:
    """What lies directly in it, by blkid's names."""
    return frozenset(each.name for each in holder.layers if not each.layers)


def _uuids(partition: Partition) -> Iterator[str]:
    """Of what is in a partition, as far as it is seen, lower case."""
    if partition.filesystem and partition.filesystem.uuid:
        yield partition.filesystem.uuid.lower()
    yield from (each.uuid.lower() for each in all_layers(partition.holders) if each.uuid)
