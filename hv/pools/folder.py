"""The folder of a pool: there, writable, and on btrfs without copy on write unless that is wanted."""

import fcntl
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hv.pools.declared import FolderPool
from installer.errors import HyperError
from installer.execute.runner import Finished

MODE = 0o711
"""Others may reach a file they know the name of, and list nothing: QEMU is not root."""
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
"""FS_IOC_GETFLAGS, FS_IOC_SETFLAGS (ioctl_iflags(2)), of 64-bit machines."""
_NO_COPY_ON_WRITE = 0x00800000
"""FS_NOCOW_FL."""


class Run(Protocol):
    """Runs a program that must succeed."""

    def __call__(self, argv: tuple[str, ...]) -> Finished:
        """Raises HyperError."""
        ...


def prepare(folder: Path, pool: FolderPool, run: Run, say: Callable[[str], None]) -> None:
    """Make the folder what the pool needs. What is in it stays as it is. Raises HyperError."""
    try:
        if not folder.exists():
            _make(folder, pool, run)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
        kind = kind_of(folder, run)
        if pool.kind == "btrfs" and kind != "btrfs":
            raise HyperError(
                f"The folder of the pool {pool.name} is not on btrfs.",
                why=f"{folder} is on {kind}",
                remedy='Mount a btrfs file system there, or declare the pool with kind = "dir".',
            )
        if kind == "btrfs":
            _set_copy_on_write(folder, pool, say)
    except OSError as error:
        raise HyperError(
            f"The folder of the pool {pool.name}, {folder}, cannot be written to.",
            why=f"{type(error).__name__}: {error.strerror}",
            remedy=f"See `findmnt -T {folder}` and `lsattr -d {folder}`, mend it, then run it again.",
        ) from error


def _make(folder: Path, pool: FolderPool, run: Run) -> None:
    """Modes are set afterwards: a service's umask would take from them what QEMU's user needs."""
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir()
            parent.chmod(0o755)
    if pool.kind == "btrfs" and kind_of(folder.parent, run) == "btrfs":
        run(("btrfs", "subvolume", "create", str(folder)))
    else:
        folder.mkdir()
    folder.chmod(MODE)


def kind_of(folder: Path, run: Run) -> str:
    """Type of the file system that a folder is on, as stat(1) calls it."""
    return run(("stat", "--file-system", "--format=%T", str(folder))).text


def copies_on_write(folder: Path) -> bool:
    """Whether files made in the folder are copied on write."""
    return not _flags(folder) & _NO_COPY_ON_WRITE


def _set_copy_on_write(folder: Path, pool: FolderPool, say: Callable[[str], None]) -> None:
    if copies_on_write(folder) is pool.copy_on_write:
        return
    flags = _flags(folder) ^ _NO_COPY_ON_WRITE
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(handle, _SET_FLAGS, struct.pack("l", flags))
    finally:
        os.close(handle)
    say(f"{pool.name}: files made in {folder} are {'' if pool.copy_on_write else 'not '}copied on write")
    # A file keeps what it was made with (chattr(1), attribute C).
    if older := sum(path.is_file() for path in folder.iterdir()):
        say(f"{pool.name}: {older} files that are there already keep what they had; copy them to change it")


def _flags(folder: Path) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(handle, _GET_FLAGS, struct.pack("l", 0)))
    finally:
        os.close(handle)
    return int(flags)
