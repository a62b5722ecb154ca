"""The file system of an ISO image (ECMA-119), with the long names of Rock Ridge (IEEE P1282, SUSP 1.12).

It finds where the bytes of a file are, so that they can be overwritten in place. Numbers in the image are believed only
after they were held against its size; no directory is read twice, and no chain followed for ever.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from iso.image import Image, damaged

BLOCK = 2048
"""Bytes of a logical sector."""
FIRST = 16
"""Sector of the first volume descriptor (ECMA-119, 6.2.1)."""
SYSTEM_AREA = FIRST * BLOCK
IDENTIFIER = b"CD001"
DESCRIPTORS = 64
"""How many volume descriptors are looked at; real images have three to five."""
LARGEST_DIRECTORY = 32 << 20
DEPTH = 64
DIRECTORIES = 100_000
CONTINUATIONS = 64
"""Continuation areas that the fields of one record may be spread over."""
_DIRECTORY, _MORE = 0x02, 0x80
"""File flags (ECMA-119, 9.1.6): a directory; another extent of the file follows."""


@dataclass(frozen=True)
class Extent:
    """Bytes of a file that lie together."""

    offset: int
    """From the start of the image, in bytes."""
    length: int
    """Bytes."""


@dataclass(frozen=True)
class Entry:
    """A file or directory."""

    name: str
    extents: tuple[Extent, ...]
    is_directory: bool
    record: int = 0
    """Where its (first) directory record is, in bytes; 0: the root."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(extent.length for extent in self.extents)


