"""Arrays and volume groups that the live system brought up by itself: stopped, so that the kernel lets their disks be
written to.

udev assembles arrays and activates volume groups whenever it sees their members (mdadm(8), `--incremental`;
lvmautoactivation(7)), and it looks again at each member that a table is read anew for.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from installer.errors import Exit, HyperError
from installer.execute.devices import identity_problem, kernel_name, read_device, settle
from installer.execute.evidence import Evidence, ensure
from installer.execute.identity import OwnUse, disks_below
from installer.execute.live import LiveSystem
from installer.execute.mounts import users_of
from installer.execute.runner import CommandError, Runner
from installer.plan.model import DiskIdentity

_PATIENCE, _MOMENT, _POLL = 20.0, 2.0, 0.1
"""Seconds."""
_TRIES = 3
"""At least, however long udev takes to settle."""
_LOOKS = 20
_Seen = TypeVar("_Seen")
_LVM = "LVM-"
_GROUP = slice(len(_LVM), len(_LVM) + 32)
"""`LVM-`, the group's UUID, the volume's UUID, none with dashes (device-mapper UUIDs as LVM sets them)."""
_PARTS = (6, 4, 4, 4, 4, 4, 6)
"""Letters of each part of a UUID as LVM writes it."""


@dataclass(frozen=True)
class Up:
    """Something that the kernel has put together."""

    name: str
    """Kernel name."""
    group: str | None
    """UUID of the volume group, as LVM writes it; none: an md array."""


def stop_idle(
    live: LiveSystem,
    runner: Runner,
    disks: Sequence[DiskIdentity],
    planned: Iterable[DiskIdentity],
    own: OwnUse,
) -> None:
    """Stop every array and volume group on these disks that nobody uses; those in use are left for others to refuse.

    Args:
        live: The live system.
        runner: Runs programs.
        disks: Which.
        planned: All disks of the plan: what reaches any other is left as it is.
        own: What the installation itself has put together, which stays.

    Raises:
        HyperError: one of the disks is another now (Exit.busy), or something cannot be stopped.
    """
    for disk in disks:
        _require_planned(live, disk)
    ours = frozenset(filter(None, (kernel_name(disk.device) for disk in planned)))
    deadline = time.monotonic() + _PATIENCE
    for tries in itertools.count(1):
        settle(runner)
        found = _steadily(
            lambda: tuple(
                up for disk in disks for up in idle_on(live, kernel_name(disk.device) or "", own, ours)
            )
        )
        if not found:
            return
        late = tries >= _TRIES and time.monotonic() >= deadline
        try:
            _stop_all(live, runner, found)
        except CommandError:
            # What activates a group does so apart from udev (systemd-run), and what is new is looked into (blkid).
            if late:
                raise
        _wait(live, found)
        if late:
            return  # what is up still, or again, is told by the check


def _stop_all(live: LiveSystem, runner: Runner, found: Sequence[Up]) -> None:
    """Groups first: they may stand on arrays, and no array of ours on a group."""
    for group in dict.fromkeys(each.group for each in found if each.group):
        runner.run(["vgchange", "--activate", "n", "--select", f"vg_uuid={group}"])
    for name in dict.fromkeys(each.name for each in found if each.group is None):
        _stop(live, runner, name)


def _stop(live: LiveSystem, runner: Runner, name: str) -> None:
    try:
        runner.run(["mdadm", "--stop", f"/dev/{name}"])
    except CommandError:
        if (live.sysfs / "class/block" / name / "md").exists():  # else another lane was there first
            raise


def _wait(live: LiveSystem, stopped: Iterable[Up]) -> None:
    """Until the kernel has let go: it takes a stopped array's device away from a work queue of its own."""
    deadline = time.monotonic() + _MOMENT
    folders = [live.sysfs / "class/block" / each.name for each in stopped]
    while any((each / "slaves").is_dir() for each in folders) and time.monotonic() < deadline:
        time.sleep(_POLL)


def _steadily(look: Callable[[], _Seen]) -> _Seen:
    """What is seen once nothing vanishes while it is looked at. Raises OSError where that does not come."""
    for _ in range(_LOOKS):
        with contextlib.suppress(FileNotFoundError):
            return look()
        time.sleep(_POLL)
    return look()


def check_nothing_up(live: LiveSystem, disk: DiskIdentity) -> Evidence:
    """Nothing stands on the disk or a partition of it."""
    name = kernel_name(disk.device) or ""
    up = _steadily(
        lambda: [each for each in _above(live, name) if each != name and not _is_partition(live, each)]
    )
    ensure(not up, f"nothing put together on {disk.device}", ", ".join(up))
    return (f"{disk.device} is {name}: nothing stands on it",)


def _require_planned(live: LiveSystem, disk: DiskIdentity) -> None:
    name = kernel_name(disk.device)
    problem = "it is not there any more" if name is None else identity_problem(disk, read_device(live, name))
    if problem:
        raise HyperError(
            f"nothing on disk `{disk.key}` ({disk.name}) is stopped, and nothing is written",
            why=f"{disk.device}: {problem}",
            remedy="put back the disk that was confirmed, or add `--fresh`, plan again and confirm",
            code=Exit.busy,
        )


def idle_on(live: LiveSystem, disk: str, own: OwnUse, ours: frozenset[str]) -> Iterator[Up]:
    """What stands directly on the disk or its partitions and is used by nobody, with all that stands on it, from the top."""
    for base in (disk, *read_device(live, disk).partitions):
        for holder in _holders(live, base):
            above = tuple(_above(live, holder))
            found = [_up(live, name) for name in above]
            free = all(up or _is_partition(live, name) for up, name in zip(found, above, strict=True))
            if free and not any(_is_used(live, name, own, ours) for name in above):
                yield from filter(None, found)


def _above(live: LiveSystem, name: str) -> Iterator[str]:
    """Kernel names of all that stands on a device, itself last: its partitions, and what holds each."""
    for part in read_device(live, name).partitions:
        yield from _above(live, part)
    for holder in _holders(live, name):
        yield from _above(live, holder)
    yield name


def _holders(live: LiveSystem, name: str) -> Iterator[str]:
    folder = live.sysfs / "class/block" / name / "holders"
    yield from sorted(each.name for each in folder.iterdir()) if folder.is_dir() else ()


def _is_partition(live: LiveSystem, name: str) -> bool:
    return (live.sysfs / "class/block" / name / "partition").exists()


def _up(live: LiveSystem, name: str) -> Up | None:
    """What it is, if it is one of those that come up by themselves."""
    folder = live.sysfs / "class/block" / name
    if (folder / "md").is_dir():
        return Up(name, None)
    try:
        uuid = (folder / "dm/uuid").read_text().strip()
    except FileNotFoundError:
        return None
    return Up(name, _dashed(uuid[_GROUP])) if uuid.startswith(_LVM) else None


def _dashed(letters: str) -> str:
    rest = iter(letters)
    return "-".join("".join(next(rest, "") for _ in range(length)) for length in _PARTS)


def _is_used(live: LiveSystem, kernel: str, own: OwnUse, ours: frozenset[str]) -> bool:
    """Whether it is mounted, swapped to, the installation's own, or reaches a disk that the plan does not have."""
    title = live.sysfs / "class/block" / kernel / "dm/name"
    name = title.read_text().strip() if title.is_file() else kernel
    return (
        own.includes(f"holder {name}")
        or any(not user.startswith("holder ") for user in users_of(live, kernel))
        or not ours.issuperset(disks_below(live, kernel, ours))
    )
