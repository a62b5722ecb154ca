"""A host with a disk of its mirror missing: how what is left of it is brought up."""

from collections.abc import Callable, Iterator

from installer.plan.actions import Action, AssembleArray, Run
from installer.plan.checks import ArrayIs, Check, PoolIs
from installer.plan.model import DiskIdentity, Step

Gone = Callable[[str], bool]
"""Whether a device is gone."""


def without(steps: tuple[Step, ...], missing: tuple[DiskIdentity, ...]) -> tuple[Step, ...]:
    """The steps that bring storage up, as far as they go without these disks.

    Args:
        steps: As the plan has them, in order.
        missing: Disks that are gone.
    """
    lost: set[str] = set()
    return tuple(_steps(steps, missing, lost)) if missing else steps


def _steps(steps: tuple[Step, ...], missing: tuple[DiskIdentity, ...], lost: set[str]) -> Iterator[Step]:
    """`lost` gathers the mapped devices and pools that are gone with their disks."""

    def gone(path: str) -> bool:
        return path in lost or any(
            path == disk.device or path.startswith(f"{disk.device}-part") for disk in missing
        )

    for step in steps:
        if pools := _pools_gone(step, gone):
            lost |= pools
            continue
        actions = []
        for action in step.actions:
            left = _action(action, gone, lost)
            if left is None:
                break
            actions.append(left)
        else:
            yield step.model_copy(
                update={
                    "actions": tuple(actions),
                    "checks": tuple(_check(check, gone) for check in step.checks),
                }
            )


def _pools_gone(step: Step, gone: Gone) -> set[str]:
    """ZFS pools that the step brings up, of whose devices none is left; with some of them left ZFS does what it can."""
    return {
        check.name for check in step.checks if isinstance(check, PoolIs) and all(map(gone, check.devices))
    }


def _action(action: Action, gone: Gone, lost: set[str]) -> Action | None:
    """What is left of an action; none: nothing."""
    match action:
        case AssembleArray(devices=devices):
            left = tuple(each for each in devices if not gone(each))
            return action.model_copy(update={"devices": left}) if left else None
        case Run(argv=("cryptsetup", "open", *_, device, name)) if gone(device):
            lost.add(f"/dev/mapper/{name}")
            return None
        case Run(argv=("mount", "-t", "btrfs", "-o", options, device, target)):
            words = options.split(",")
            others = [word.removeprefix("device=") for word in words if word.startswith("device=")]
            there = [each for each in (device, *others) if not gone(each)]
            if not there:
                return None
            plain = [word for word in words if not word.startswith("device=")]
            more = [f"device={each}" for each in there[1:]]
            told = ",".join((*plain, "degraded", *more))
            return action.model_copy(update={"argv": ("mount", "-t", "btrfs", "-o", told, there[0], target)})
        case Run(argv=("mount", "-t", "zfs", *_, dataset, _)) if dataset.partition("/")[0] in lost:
            return None
        case Run(argv=argv) if any(map(gone, argv)):
            return None
        case _:
            return action


def _check(check: Check, gone: Gone) -> Check:
    if isinstance(check, ArrayIs):
        left = tuple(each for each in check.devices if not gone(each))
        return check.model_copy(update={"devices": left})
    return check
