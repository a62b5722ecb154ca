"""Arrays and volume groups of before that the live system brought up by itself: stopped before the first write."""

from collections.abc import Sequence

from installer.plan.actions import StopIdle
from installer.plan.checks import NothingUp
from installer.plan.model import Step

STOP = "stop-idle"
"""Id of the step, which comes before what was on the disks is saved."""


def stop_idle(stacks: Sequence[str], disks: Sequence[str], gate: tuple[str, ...]) -> Step:
    """The step that stops them.

    Args:
        stacks: Their names, for a person.
        disks: Keys of the disks that they stand on, all of which the plan has.
        gate: Ids of the steps that come before.
    """
    return Step(
        id=STOP,
        summary=f"Stop what came up by itself and nobody uses: {', '.join(stacks)}",
        requires=gate,
        actions=(StopIdle(disks=tuple(disks)),),
        checks=tuple(NothingUp(disk=key) for key in disks),
        transient=True,
    )