@dataclass(frozen=True)
class Volume:
    """What the primary volume descriptor tells (ECMA-119, 8.4)."""

    label: str
    """Volume identifier: the live system finds its medium by it."""
    blocks: int
    """Size of the file system in blocks."""
    root: Entry
    skip: int
    """Bytes before the fields of Rock Ridge in each record (SUSP, SP)."""
    descriptors: tuple[tuple[int, int], ...]
    """Kind and sector of each volume descriptor."""
    created: str
    """When it was made, as digits: xorriso makes the file system's UUID of it."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.blocks * BLOCK


def is_iso(image: Image) -> bool:
    """Whether it looks like an ISO image at all."""
    at = SYSTEM_AREA
    return image.size >= at + BLOCK and image.read(at + 1, 5) == IDENTIFIER


def read_volume(image: Image) -> Volume:
    """The volume. Raises HyperError (Exit.medium)."""
    if not is_iso(image):
        raise damaged(image.name, "it is no ISO image: there is no volume descriptor at byte 32768")
    found: list[tuple[int, int]] = []
    primary = None
    for sector in range(FIRST, FIRST + DESCRIPTORS):
        block = image.read(sector * BLOCK, BLOCK)
        if block[1:6] != IDENTIFIER:
            raise damaged(image.name, f"sector {sector} should be a volume descriptor and is none")
        found.append((block[0], sector))
        if block[0] == 1 and primary is None:
            primary = block
        if block[0] == 255:
            break
    else:
        raise damaged(image.name, f"its list of volume descriptors does not end within {DESCRIPTORS}")
    if primary is None:
        raise damaged(image.name, "it has no primary volume descriptor")
    if int.from_bytes(primary[128:130], "little") != BLOCK:
        raise damaged(image.name, "its blocks do not have 2048 bytes")
    root = _record(image, primary[156:190], 0, 0)
    if root is None or not root.is_directory:
        raise damaged(image.name, "its root is no directory")
    return Volume(
        label=primary[40:72].decode("ascii", "replace").rstrip(" \0"),
        blocks=int.from_bytes(primary[80:84], "little"),
        root=root,
        skip=_skip(image, root),
        descriptors=tuple(found),
        created=primary[813:829].decode("ascii", "replace"),
    )


def _skip(image: Image, root: Entry) -> int:
    first = image.read(root.extents[0].offset, min(255, root.size))
    area = first[34 : first[0]] if first and first[0] > 34 else b""
    at = area.find(b"SP\x07\x01\xbe\xef")
    return area[at + 6] if at >= 0 and at + 7 <= len(area) else 0


def entries(image: Image, volume: Volume, directory: Entry) -> Iterator[Entry]:
    """What is in a directory, in its order, without `.` and `..`; extents of one file are put together."""
    if directory.size > LARGEST_DIRECTORY:
        raise damaged(image.name, f"the directory {directory.name!r} claims {directory.size} bytes")
    begun: Entry | None = None
    for extent in directory.extents:
        data = image.read(extent.offset, extent.length)
        at = 0
        while at < len(data):
            length = data[at]
            if (
                length == 0
            ):  # records do not cross sectors: the rest of this one is empty (ECMA-119, 6.8.1.1)
                at = (at // BLOCK + 1) * BLOCK
                continue
            record = data[at : at + length]
            if length < 34 or len(record) < length or 33 + record[32] > length:
                raise damaged(image.name, f"the directory {directory.name!r} is damaged at byte {at}")
            at += length
            if record[33 : 33 + record[32]] in (b"\0", b"\1"):
                continue
            entry = _record(image, record, extent.offset + at - length, volume.skip)
            if entry is None:
                continue
            if begun is not None:
                entry = Entry(begun.name, begun.extents + entry.extents, begun.is_directory, begun.record)
            begun = entry if record[25] & _MORE else None
            if begun is None:
                yield entry


def _record(image: Image, record: bytes, offset: int, skip: int) -> Entry | None:
    block, length = struct.unpack_from("<I4xI", record, 2)
    block += record[1]  # the extended attribute record comes first (ECMA-119, 9.1.2)
    is_directory = bool(record[25] & _DIRECTORY)
    name = record[33 : 33 + record[32]]
    text = name.decode("ascii", "replace")
    if not is_directory:
        text = text.partition(";")[0].removesuffix(".")
    fields = _Fields(image, record[33 + record[32] + (record[32] + 1) % 2 + skip :])
    if fields.relocated:  # a deep directory's second entry: it is found where it belongs
        return None
    if fields.child is not None:
        block, is_directory = fields.child, True
        first = image.read(block * BLOCK, 34)
        length = int.from_bytes(first[10:14], "little")
    extent = Extent(block * BLOCK, length)
    if extent.offset + length > image.size:
        raise damaged(
            image.name,
            f"{fields.name or text!r} should end at byte {extent.offset + length}, and the image has {image.size}: "
            "it was cut off",
        )
    return Entry(fields.name or text, (extent,), is_directory, offset)


class _Fields:
    """Rock Ridge fields of a record: the name, and where a deep directory went."""

    def __init__(self, image: Image, area: bytes) -> None:
        self.child: int | None = None
        self.relocated = False
        name = b""
        for _ in range(CONTINUATIONS):
            more, at = None, 0
            while at + 4 <= len(area):
                kind, length = area[at : at + 2], area[at + 2]
                if length < 4 or at + length > len(area):
                    break
                field, at = area[at : at + length], at + length
                match kind:
                    case b"NM" if length > 5:
                        name += field[5:]
                    case b"CL" if length >= 8:
                        self.child = int.from_bytes(field[4:8], "little")
                    case b"RE":
                        self.relocated = True
                    case b"CE" if length >= 24:
                        place, offset, many = (
                            int.from_bytes(field[start : start + 4], "little") for start in (4, 12, 20)
                        )
                        more = (place * BLOCK + offset, min(many, BLOCK))
                    case b"ST":
                        break
            if more is None:
                break
            area = image.read(*more)
        self.name = name.decode("utf-8", "replace")


def find(image: Image, volume: Volume, path: str) -> Entry | None:
    """The file or directory at a path; none when it is not there. Without Rock Ridge names are upper case."""
    here = volume.root
    for part in filter(None, path.split("/")):
        if not here.is_directory:
            return None
        named = list(entries(image, volume, here))
        found = next((entry for entry in named if entry.name == part), None)
        found = found or next((entry for entry in named if entry.name == part.upper()), None)
        if found is None:
            return None
        here = found
    return here


def walk(image: Image, volume: Volume) -> Iterator[tuple[str, Entry]]:
    """Everything below the root, with its path. Raises HyperError for directories that contain each other."""
    seen = {volume.root.extents}
    waiting = [("", volume.root, 0)]
    while waiting:
        path, directory, depth = waiting.pop()
        for entry in entries(image, volume, directory):
            below = f"{path}/{entry.name}".lstrip("/")
            yield below, entry
            if not entry.is_directory:
                continue
            if entry.extents in seen or depth >= DEPTH or len(seen) >= DIRECTORIES:
                raise damaged(image.name, f"the directory {below!r} contains itself, or lies too deep")
            seen.add(entry.extents)
            waiting.append((below, entry, depth + 1))


def content(image: Image, entry: Entry, largest: int = 1 << 24) -> bytes:
    """The bytes of a small file. Raises HyperError when it is larger than `largest`."""
    if entry.size > largest:
        raise damaged(image.name, f"{entry.name!r} has {entry.size} bytes, more than it can have")
    return b"".join(image.read(extent.offset, extent.length) for extent in entry.extents)
