"""A block device that is no faster than a USB link, as the kernel's block throttling holds it (blk-throttle: cgroup-v1's
blkio-controller.rst, cgroup-v2's io.max).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


class UnthrottledError(Exception):
    """The kernel cannot hold a device to a speed, or does not let us."""


@contextmanager
def throttled(device: Path, speed: int) -> Iterator[None]:
    """Hold what this process and its children read from a device and write to it, each way.

    Args:
        device: A block device.
        speed: Bytes a second.

    Raises:
        UnthrottledError: no root, or a kernel without it; nothing was changed.
    """
    try:
        group, home = _joined(device, speed)
    except OSError as error:
        raise UnthrottledError(str(error)) from error
    try:
        yield
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def _joined(device: Path, speed: int) -> tuple[Path, Path]:
    """The group that this process is in now, and the one that it came from."""
    number = device.stat().st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    old = _CGROUPS / "blkio"
    if old.is_dir():
        home = old / _own("blkio").lstrip("/")
        rules = {
            "blkio.throttle.read_bps_device": f"{name} {speed}",
            "blkio.throttle.write_bps_device": f"{name} {speed}",
        }
    else:
        home = _CGROUPS / _own("").lstrip("/")
        (_CGROUPS / "cgroup.subtree_control").write_text("+io")
        old = _CGROUPS
        rules = {"io.max": f"{name} rbps={speed} wbps={speed}"}
    group = old / f"hv-bench-{os.getpid()}"
    group.mkdir()
    try:
        for file, rule in rules.items():
            (group / file).write_text(rule)
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        group.rmdir()
        raise
    return group, home


def _own(controller: str) -> str:
    """Where this process is in the hierarchy of a controller (cgroups(7)); "" is version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    raise OSError(f"this process is in no control group of {controller or 'version 2'}")
