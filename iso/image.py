"""An image of a medium, read at places: never beyond its end, however wrong the numbers in it are."""

import fcntl
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError

CHUNK = 1 << 20
"""Bytes that are read at once where all of an image is."""


def damaged(name: str, why: str) -> HyperError:
    """The error for an image that is not what it should be."""
    return HyperError(
        f"{name} cannot be read as an install medium",
        why=why,
        remedy="check its SHA-256 against the one it was published with, and fetch it again",
        code=Exit.medium,
    )


@dataclass(frozen=True)
class Image:
    """A file, a disk, or bytes."""

    name: str
    """What people call it."""
    size: int
    """Bytes."""
    fetch: Callable[[int, int], bytes]
    """Reads `length` bytes at an offset that are known to be there."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes. Raises HyperError (Exit.medium) when the image ends before them."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise damaged(
                self.name, f"it ends at byte {self.size}, and bytes {offset} to {offset + length} are needed"
            )
        data = self.fetch(offset, length)
        if len(data) != length:
            raise damaged(self.name, f"only {len(data)} of {length} bytes can be read at byte {offset}")
        return data

    def chunks(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a part, a chunk at a time."""
        end = self.size if length is None else offset + length
        while offset < end:
            data = self.read(offset, min(CHUNK, end - offset))
            offset += len(data)
            yield data

    def part(self, offset: int, length: int, name: str) -> "Image":
        """A part of it as an image of its own. Raises HyperError when it is not whole."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise damaged(self.name, f"{name} should be bytes {offset} to {offset + length} of {self.size}")
        return Image(f"{self.name}: {name}", length, lambda at, many: self.fetch(offset + at, many))

    @staticmethod
    def of(content: bytes, name: str = "image") -> "Image":
        """An image in memory."""
        return Image(name, len(content), lambda offset, length: content[offset : offset + length])


def unreadable(path: Path, error: OSError) -> HyperError:
    """The error for a file or disk that cannot be opened."""
    return HyperError(
        f"{path} cannot be opened",
        why=error.strerror or str(error),
        remedy="name an image or a disk that you may read",
        code=Exit.privilege if isinstance(error, PermissionError) else Exit.medium,
    )


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """An image file or disk. Raises HyperError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(path, error) from error
    try:

        def fetch(offset: int, length: int) -> bytes:
            pieces = []
            while length:
                try:
                    piece = os.pread(descriptor, length, offset)
                except OSError as error:
                    raise unreadable(path, error) from error
                if not piece:
                    break
                pieces.append(piece)
                offset, length = offset + len(piece), length - len(piece)
            return b"".join(pieces)

        yield Image(str(path), _end(path, descriptor), fetch)
    finally:
        os.close(descriptor)


def _end(path: Path, descriptor: int) -> int:
    try:
        # A disk has no size of its own: where its end is tells it (lseek(2)).
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if end == 0 and sys.platform == "darwin" and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return _end_on_macos(descriptor)
        return end
    except OSError as error:
        raise unreadable(path, error) from error


_BLOCK_SIZE, _BLOCK_COUNT = 0x40046418, 0x40086419
"""ioctl: DKIOCGETBLOCKSIZE and DKIOCGETBLOCKCOUNT of macOS (sys/disk.h), which tells no disk's end by lseek(2)."""


def _end_on_macos(descriptor: int) -> int:
    (size,) = struct.unpack("=I", fcntl.ioctl(descriptor, _BLOCK_SIZE, bytes(4)))
    (count,) = struct.unpack("=Q", fcntl.ioctl(descriptor, _BLOCK_COUNT, bytes(8)))
    return int(size * count)
