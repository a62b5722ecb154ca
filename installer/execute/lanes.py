"""Which steps may go on side by side: each disk is a lane, until disks meet.

Side by side goes only what opens its own disk alone. What looks at every disk there is (LVM, md, btrfs, ZFS) could hold
a partition open while another lane's table is read again; and what derives keys measures how fast the processor is, and
takes memory that was counted for one at a time.
"""

from collections.abc import Iterator, Sequence

from installer.plan.actions import Action, Run, SaveHeaders, WritePartitionTable
from installer.plan.model import Step

ALONE_ON_ITS_DISK = frozenset(("wipefs", "blkdiscard", "mkfs.fat", "mkfs.ext4", "mkfs.xfs", "mkswap"))
"""Programs that open only the devices that they are given."""


def lane(step: Step) -> str | None:
    """Key of the only disk that the step has to do with; none: nothing else may happen meanwhile."""
    actions = (*step.actions, *step.undo)
    disks = {*step.writes, *(each.disk for each in actions if isinstance(each, SaveHeaders))}
    return disks.pop() if len(disks) == 1 and all(map(_keeps_to_itself, actions)) else None


def _keeps_to_itself(action: Action) -> bool:
    match action:
        case SaveHeaders() | WritePartitionTable():
            return True
        case Run(argv=argv, stdin=stdin):
            return argv[0] in ALONE_ON_ITS_DISK and stdin is None
        case _:
            return False


def stretches(steps: Sequence[Step]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The steps, by place, in stretches that come one after the other; within one, lanes that go side by side.

    A lane's steps are in the plan's order. None requires a step of another lane of its stretch.
    """
    lanes: dict[str, list[int]] = {}
    inside: dict[str, str] = {}
    for number, step in enumerate(steps):
        name = lane(step)
        meets = name is None or any(inside.get(each, name) != name for each in step.requires)
        if meets and lanes:
            yield tuple(map(tuple, lanes.values()))
            lanes, inside = {}, {}
        if name is None:
            yield ((number,),)
        else:
            lanes.setdefault(name, []).append(number)
            inside[step.id] = name
    if lanes:
        yield tuple(map(tuple, lanes.values()))
