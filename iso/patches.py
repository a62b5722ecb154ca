"""Changes of an image as a list of places and bytes: worked out before anything is written, then made in place, in a copy,
or in a stream. The bytes are the same in each way.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from installer.errors import Exit, HyperError
from iso.image import CHUNK, Image, unreadable
from iso.iso9660 import Extent

_FICLONE = 0x40049409
"""ioctl_ficlone(2): the copy shares the blocks of the original until one is written to."""


@dataclass(frozen=True)
class Patch:
    """Bytes that come to a place; behind the end they make the image longer."""

    offset: int
    content: bytes


def spread(extents: Iterable[Extent], content: bytes) -> Iterator[Patch]:
    """Content of a file, over the extents that it has."""
    at = 0
    for extent in extents:
        piece = content[at : at + extent.length]
        if piece:
            yield Patch(extent.offset, piece)
        at += extent.length


def needed(image: Image, patches: Iterable[Patch]) -> tuple[Patch, ...]:
    """Only what differs from the image, in pieces of a block, in the order of their places."""
    found: list[Patch] = []
    for patch in sorted(patches, key=lambda patch: patch.offset):
        there = image.read(patch.offset, max(0, min(len(patch.content), image.size - patch.offset)))
        if there == patch.content:
            continue
        for at in range(0, len(patch.content), _BLOCK):
            piece = patch.content[at : at + _BLOCK]
            if there[at : at + _BLOCK] != piece:
                last = found[-1] if found else None
                if last and last.offset + len(last.content) == patch.offset + at:
                    found[-1] = Patch(last.offset, last.content + piece)
                else:
                    found.append(Patch(patch.offset + at, piece))
    return tuple(found)


_BLOCK = 4096


def patched(image: Image, patches: Sequence[Patch], size: int | None = None) -> Image:
    """The image as it will be, without writing it; `size` cuts it off."""
    end = size or max([image.size, *(patch.offset + len(patch.content) for patch in patches)])

    def fetch(offset: int, length: int) -> bytes:
        data = bytearray(length)
        there = min(length, max(0, image.size - offset))
        if there:
            data[:there] = image.fetch(offset, there)
        for patch in patches:
            start = max(offset, patch.offset)
            stop = min(offset + length, patch.offset + len(patch.content))
            if start < stop:
                data[start - offset : stop - offset] = patch.content[
                    start - patch.offset : stop - patch.offset
                ]
        return bytes(data)

    return Image(image.name, end, fetch)


def apply(path: Path, patches: Sequence[Patch], size: int | None = None, *, sync: bool = True) -> None:
    """Make the changes in place, and read them back from the medium. Raises HyperError.

    Without `sync` nothing waits for the disk, as with any copy of a file.
    """
    try:
        # O_EXCL: nobody has this disk, or a part of it, mounted (open(2)). For files it means nothing without O_CREAT.
        exclusive = os.O_EXCL if stat.S_ISBLK(path.stat().st_mode) else 0
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | exclusive)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise HyperError(
                f"{path} is in use",
                why="it, or a partition of it, is mounted or belongs to something",
                remedy=f"unmount it (`findmnt`, `lsblk {path}`), and run the same command again",
                code=Exit.busy,
            ) from error
        raise unreadable(path, error) from error
    try:
        for patch in patches:
            at = 0
            while at < len(patch.content):
                at += os.pwrite(descriptor, patch.content[at:], patch.offset + at)
        if size is not None and stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, size)
        if sync:
            os.fsync(descriptor)
        for patch in patches:
            if hasattr(os, "posix_fadvise"):  # not on macOS, where it is read from memory then
                os.posix_fadvise(descriptor, patch.offset, len(patch.content), os.POSIX_FADV_DONTNEED)
            if os.pread(descriptor, len(patch.content), patch.offset) != patch.content:
                raise HyperError(
                    f"{path} does not hold what was written to it",
                    why=f"it reads differently at byte {patch.offset}",
                    remedy="take another stick or disk: this one is broken",
                    code=Exit.step,
                )
    except OSError as error:
        raise HyperError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            remedy="check that it is not write-protected, and run the same command again",
            code=Exit.step,
        ) from error
    finally:
        os.close(descriptor)


def stream(
    image: Image, patches: Sequence[Patch], write: Callable[[bytes], object], size: int | None = None
) -> None:
    """Hand the changed image to `write`, a chunk at a time."""
    for chunk in patched(image, patches, size).chunks():
        write(chunk)


def copy(source: Path, target: Path, patches: Sequence[Patch], size: int | None = None) -> None:
    """A changed copy: it appears under its name when it is whole. Raises HyperError."""
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with source.open("rb") as old, unfinished.open("xb") as new:
            _copy_content(old, new)
        apply(unfinished, patches, size, sync=False)
        unfinished.replace(target)
    except OSError as error:
        raise HyperError(
            f"{target} cannot be written",
            why=error.strerror or str(error),
            remedy="name a file in a folder with room that you may write to",
            code=Exit.failed,
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def _copy_content(old: BinaryIO, new: BinaryIO) -> None:
    """As cp does: shared blocks where the file system can, else without a way through this program, leaving out holes."""
    if stat.S_ISREG(os.fstat(old.fileno()).st_mode):
        with contextlib.suppress(OSError):
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            return
    size = os.lseek(old.fileno(), 0, os.SEEK_END)
    os.ftruncate(new.fileno(), size)
    if not hasattr(os, "SEEK_DATA"):  # not every Python on macOS has it
        _copy_part(old.fileno(), new.fileno(), 0, size)
        return
    place = 0
    while place < size:
        try:
            start = os.lseek(old.fileno(), place, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole until the end
                return
            start = place
        try:
            end = os.lseek(old.fileno(), start, os.SEEK_HOLE)
        except OSError:
            end = size
        _copy_part(old.fileno(), new.fileno(), start, end)
        place = end


def _copy_part(old: int, new: int, start: int, end: int) -> None:
    os.lseek(new, start, os.SEEK_SET)
    while start < end:
        try:
            done = os.copy_file_range(old, new, min(end - start, 1 << 30), start)
        except (OSError, AttributeError):
            os.lseek(new, start, os.SEEK_SET)
            done = os.write(new, os.pread(old, min(CHUNK, end - start), start))
        if done == 0:
            raise OSError(errno.EIO, "the image became shorter while it was copied")
        start += done
