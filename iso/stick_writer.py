"""Writes an image to a disk and reads it back: past the page cache, with the boot sector last, and with a look whether the
disk has the size that it claims.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import secrets
import stat
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from installer.answers.sizes import GIB, MIB, format_size
from installer.errors import Exit, HyperError
from iso.patches import Patch

CHUNK = 4 * MIB
"""Bytes that are written at once."""
_BLKFLSBUF = 0x1261
"""ioctl: forget what the page cache has of a block device (linux/fs.h)."""
_MARK = 4096
_AHEAD = 2
"""Chunks in memory: one in use, the other filled meanwhile. More than two leave the processor's cache sooner."""


class Target(Protocol):
    """A disk that is written to."""

    @property
    def size(self) -> int:
        """Bytes."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of it; OSError."""

    def read(self, offset: int, data: memoryview) -> None:
        """Fill it, from the disk and not from memory; OSError."""

    def sync(self) -> None:
        """Wait until everything has reached the disk, and forget what was read or written; OSError."""


def write_all(descriptor: int, offset: int, data: memoryview) -> None:
    """Write all of it there; OSError."""
    while data:
        done = os.pwrite(descriptor, data, offset)
        offset, data = offset + done, data[done:]


def read_all(descriptor: int, offset: int, data: memoryview) -> None:
    """Fill it from there; OSError."""
    while data:
        done = os.preadv(descriptor, [data], offset)
        if done == 0:
            raise OSError(errno.EIO, f"the disk ends at byte {offset}")
        offset, data = offset + done, data[done:]


class DirectDevice:
    """A block device or file past the page cache (open(2), O_DIRECT), claimed for us alone."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC
        if stat.S_ISBLK(path.stat().st_mode):
            flags |= os.O_EXCL
        try:
            self.descriptor = os.open(path, flags | getattr(os, "O_DIRECT", 0))
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system without it, as tmpfs
                raise
            self.descriptor = os.open(path, flags)
        self._size = os.lseek(self.descriptor, 0, os.SEEK_END)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of it."""
        write_all(self.descriptor, offset, data)

    def read(self, offset: int, data: memoryview) -> None:
        """Fill it."""
        read_all(self.descriptor, offset, data)

    def sync(self) -> None:
        """Wait, and forget."""
        os.fsync(self.descriptor)
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        with contextlib.suppress(OSError):  # not for files; for disks only as root
            fcntl.ioctl(self.descriptor, _BLKFLSBUF)

    def close(self) -> None:
        """Let others have it."""
        os.close(self.descriptor)


@dataclass(frozen=True)
class Source:
    """An image file with changes, as far as it goes on the disk."""

    descriptor: int
    size: int
    patches: tuple[Patch, ...]

    def fill(self, offset: int, data: memoryview) -> None:
        """What belongs at this place of the disk."""
        there = max(0, min(len(data), self.size - offset))
        done = 0
        while done < there:
            got = os.preadv(self.descriptor, [data[done:there]], offset + done)
            if got == 0:
                raise HyperError(
                    "the image became shorter while it was read",
                    why=f"it had {self.size} bytes, and ends at {offset + done} now",
                    remedy="wait until whoever writes it is done, then run the same command with --resume",
                    code=Exit.medium,
                )
            done += got
        if there < len(data):
            data[there:] = bytes(len(data) - there)
        for patch in self.patches:
            start, stop = (
                max(offset, patch.offset),
                min(offset + len(data), patch.offset + len(patch.content)),
            )
            if start < stop:
                data[start - offset : stop - offset] = patch.content[
                    start - patch.offset : stop - patch.offset
                ]

    def places(self, end: int) -> list[tuple[int, int]]:
        """Offset and length of everything that is written to a disk of `end` bytes, in order."""
        found = set(range(0, self.size, CHUNK))
        for patch in self.patches:
            first = patch.offset // CHUNK * CHUNK
            found |= set(range(first, patch.offset + len(patch.content), CHUNK))
        return [(place, min(CHUNK, end - place)) for place in sorted(found)]


