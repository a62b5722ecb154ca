"""GUID partition tables written byte by byte, with whatever attributes, names and places a test wants."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from installer.facts.disks import Filesystem, Partition

ENTRIES, LENGTH = 128, 128
DISK = UUID("0b1e55ed-5eed-4a11-9ab1-e0ddba11f00d")
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
MSR = "e3c9e316-0b5c-4db8-817d-f92df00215ae"
DATA = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
RECOVERY = "de94bba4-06d1-4d40-a16a-bfd50179d6ac"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"


@dataclass(frozen=True)
class Entry:
    """One partition."""

    number: int
    start: int
    """Bytes."""
    size: int
    """Bytes."""
    type: str = LINUX
    guid: str = ""
    name: str = ""
    attributes: int = 0
    kind: str | None = None
    """What blkid would find."""
    uuid: str | None = None
    """Its UUID."""

    @property
    def identity(self) -> str:
        """GUID, which follows from the number where none is given."""
        return self.guid or f"6f2d1c3e-4b5a-4c6d-8e7f-{self.number:012x}"

    def partition(self, disk: str) -> Partition:
        """As the probe finds it."""
        filesystem = (
            Filesystem(kind=self.kind, uuid=self.uuid or f"uuid-{self.number}") if self.kind else None
        )
        return Partition(
            number=self.number,
            name=f"{disk}p{self.number}",
            start=self.start,
            size=self.size,
            type_uuid=self.type,
            part_uuid=self.identity,
            label=self.name or None,
            filesystem=filesystem,
        )

    def raw(self, sector: int) -> bytes:
        """As it stands in the table."""
        return struct.pack(
            "<16s16sQQQ72s",
            UUID(self.type).bytes_le,
            UUID(self.identity).bytes_le,
            self.start // sector,
            (self.start + self.size) // sector - 1,
            self.attributes,
            self.name.encode("utf-16-le"),
        )


def write_gpt(path: str | Path, entries: tuple[Entry, ...], size: int, sector: int = 512) -> None:
    """Write both copies and the protective MBR (UEFI specification 2.10, section 5.3); the rest stays."""
    array = bytearray(ENTRIES * LENGTH)
    for entry in entries:
        array[(entry.number - 1) * LENGTH : entry.number * LENGTH] = entry.raw(sector)
    sectors, length = size // sector, -(-len(array) // sector)
    last = sectors - 1
    first_usable, last_usable = 2 + length, last - length - 1

    def header(own: int, other: int, start: int) -> bytes:
        def packed(checksum: int) -> bytes:
            return struct.pack(
                "<8sIIIIQQQQ16sQIII",
                *(b"EFI PART", 0x10000, 92, checksum, 0, own, other, first_usable, last_usable),
                *(DISK.bytes_le, start, ENTRIES, LENGTH, zlib.crc32(array)),
            )

        return packed(zlib.crc32(packed(0))).ljust(sector, b"\0")

    covered = min(last, 0xFFFFFFFF)
    record = bytes(446) + struct.pack("<B3sB3sII", 0, b"\0\x02\0", 0xEE, b"\xff" * 3, 1, covered)
    with Path(path).open("r+b") as disk:
        disk.write(record.ljust(510, b"\0") + b"\x55\xaa")
        disk.seek(sector)
        disk.write(header(1, last, 2) + array)
        disk.seek((last - length) * sector)
        disk.write(array.ljust(length * sector, b"\0") + header(last, 1, last - length))
