"""The last look before a write: is this still the disk that was confirmed, and does nobody else use it?"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.content import Expected, content_problem, read_ends
from installer.execute.devices import claim_problem, identity_problem, kernel_name, read_device
from installer.execute.live import LiveSystem
from installer.execute.mounts import users_of
from installer.plan.actions import ChangePartitionTable, Run, WritePartitionTable
from installer.plan.checks import (
    ArrayIs,
    MapperIs,
    MountedAt,
    PoolIs,
    SwapActive,
    VolumesActive,
    VolumesAre,
)
from installer.plan.model import DiskIdentity, Step

_GROUP = re.compile(r"((?:[^-]|--)+)-(?!-)")
"""A volume group, in the name of a mapped device: hyphens inside names are doubled (lvm(8))."""


@dataclass(frozen=True)
class OwnUse:
    """What earlier steps of the same plan did to the disk and may find in use."""

    users: frozenset[str]
    """As `users_of` names them."""
    groups: tuple[str, ...] = ()
    """Beginnings of holders: volumes of a group, some of which (a thin pool's parts) no plan names."""
    claimed: frozenset[str] = frozenset()
    """Kernel names of devices that are claimed without a mount or holder that shows it: those of ZFS pools."""

    @staticmethod
    def of(verified: tuple[Step, ...]) -> "OwnUse":
        """From the checks of steps that were verified."""
        checks = [check for step in verified for check in step.checks]
        mounts = {f"mount {check.target}" for check in checks if isinstance(check, MountedAt)}
        arrays = {f"holder {kernel_name(check.device)}" for check in checks if isinstance(check, ArrayIs)}
        mappers = {f"holder {check.name}" for check in checks if isinstance(check, MapperIs)}
        swaps = {f"swap {kernel_name(check.device)}" for check in checks if isinstance(check, SwapActive)}
        made = (check.group.replace("-", "--") for check in checks if isinstance(check, VolumesAre))
        # Of one that was there before, and that no step has made.
        found = (
            group.group(1)
            for check in checks
            if isinstance(check, VolumesActive)
            for device in check.devices
            if (group := _GROUP.match(Path(device).name))
        )
        groups = tuple(dict.fromkeys(f"holder {name}-" for name in (*made, *found)))
        pools = (check.devices for check in checks if isinstance(check, PoolIs))
        claimed = frozenset(filter(None, (kernel_name(path) for devices in pools for path in devices)))
        return OwnUse(frozenset(mounts | mappers | swaps | arrays), groups, claimed)

    def includes(self, user: str) -> bool:
        """Whether it is ours."""
        return user in self.users or user.startswith(self.groups)


def check_identity(
    live: LiveSystem, disk: DiskIdentity, step: Step, own: OwnUse, content: Expected | None = None
) -> tuple[str, ...]:
    """Read the disk's identity and use again, from the kernel, right before a step writes to it.

    Args:
        live: The live system.
        disk: Which.
        step: Which is going to write.
        own: What earlier steps may have in use.
        content: What must stand at the ends of a disk that has no name of its own.

    Returns:
        Evidence.

    Raises:
        HyperError: `Exit.busy`, and nothing was written by this step.
    """
    name = kernel_name(disk.device)
    if name is None:
        raise _refuse(disk, step, f"{disk.device} is not there any more", "plug it in again")
    if (live.sysfs / "class/block" / name / "partition").exists():
        raise _refuse(disk, step, f"{disk.device} leads to the partition {name}", "plan again")
    device = read_device(live, name)
    problem = identity_problem(disk, device)
    if problem:
        raise _refuse(
            disk, step, f"{disk.device} leads to another disk, {name}: {problem}", "plan again and confirm"
        )
    if content and (problem := content_problem(content, read_ends(live, disk))):
        raise _refuse(
            disk,
            step,
            f"it has no name of its own, and {problem}",
            "put back the disk that was confirmed, or add `--fresh`, plan again and confirm",
        )
    if device.read_only:
        raise _refuse(
            disk, step, f"the kernel says that {name} cannot be written", "take its write protection off"
        )
    in_use = {part: users_of(live, part) for part in (name, *device.partitions)}
    foreign = [
        f"{part}: {user}" for part, users in in_use.items() for user in users if not own.includes(user)
    ]
    if foreign:
        raise _refuse(disk, step, f"it is in use ({', '.join(foreign)})", "free it, or choose another disk")
    whole_is_free = not any(in_use.values()) and own.claimed.isdisjoint(in_use)
    claimed = (disk.device,) if whole_is_free or _writes_table(step, disk) else _partitions_of(step, disk)
    for path in claimed:
        if kernel_name(path) in own.claimed:
            continue
        reason = claim_problem(path)
        if reason:
            raise _refuse(
                disk,
                step,
                f"the kernel does not give {path} away: {reason}; something uses it that is no mount, swap or "
                "holder seen from here, e.g. a ZFS pool or the live system itself",
                "free it, or choose another disk",
            )
    known = f"ends {content.ends.hash}" if content else f"serial {disk.serial}, WWN {disk.wwn}"
    return (f"{disk.device} is {name}: {known}, {device.size} bytes, not in use",)


def check_places(live: LiveSystem, disks: tuple[DiskIdentity, ...], step: Step) -> tuple[str, ...]:
    """Every device that the step's programs are given, down to the disks it stands on, lies on those that it may write.

    A link to a partition, an array or a mapped volume may lead elsewhere than the link to its disk does: two disks
    with one name, a volume of the same name that something else brought up.

    Args:
        live: The live system.
        disks: All disks that the step writes to, each known to be the planned one.
        step: Which is going to write.

    Returns:
        Evidence.

    Raises:
        HyperError: `Exit.busy`, and nothing was written by this step.
    """
    planned = {kernel_name(disk.device): disk for disk in disks}
    words = [word for action in step.actions if isinstance(action, Run) for word in action.argv]
    found = []
    for path in dict.fromkeys(word for word in words if word.startswith("/dev/")):
        name = kernel_name(path)
        if name is None:  # what the step makes itself
            continue
        below = frozenset(disks_below(live, name, frozenset(filter(None, planned))))
        if foreign := sorted(below - planned.keys()):
            raise _refuse(
                disks[0],
                step,
                f"{path} is {name}, which lies on {', '.join(foreign)}: no disk that this step may write to",
                "take away or stop what has the same name",
            )
        found.append(f"{path} is {name}, on {', '.join(sorted(below))}")
    return tuple(found)


def disks_below(live: LiveSystem, name: str, ends: frozenset[str]) -> Iterator[str]:
    """Kernel names of the disks that a device stands on (sysfs `slaves`, and the folder a partition is in).

    Args:
        live: The live system.
        name: Kernel name of the device.
        ends: Names that are disks, whatever these stand on (multipath).
    """
    folder = live.sysfs / "class/block" / name
    if name in ends:
        yield name
    elif (folder / "partition").exists():
        yield from disks_below(live, folder.resolve().parent.name, ends)
    elif slaves := sorted(each.name for each in (folder / "slaves").glob("*")):
        for slave in slaves:
            yield from disks_below(live, slave, ends)
    else:
        yield name


def _writes_table(step: Step, disk: DiskIdentity) -> bool:
    return any(
        isinstance(action, WritePartitionTable | ChangePartitionTable) and action.disk == disk.key
        for action in step.actions
    )


def _partitions_of(step: Step, disk: DiskIdentity) -> tuple[str, ...]:
    """Paths of the disk and its partitions that the step's programs are given."""
    words = [word for action in step.actions if isinstance(action, Run) for word in action.argv]
    return tuple(dict.fromkeys(w for w in words if w == disk.device or w.startswith(f"{disk.device}-part")))


def _refuse(disk: DiskIdentity, step: Step, why: str, remedy: str) -> HyperError:
    return HyperError(
        f"the disk `{disk.key}` ({disk.model or 'no model'}, {disk.name}) is not touched",
        why=f"before `{step.id}`: {why}; this step wrote nothing",
        remedy=f"{remedy}; `lsblk -o NAME,SERIAL,WWN,SIZE,MOUNTPOINTS` shows what is there",
        code=Exit.busy,
    )