@dataclass
class Course:
    """How far it is, for those who watch."""

    what: str
    done: int
    total: int
    seconds: float

    @property
    def speed(self) -> float:
        """Bytes a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


Watch = Callable[[Course], None]


def broken(what: str, why: str) -> HyperError:
    """The error for a disk that does not do what it should."""
    return HyperError(
        what, why=why, remedy="take another stick: this one cannot be trusted with anything", code=Exit.step
    )


def failed(verb: str, error: OSError) -> HyperError:
    """The error for a disk that reports one."""
    return HyperError(
        f"the disk cannot be {verb}",
        why=error.strerror or str(error),
        remedy="plug it in again, directly and not through a hub, and run the same command with --resume; if it fails "
        "again, take another stick",
        code=Exit.step,
    )


def buffers(count: int) -> list[mmap.mmap]:
    """Memory at page boundaries, as O_DIRECT wants it."""
    return [mmap.mmap(-1, CHUNK) for _ in range(count)]


def marks(size: int, source: Source) -> dict[int, bytes]:
    """Marks to be written behind an image, one at least every length of the image. A false disk whose addresses begin
    anew behind its real end gets one of them into the image, whatever that end is: the first mark behind it is less
    than the image's length behind it.
    """
    step = max(source.size // _MARK * _MARK, size // MOST_MARKS // _MARK * _MARK, MIB)
    taken = {place // CHUNK for place, _ in source.places(size)}
    places = [*range(step, size - _MARK, step), (size - _MARK) // _MARK * _MARK]
    return {place: _mark(place) for place in places if place // CHUNK not in taken}


MOST_MARKS = 4096
"""More would take longer than the image; only of disks over 4096 times as large something may go unnoticed."""


def _mark(place: int) -> bytes:
    return place.to_bytes(8, "little") + secrets.token_bytes(_MARK - 8)


def check_size(target: Target, needed: int) -> None:
    """Before long is spent on it: write marks all over the disk and look whether each is kept. What begins anew behind its
    real end shows only when the image is read back, see `marks`.

    Raises:
        HyperError: it lies (Exit.step).
    """
    places = sorted({*_doubling(target.size), target.size - _MARK})
    put = {place: _mark(place) for place in places}
    [memory] = buffers(1)
    view = memoryview(memory)[:_MARK]
    try:
        for place in places:
            view[:] = put[place]
            target.write(place, view)
        target.sync()
        for number, place in enumerate(places):
            view[:] = bytes(_MARK)
            try:
                target.read(place, view)
                kept = view == put[place]
            except OSError:
                kept = False
            if not kept:
                real = places[number - 1] if number else 0
                raise broken(
                    "the disk lies about its size",
                    f"it claims {format_size(target.size)}, and does not keep what is written at "
                    f"{format_size(place)}; it has {format_size(real)} or a little more, the image needs "
                    f"{format_size(needed)}",
                )
    except OSError as error:
        raise broken(
            "the disk lies about its size, or is broken",
            f"it claims {format_size(target.size)}, and a mark cannot be written: {error.strerror}",
        ) from error


def _doubling(size: int) -> Iterator[int]:
    """Places that become rarer, from 64 MiB on; every 4 GiB at the least, as sticks have sizes that are no powers of two."""
    place = 64 * MIB
    while place < size - _MARK:
        yield place
        place += min(place, 4 * GIB)


def _in_turn(
    fill: Callable[[int, memoryview], None], places: Sequence[tuple[int, int]]
) -> Generator[tuple[int, memoryview]]:
    """What is at each place, in order, in memory that is used again once the next is asked for. A thread fills it ahead, so
    that the image and the disk do not wait for each other: Python lets others run while the kernel reads, writes, or
    compares.
    """
    free: SimpleQueue[memoryview | None] = SimpleQueue()
    full: SimpleQueue[memoryview | BaseException] = SimpleQueue()
    for memory in buffers(_AHEAD):
        free.put(memoryview(memory))

    def ahead() -> None:
        try:
            for place, length in places:
                view = free.get()
                if view is None:
                    return
                fill(place, view[:length])
                full.put(view)
        except BaseException as error:
            full.put(error)  # raised where what it should have filled is wanted

    thread = Thread(target=ahead, name="reading ahead", daemon=True)
    thread.start()
    try:
        for place, length in places:
            got = full.get()
            if isinstance(got, BaseException):
                raise got
            yield place, got[:length]
            free.put(got)
    finally:
        free.put(None)
        while thread.is_alive():
            thread.join()


def same(one: memoryview, other: memoryview) -> bool:
    """Whether they hold the same: in one sweep and without copies, where memoryviews are compared item by item."""
    if len(one) != len(other):
        return False
    first, second = (ctypes.c_char.from_buffer(each) for each in (one, other))
    return bool(_memcmp(ctypes.byref(first), ctypes.byref(second), len(one)) == 0)


_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def write(
    target: Target,
    source: Source,
    watch: Watch,
    put: Mapping[int, bytes] | None = None,
    *,
    resume: bool = False,
) -> int:
    """Write it, the first chunk last, and marks behind it; what is there of an interrupted writing is kept with `resume`.

    Returns:
        Bytes that were there already.

    Raises:
        HyperError: the disk reports an error (Exit.step).
    """
    places = source.places(target.size)
    rest, first = places[1:], places[0]
    kept = _kept(target, source, rest, watch) if resume else 0
    rest = rest[kept:]
    total = sum(length for _, length in (*rest, first))
    done, started = 0, time.monotonic()
    try:
        # Nothing boots from a disk that is half written.
        [memory] = buffers(1)
        target.write(0, memoryview(memory)[: min(MIB, first[1])])
        with closing(_in_turn(source.fill, rest)) as chunks:
            for place, data in chunks:
                target.write(place, data)
                done += len(data)
                watch(Course("writing", done, total, time.monotonic() - started))
        view = memoryview(memory)
        for place, mark in (put or {}).items():
            view[:_MARK] = mark
            target.write(place, view[:_MARK])
        source.fill(0, view[: first[1]])
        target.write(0, view[: first[1]])
        watch(Course("writing", total, total, time.monotonic() - started))
        target.sync()
    except OSError as error:
        raise failed("written", error) from error
    return sum(length for _, length in places[1 : kept + 1])


def _kept(target: Target, source: Source, places: Sequence[tuple[int, int]], watch: Watch) -> int:
    """How many chunks of an interrupted writing are there."""
    [memory] = buffers(1)
    view, started = memoryview(memory), time.monotonic()
    total = sum(length for _, length in places)
    done = 0
    with closing(_in_turn(source.fill, places)) as chunks:
        for number, (place, data) in enumerate(chunks):
            try:
                target.read(place, view[: len(data)])
            except OSError:
                return number
            if not same(view[: len(data)], data):
                return number
            done += len(data)
            watch(Course("comparing", done, total, time.monotonic() - started))
    return len(places)


def read_back(target: Target, source: Source, watch: Watch, put: Mapping[int, bytes] | None = None) -> None:
    """Compare the disk with what belongs there, byte by byte, and look for the marks. Raises HyperError (Exit.step)."""
    put = put or {}
    places = source.places(target.size)
    total = sum(length for _, length in places)
    [memory] = buffers(1)
    view, done, started = memoryview(memory), 0, time.monotonic()
    try:
        target.sync()
        with closing(_in_turn(target.read, places)) as chunks:
            for place, here in chunks:
                data = view[: len(here)]
                source.fill(place, data)
                if not same(here, data):
                    at = next(n for n in range(len(data)) if here[n] != data[n])
                    start = at // _MARK * _MARK
                    if (mark := here[start : start + _MARK].tobytes()) in put.values():
                        there = next(place for place, each in put.items() if each == mark)
                        raise _lies(target, there - place - start)
                    raise broken(
                        "the disk does not hold what was written to it",
                        f"it reads differently at byte {place + at}",
                    )
                done += len(data)
                watch(Course("reading back", done, total, time.monotonic() - started))
        for place, mark in put.items():
            target.read(place, view[:_MARK])
            if view[:_MARK] != mark:
                raise _lies(target, place)
    except OSError as error:
        raise failed("read back", error) from error


def _lies(target: Target, most: int) -> HyperError:
    return broken(
        "the disk lies about its size",
        f"it claims {format_size(target.size)} and has {format_size(most)} at most: what is written behind its real end is "
        "lost, or comes over what is there",
    )
