"""Finds files in a FAT file system (Microsoft EFI FAT32 File System Specification 1.03), as EFI system partitions have,
and where their bytes are. It only reads; mtools writes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from iso.image import Image, damaged
from iso.iso9660 import Extent

LARGEST_DIRECTORY = 4 << 20
_LONG_NAME = 0x0F
_DIRECTORY, _VOLUME = 0x10, 0x08


@dataclass(frozen=True)
class FatEntry:
    """A file or directory."""

    name: str
    extents: tuple[Extent, ...]
    """In bytes from the start of the file system; of the last one only what the file has."""
    size: int
    is_directory: bool


@dataclass(frozen=True)
class Fat:
    """The boot sector, as far as it is needed."""

    bits: int
    """12, 16 or 32."""
    cluster: int
    """Bytes of a cluster."""
    data: int
    """Where cluster 2 begins, in bytes."""
    clusters: int
    table: int
    """Where the first FAT begins."""
    size: int
    """Bytes of the whole."""
    root: tuple[Extent, ...]
    serial: int
    label: str


def read_fat(image: Image) -> Fat | None:
    """The file system; none when it is no FAT. Raises HyperError for one that contradicts itself."""
    if image.size < 512:
        return None
    sector = image.read(0, 512)
    each, per, reserved, fats, root_entries, small, _, fat16 = struct.unpack_from("<HBHBHHBH", sector, 11)
    large, fat32 = struct.unpack_from("<I", sector, 32)[0], struct.unpack_from("<I", sector, 36)[0]
    if (
        sector[510:] != b"\x55\xaa"
        or each not in (512, 1024, 2048, 4096)
        or per not in {1 << n for n in range(8)}
    ):
        return None
    total, table = small or large, fat16 or fat32
    root_sectors = -(-root_entries * 32 // each)
    first = reserved + fats * table + root_sectors
    if not reserved or fats not in (1, 2) or not table or first >= total:
        return None
    clusters = (total - first) // per
    bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
    where = 67 if bits == 32 else 39
    fat = Fat(
        bits=bits,
        cluster=per * each,
        data=first * each,
        clusters=clusters,
        table=reserved * each,
        size=total * each,
        root=(Extent((reserved + fats * table) * each, root_entries * 32),),
        serial=struct.unpack_from("<I", sector, where)[0],
        label=sector[where + 4 : where + 15].decode("ascii", "replace").rstrip(),
    )
    if total * each > image.size:
        raise damaged(image.name, f"its file system claims {total * each} bytes, and there are {image.size}")
    if bits < 32:
        return fat
    start = struct.unpack_from("<I", sector, 44)[0]
    return Fat(**{**vars(fat), "root": _chain(image, fat, start, LARGEST_DIRECTORY)})


def _next(image: Image, fat: Fat, cluster: int) -> int:
    match fat.bits:
        case 12:
            pair = int.from_bytes(image.read(fat.table + cluster * 3 // 2, 2), "little")
            return pair >> 4 if cluster & 1 else pair & 0xFFF
        case 16:
            return int.from_bytes(image.read(fat.table + cluster * 2, 2), "little")
    return int.from_bytes(image.read(fat.table + cluster * 4, 4), "little") & 0x0FFFFFFF


def _chain(image: Image, fat: Fat, cluster: int, size: int) -> tuple[Extent, ...]:
    """Extents of a chain of clusters, up to `size` bytes: a chain that runs in a circle ends there too."""
    found: list[Extent] = []
    while size > 0 and 2 <= cluster < fat.clusters + 2:
        offset, length = fat.data + (cluster - 2) * fat.cluster, min(size, fat.cluster)
        if found and found[-1].offset + found[-1].length == offset:
            found[-1] = Extent(found[-1].offset, found[-1].length + length)
        else:
            found.append(Extent(offset, length))
        size -= length
        cluster = _next(image, fat, cluster)
    return tuple(found)


def entries(image: Image, fat: Fat, extents: tuple[Extent, ...]) -> Iterator[FatEntry]:
    """What is in a directory, without `.` and `..`; names as they were given."""
    data = b"".join(image.read(extent.offset, extent.length) for extent in extents)
    long: dict[int, str] = {}
    for at in range(0, len(data) - 31, 32):
        record = data[at : at + 32]
        if record[0] == 0:
            return
        if record[0] == 0xE5:
            long = {}
            continue
        if record[11] == _LONG_NAME:
            piece = record[1:11] + record[14:26] + record[28:32]
            long[record[0] & 0x1F] = piece.decode("utf-16-le", "replace").partition("\0")[0]
            continue
        stem = record[:8].decode("ascii", "replace").rstrip()
        ending = record[8:11].decode("ascii", "replace").rstrip()
        # Windows NT's way to keep short names that are all lower case.
        stem = stem.lower() if record[12] & 0x08 else stem
        ending = ending.lower() if record[12] & 0x10 else ending
        short = f"{stem}.{ending}" if ending else stem
        name = "".join(long[number] for number in sorted(long)) or short
        long = {}
        if record[11] & _VOLUME or short in (".", ".."):
            continue
        low, size = struct.unpack_from("<HI", record, 26)
        cluster = low | (struct.unpack_from("<H", record, 20)[0] << 16 if fat.bits == 32 else 0)
        is_directory = bool(record[11] & _DIRECTORY)
        room = LARGEST_DIRECTORY if is_directory else min(size, image.size)
        yield FatEntry(name, _chain(image, fat, cluster, room), size, is_directory)


def find(image: Image, fat: Fat, path: str) -> FatEntry | None:
    """The file or directory at a path, whatever its case; none when it is not there."""
    extents, found = fat.root, None
    for part in filter(None, path.split("/")):
        found = next(
            (entry for entry in entries(image, fat, extents) if entry.name.lower() == part.lower()), None
        )
        if found is None:
            return None
        extents = found.extents if found.is_directory else ()
    return found


def content(image: Image, entry: FatEntry, largest: int = 1 << 24) -> bytes:
    """The bytes of a small file. Raises HyperError when it is larger, or cut off."""
    if entry.size > largest or sum(extent.length for extent in entry.extents) != entry.size:
        raise damaged(image.name, f"{entry.name!r} is damaged: its clusters do not hold {entry.size} bytes")
    return b"".join(image.read(extent.offset, extent.length) for extent in entry.extents)
