"""The partition tables of a stick: MBR, and GPT with its copy at the end (UEFI 2.10, chapter 5).

An ISO image carries both at once so that a BIOS, UEFI and Linux each find something when it is written to a stick.
"""

import struct
import zlib
from dataclasses import dataclass, replace
from uuid import UUID

from iso.image import Image

SECTOR = 512
SIGNATURE = b"\x55\xaa"
GPT_SIGNATURE = b"EFI PART"
EFI_SYSTEM = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BASIC_DATA = UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
MBR_EFI, MBR_PROTECTIVE = 0xEF, 0xEE
ENTRIES = 1024
"""Most entries that are read; xorriso writes 248 or less."""
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")


@dataclass(frozen=True)
class MbrPartition:
    """One of the four."""

    number: int
    active: bool
    kind: int
    """Type byte; 0 with sectors: xorriso's way to cover the whole image."""
    start: int
    """Sector of 512 bytes."""
    sectors: int

    @property
    def end(self) -> int:
        """First sector behind it."""
        return self.start + self.sectors


@dataclass(frozen=True)
class GptPartition:
    """An entry that is used."""

    number: int
    kind: UUID
    start: int
    """Sector."""
    last: int
    """Last sector, included."""
    name: str


@dataclass(frozen=True)
class Gpt:
    """A header with its entries."""

    sector: int
    """Where the header is."""
    other: int
    """Where it says that the other one is."""
    first_usable: int
    last_usable: int
    disk: UUID
    entries_sector: int
    entry_count: int
    entry_size: int
    table: bytes
    """The entries as they are."""
    problems: tuple[str, ...]

    @property
    def partitions(self) -> tuple[GptPartition, ...]:
        """Those that are used."""
        found = []
        for number in range(self.entry_count):
            entry = self.table[number * self.entry_size : (number + 1) * self.entry_size]
            if len(entry) < 128 or not any(entry[:16]):
                continue
            start, last = struct.unpack_from("<QQ", entry, 32)
            name = entry[56:128].decode("utf-16-le", "replace").partition("\0")[0]
            found.append(GptPartition(number + 1, UUID(bytes_le=entry[:16]), start, last, name))
        return tuple(found)


def read_mbr(image: Image) -> tuple[MbrPartition, ...] | None:
    """The partitions of the MBR; none when there is no MBR."""
    if image.size < SECTOR:
        return None
    sector = image.read(0, SECTOR)
    if sector[510:] != SIGNATURE:
        return None
    found = []
    for number in range(4):
        entry = sector[446 + 16 * number : 462 + 16 * number]
        start, sectors = struct.unpack_from("<II", entry, 8)
        if sectors:
            found.append(MbrPartition(number + 1, entry[0] == 0x80, entry[4], start, sectors))
    return tuple(found)


def read_gpt(image: Image, sector: int = 1) -> Gpt | None:
    """The GPT whose header is in this sector; none when there is none, or its entries lie beyond the image."""
    if sector < 1 or (sector + 1) * SECTOR > image.size:
        return None
    block = image.read(sector * SECTOR, SECTOR)
    (
        signature,
        _revision,
        size,
        checksum,
        _,
        here,
        other,
        first,
        last,
        disk,
        entries,
        many,
        each,
        table_checksum,
    ) = _HEADER.unpack_from(block)
    if signature != GPT_SIGNATURE or not _HEADER.size <= size <= SECTOR:
        return None
    if many > ENTRIES or not 128 <= each <= 1024 or entries * SECTOR + many * each > image.size:
        return None
    table = image.read(entries * SECTOR, many * each)
    problems = []
    if zlib.crc32(block[:16] + bytes(4) + block[20:size]) != checksum:
        problems.append("the checksum of its header does not fit")
    if zlib.crc32(table) != table_checksum:
        problems.append("the checksum of its entries does not fit")
    if here != sector:
        problems.append(f"it is in sector {sector} and says {here}")
    return Gpt(
        sector=sector,
        other=other,
        first_usable=first,
        last_usable=last,
        disk=UUID(bytes_le=disk),
        entries_sector=entries,
        entry_count=many,
        entry_size=each,
        table=table,
        problems=tuple(problems),
    )


def table_sectors(gpt: Gpt) -> int:
    """Sectors that the entries take."""
    return -(-gpt.entry_count * gpt.entry_size // SECTOR)


def header(gpt: Gpt) -> bytes:
    """The sector of a header, with its checksums."""
    made = _HEADER.pack(
        GPT_SIGNATURE,
        0x10000,
        _HEADER.size,
        0,
        0,
        gpt.sector,
        gpt.other,
        gpt.first_usable,
        gpt.last_usable,
        gpt.disk.bytes_le,
        gpt.entries_sector,
        gpt.entry_count,
        gpt.entry_size,
        zlib.crc32(gpt.table),
    )
    return (made[:16] + struct.pack("<I", zlib.crc32(made)) + made[20:]).ljust(SECTOR, b"\0")


def both(gpt: Gpt, sectors: int) -> tuple[tuple[int, bytes], ...]:
    """What to write where (offset in bytes, content) for a primary GPT on a disk of this many sectors: its header, its
    entries, and the copy of both in the last sectors.
    """
    room = table_sectors(gpt)
    primary = replace(gpt, other=sectors - 1, last_usable=sectors - room - 2)
    copy = replace(primary, sector=sectors - 1, other=gpt.sector, entries_sector=sectors - 1 - room)
    table = gpt.table.ljust(room * SECTOR, b"\0")
    return (
        (gpt.entries_sector * SECTOR, table),
        (copy.entries_sector * SECTOR, table),
        (copy.sector * SECTOR, header(copy)),
        # Last, so that until then the old copy is the one that is named.
        (primary.sector * SECTOR, header(primary)),
    )


def with_partition(gpt: Gpt, partition: GptPartition, unique: UUID) -> Gpt:
    """The same with this entry instead of what was there."""
    entry = (
        partition.kind.bytes_le + unique.bytes_le + struct.pack("<QQQ", partition.start, partition.last, 0)
    )
    entry = (entry + partition.name.encode("utf-16-le")).ljust(gpt.entry_size, b"\0")
    start = (partition.number - 1) * gpt.entry_size
    return replace(gpt, table=gpt.table[:start] + entry + gpt.table[start + gpt.entry_size :])


def mbr_entry(number: int, active: bool, kind: int, start: int, sectors: int) -> tuple[int, bytes]:
    """Offset and content of an entry of the MBR. Addresses by cylinder are those that no disk has (UEFI 2.10, 5.2.1)."""
    content = struct.pack(
        "<B3sB3sII", 0x80 if active else 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start, sectors
    )
    return 446 + 16 * (number - 1), content
