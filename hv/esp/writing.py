"""The few ways in which an ESP is changed, each of them one step between which the power may go."""

import hashlib
import os
from pathlib import Path
from typing import Protocol

from hv.esp.inventory import PARTIAL
from installer.errors import Exit, HyperError

CHUNK = 1 << 20


class Writes(Protocol):
    """Every change of a file system that is made; `Disk` makes them, tests count them and stop in between."""

    def make_folder(self, path: Path) -> None:
        """mkdir(2)."""
        ...

    def create(self, path: Path) -> int:
        """An empty file, open for writing."""
        ...

    def write(self, handle: int, data: bytes) -> None:
        """All of the data."""
        ...

    def flush(self, handle: int) -> None:
        """What was written is on the disk (fsync(2))."""
        ...

    def replace(self, old: Path, new: Path) -> None:
        """rename(2)."""
        ...

    def remove(self, path: Path) -> None:
        """unlink(2)."""
        ...

    def sync_folder(self, path: Path) -> None:
        """What was renamed or removed in the folder is on the disk."""
        ...


class Disk:
    """The real thing."""

    def make_folder(self, path: Path) -> None:
        """mkdir(2)."""
        path.mkdir()

    def create(self, path: Path) -> int:
        """An empty file, open for writing."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(self, handle: int, data: bytes) -> None:
        """All of the data."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]

    def flush(self, handle: int) -> None:
        """fsync(2)."""
        os.fsync(handle)

    def replace(self, old: Path, new: Path) -> None:
        """rename(2)."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """unlink(2)."""
        path.unlink()

    def sync_folder(self, path: Path) -> None:
        """fsync(2) of a folder."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folders(disk: Writes, top: Path, folder: Path) -> None:
    """The folder and those above it, below `top`, each on the disk before the next."""
    for part in (*reversed(folder.relative_to(top).parents), folder.relative_to(top)):
        if not (top / part).is_dir():
            disk.make_folder(top / part)
            disk.sync_folder((top / part).parent)


def put(disk: Writes, origin: Path, target: Path) -> None:
    """Copy a file so that `target` is, at every moment, what it was or the whole new one."""
    partial = target.with_name(target.name + PARTIAL)
    handle = disk.create(partial)
    try:
        written = hashlib.sha256()
        with origin.open("rb") as source:
            while data := source.read(CHUNK):
                disk.write(handle, data)
                written.update(data)
        disk.flush(handle)
    finally:
        os.close(handle)
    if content(partial) != written.digest():
        raise HyperError(
            f"{target.name} was not written well.",
            why="what was read back is not what was written; what was there before is untouched",
            remedy="The disk fails: see `journalctl -k` and `smartctl -a` of it, and replace it.",
            code=Exit.step,
        )
    disk.replace(partial, target)
    disk.sync_folder(target.parent)


def drop(disk: Writes, target: Path) -> None:
    """Remove a file."""
    disk.remove(target)
    disk.sync_folder(target.parent)


def content(path: Path) -> bytes:
    """SHA-256 of a file, as it is on the disk: what the kernel remembers of it is put away first."""
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(stream, "sha256").digest()
