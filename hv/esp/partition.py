"""A mounted EFI system partition, held open: what is written to it cannot land below an unmounted mount point."""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError

FILE_SYSTEMS = frozenset({"vfat", "msdos"})
"""What firmware reads (UEFI specification 2.10, 13.3). Tests add what their kernel can mount."""

PATIENCE = 300.0
"""Seconds to wait for another `hv esp`: reading two full ESPs of 2 GiB from slow disks takes a minute."""


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5))."""

    identity: int
    """Its number among mounts."""
    device: str
    """`MAJOR:MINOR` of the file system."""
    root: str
    """Which of the file system's folders is mounted."""
    mount_point: str
    """Where."""
    kind: str
    """Type of file system."""
    read_only: bool
    """Whether the mount or the file system takes no writes."""


@dataclass(frozen=True)
class Partition:
    """A mounted ESP."""

    mount_point: Path
    """Where it is mounted."""
    folder: Path
    """The way to its files that stays the same whatever is mounted or unmounted later."""
    mount: Mount
    """What the kernel says of it."""


@contextmanager
def opened(mount_point: Path, *, mirror_of: Partition | None = None) -> Iterator[Partition]:
    """Hold the ESP that is mounted there; raises HyperError when none is.

    A mirror must also be writable, and another partition than its source; it is waited for until no other `hv esp` has it.
    """
    try:
        handle = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unmounted(mount_point, f"{error.strerror}") from error
    try:
        mount = _mount_of(handle)
        if mount.root != "/" or Path(mount.mount_point) != mount_point.resolve():
            raise _unmounted(mount_point, f"what lies there belongs to {mount.mount_point}")
        if mount.kind not in FILE_SYSTEMS:
            raise HyperError(
                f"{mount_point} is no EFI system partition.",
                why=f"a {mount.kind} file system is mounted there, and firmware reads FAT",
                remedy="Name the mount point of an ESP.",
                code=Exit.unsuitable,
            )
        if mirror_of is not None:
            _require_other(mount_point, mount, mirror_of)
        # Released by the kernel with the handle, however we end.
        _lock(handle, mount_point, fcntl.LOCK_SH if mirror_of is None else fcntl.LOCK_EX)
        yield Partition(mount_point, Path(f"/proc/self/fd/{handle}"), mount)
    finally:
        os.close(handle)


def _require_other(mount_point: Path, mount: Mount, source: Partition) -> None:
    if mount.device == source.mount.device:
        raise HyperError(
            f"{mount_point} is the same partition as {source.mount_point}.",
            why=f"both are device {mount.device}",
            remedy="Mount another disk's ESP there.",
        )
    if mount.read_only:
        raise HyperError(
            f"{mount_point} is mounted read-only.",
            why="it is declared so, or the kernel found errors on it",
            remedy=f"See `journalctl -k`; then `umount {mount_point}`, `fsck.vfat -a` its partition, and mount it.",
            code=Exit.busy,
        )


def _lock(handle: int, mount_point: Path, kind: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise HyperError(
                    f"{mount_point} is in use by another `hv esp`.",
                    why=f"it did not end within {PATIENCE:.0f} seconds",
                    remedy="See `pgrep --full --list-full 'hv esp'`, and try again.",
                    code=Exit.busy,
                ) from error
            time.sleep(0.1)


def _unmounted(mount_point: Path, why: str) -> HyperError:
    return HyperError(
        f"No EFI system partition is mounted at {mount_point}.",
        why=why,
        remedy=f"See whether its disk is there (`lsblk`), then `mount {mount_point}`.",
        code=Exit.busy,
    )


def _mount_of(handle: int) -> Mount:
    told = re.search(r"^mnt_id:\s*(\d+)$", Path(f"/proc/self/fdinfo/{handle}").read_text(), re.MULTILINE)
    assert told, "every kernel since 3.15 tells it (proc(5))"
    for mount in mounts(Path("/proc/self/mountinfo").read_text(errors="surrogateescape")):
        if mount.identity == int(told[1]):
            return mount
    raise HyperError(
        "An EFI system partition was unmounted while it was looked at.",
        why=f"mount {told[1]} is gone",
        remedy="Mount it and try again.",
        code=Exit.busy,
    )


def mounts(mountinfo: str) -> Iterator[Mount]:
    """Every mount that a mountinfo file tells of."""
    for line in mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        identity, _, device, root, mount_point, options, *_ = front.split(" ")
        kind, _, super_options = (*back.split(" "), "")[:3]
        yield Mount(
            identity=int(identity),
            device=device,
            root=_plain(root),
            mount_point=_plain(mount_point),
            kind=kind.removeprefix("fuse."),
            read_only="ro" in options.split(",") or "ro" in super_options.split(","),
        )


def _plain(word: str) -> str:
    """Without the octal escapes of spaces, tabs, line breaks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), word)
