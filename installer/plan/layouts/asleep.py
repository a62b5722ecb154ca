"""Other systems that hibernate: what is changed on disks of theirs meanwhile, they do not know of when they wake up, and ruin."""

from collections.abc import Collection, Iterable

from installer.answers.select import title
from installer.errors import Exit, HyperError
from installer.facts.disks import Disk
from installer.plan.layouts.kept import Kept

MEMORY = "swsuspend"
"""What blkid(8) calls swap in which a memory lies. In LUKS, a volume or a file it cannot be seen."""


def require_awake(disks: Iterable[Disk], kept: Iterable[Kept | None], emptied: Collection[str]) -> None:
    """HyperError (Exit.unsuitable) for a memory that stays, on whichever disk: its system may have had any mounted.

    Args:
        disks: The machine's.
        kept: What stays of the system's disks.
        emptied: Names of disks of which nothing stays.
    """
    ours = {each.disk.name: {partition.number for partition in each.stays} for each in kept if each}
    for disk in disks:
        for partition in disk.partitions if disk.name not in emptied else ():
            if partition.filesystem is None or partition.filesystem.kind != MEMORY:
                continue
            if disk.name in ours and partition.number not in ours[disk.name]:
                continue
            raise HyperError(
                f"a system on {title(disk)} hibernates",
                why=f"its memory lies in partition {partition.number}; when it wakes up, it does not know of what was changed "
                "meanwhile on disks that it uses, and ruins them",
                remedy='start it and switch it off, or write action = "format" or "delete" for that partition in '
                "storage.partitions: then it begins anew"
                if disk.name in ours
                else "start it and switch it off, then run the same command again",
                code=Exit.unsuitable,
            )
