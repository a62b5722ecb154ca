"""Zeros where new partitions will begin and end, before kernel and udev are told of them.

What an older table left there belongs to no partition any more, so erasing the signatures of those that are there does not
reach it. With a new partition at its place it would come to light, and udev would bring the array, volume group or cache
up before anything could erase it. All of them have their superblock in the first or last MiB of a member: md (mdadm,
super0.c, super1.c), LVM (label_header in the first four sectors), bcache (sector 8), ZFS (256 KiB from either end).
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from installer.answers.sizes import MIB
from installer.execute.live import LiveSystem
from installer.plan.model import DiskIdentity

_RANGE = "range"


@dataclass(frozen=True)
class Piece:
    """Bytes that stood at a place on the disk."""

    place: int
    """From the start of the disk."""
    content: bytes
    """What stood there."""


def erased(live: LiveSystem, disk: DiskIdentity) -> Path:
    """Folder with all that was erased of a disk before its first file system was made."""
    return live.headers / disk.key / "erased"


def new_home(folder: Path, place: int) -> Path:
    """A folder for what is erased next; its name says in which order, and from where on the disk places are counted."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = folder / f"{1 + sum(1 for _ in folder.iterdir()):04}-{place}"
    home.mkdir(mode=0o700)
    return home


def kept_pieces(folder: Path, names: str = "*.bak") -> Iterator[Piece]:
    """What was erased, the latest first: where two pieces overlap, the older is what stood there at first."""
    for home in sorted(folder.glob("*-*"), reverse=True):
        start = int(home.name.partition("-")[2])
        for path in sorted(home.glob(names)):
            found = re.search(r"-0x([0-9a-f]+)\.bak$", path.name)
            if found:
                yield Piece(start + int(found[1], 16), path.read_bytes())


@contextlib.contextmanager
def blanked(path: str, ranges: Iterable[tuple[int, int]], folder: Path) -> Iterator[None]:
    """Zeros at both ends of each range while a table with partitions there is written; what stood there is kept.

    Where nothing but zeros stands nothing is written. If writing the table fails, everything is put back.

    Args:
        path: The disk, which the caller has locked, or a file that stands in for one.
        ranges: First byte and length of each new partition, or of what a growing one gets.
        folder: See `erased`.

    Raises:
        OSError: the disk cannot be read or written.
    """
    pieces = tuple(_found(path, ranges))
    for piece in pieces:
        _keep(new_home(folder, piece.place) / f"{_RANGE}-0x0.bak", piece.content)
    try:
        _write(path, ((each.place, bytes(len(each.content))) for each in pieces))
        yield
    except BaseException:
        _write(path, ((each.place, each.content) for each in pieces))
        raise


def put_back(path: str, folder: Path) -> None:
    """Undo everything that `blanked` did; what was erased by others stays erased. Raises OSError."""
    _write(path, ((each.place, each.content) for each in kept_pieces(folder, f"{_RANGE}*.bak")))


def _found(path: str, ranges: Iterable[tuple[int, int]]) -> Iterator[Piece]:
    with Path(path).open("rb", buffering=0) as device:
        for start, size in ranges:
            for place in dict.fromkeys((start, max(start, start + size - MIB))):
                content = os.pread(device.fileno(), min(MIB, size), place)
                if content.strip(b"\0"):
                    yield Piece(place, content)


def _keep(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _write(path: str, pieces: Iterable[tuple[int, bytes]]) -> None:
    todo = tuple(pieces)
    if not todo:
        return
    with Path(path).open("r+b", buffering=0) as device:
        for place, content in todo:
            os.pwrite(device.fileno(), content, place)
        os.fsync(device.fileno())
