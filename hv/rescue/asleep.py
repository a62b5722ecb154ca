"""Hosts that hibernate: what is changed on their disks meanwhile, they do not know of when they wake up, and ruin."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from installer.errors import Exit, HyperError
from installer.execute.asleep import asleep, give_up
from installer.plan.model import TARGET, Plan


def memory(plan: Plan, root: Path) -> Iterator[Path]:
    """Where the host's memory lies, if it hibernates.

    Args:
        plan: The host's.
        root: Where its root is mounted, or the top of its btrfs.
    """
    devices = (Path(device) for device in plan.host.swap_devices)
    files = (place for each in plan.host.swap_files if (place := below(plan, root, each.path)))
    yield from (each for each in (*devices, *files) if asleep(each))


def below(plan: Plan, root: Path, path: str) -> Path | None:
    """Where a file of the host lies in its root's file system; none: in another one."""
    inside = PurePosixPath(path)
    holder = max(
        (each for each in plan.host.filesystems if inside.is_relative_to(each.mountpoint)),
        key=lambda each: len(PurePosixPath(each.mountpoint).parts),
    )
    (top,) = (each for each in plan.host.filesystems if each.mountpoint == "/")
    if holder.device != top.device:
        return None
    volume = next((each.partition("=")[2] for each in holder.options if each.startswith("subvol=")), "")
    return root / volume.strip("/") / inside.relative_to(holder.mountpoint)


def require_awake(plan: Plan, root: Path) -> None:
    """Raises HyperError (Exit.busy) for a host that hibernates."""
    if found := tuple(memory(plan, root)):
        raise HyperError(
            f"{plan.hostname} hibernates",
            why=f"its memory lies in {', '.join(map(str, found))}; when it wakes up, it does not know of what was changed on its "
            "disks meanwhile, and ruins them",
            remedy="start it, and switch it off with `systemctl poweroff`; or give its memory up with --discard-memory: what it "
            "has written to its disks stays, and it begins anew",
            code=Exit.busy,
        )


def discard(plan: Plan) -> Iterator[str]:
    """Give up the memory of the host that is mounted, saying what was done."""
    devices = (Path(device) for device in plan.host.swap_devices)
    files = (Path(f"{TARGET}{each.path}") for each in plan.host.swap_files)
    for swap in (*devices, *files):
        if asleep(swap):
            give_up(swap)
            yield f"the memory of {plan.hostname} in {swap} is given up: it begins anew"
