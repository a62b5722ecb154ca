"""Unified kernel images: a stub for UEFI with more sections, which it reads when it is started. Files in, files out.

Layout: Microsoft, PE Format (headers, section table). Names of sections: UAPI group, Unified Kernel Image; systemd-stub(7).
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from installer.errors import HyperError

FOLDER = "EFI/Linux"
"""Where boot loaders look for them (UAPI group, Boot Loader Specification, type 2)."""
CHUNK = 1 << 20
INITIALIZED, READABLE = 0x00000040, 0x40000000
"""IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ."""
_COFF = struct.Struct("<HHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")
_PLUS = 0x20B
"""PE32+: the optional header of 64-bit images."""
_SECURITY = 4
"""Which data directory tells of signatures."""


@dataclass(frozen=True)
class Section:
    """One entry of the section table."""

    name: str
    size: int
    """Bytes in memory, without what fills the file up."""
    address: int
    """In memory, from the image's beginning."""
    stored: int
    """Bytes in the file."""
    offset: int
    """In the file."""


@dataclass(frozen=True)
class Image:
    """What the headers tell."""

    table: int
    """Where the section table begins in the file."""
    optional: int
    """Where the optional header begins."""
    headers: int
    """Bytes that headers may take."""
    alignment: int
    """Of sections in memory."""
    file_alignment: int
    """Of sections in the file."""
    signed: bool
    """Whether it carries signatures."""
    sections: tuple[Section, ...]


def read(path: Path) -> Image:
    """The headers of a 64-bit image. Raises HyperError naming what is wrong with the file."""
    with path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(4096)
        try:
            (start,) = struct.unpack_from("<I", head, 0x3C)
            if head[:2] != b"MZ" or head[start : start + 4] != b"PE\0\0":
                raise _wrong(path, "it does not begin as one (MZ, PE)")
            coff = _COFF.unpack_from(head, start + 4)
            optional, count = start + 24, coff[1]
            if struct.unpack_from("<H", head, optional)[0] != _PLUS:
                raise _wrong(path, "it is not of 64 bits (PE32+)")
            alignment, file_alignment = struct.unpack_from("<II", head, optional + 32)
            (headers,) = struct.unpack_from("<I", head, optional + 60)
            (_, signatures) = struct.unpack_from("<II", head, optional + 112 + 8 * _SECURITY)
            table = optional + coff[5]
            sections = tuple(_sections(head, table, count))
        except struct.error as error:
            raise _wrong(path, f"its headers end early ({error})") from error
    if not alignment or not file_alignment:
        raise _wrong(path, "its sections have no alignment")
    for each in sections:
        if each.offset + each.stored > size:
            raise _wrong(path, f"section {each.name} ends behind the file")
    return Image(table, optional, headers, alignment, file_alignment, bool(signatures), sections)


def _sections(head: bytes, table: int, count: int) -> Iterator[Section]:
    for number in range(count):
        name, size, address, stored, offset, *_ = _SECTION.unpack_from(head, table + number * _SECTION.size)
        yield Section(name.rstrip(b"\0").decode("ascii", "replace"), size, address, stored, offset)


def section(path: Path, name: str) -> bytes | None:
    """What is in a section; none where the image has none of that name. Raises HyperError."""
    found = next((each for each in read(path).sections if each.name == name), None)
    if found is None:
        return None
    with path.open("rb") as file:
        file.seek(found.offset)
        return file.read(min(found.size, found.stored))


def unify(stub: Path, sections: Mapping[str, Path | bytes], target: Path) -> None:
    """Write the stub with further sections, in their order, each behind the last in memory and in the file.

    Raises:
        HyperError: The stub is no such image, is signed (its signature would not hold), has a section of that name, or
            has no room for further headers.
    """
    image = read(stub)
    room = min([image.headers, *(each.offset for each in image.sections if each.offset)])
    count = len(image.sections) + len(sections)
    if image.signed:
        raise _wrong(stub, "it is signed, and with further sections the signature would not hold")
    if double := {each.name for each in image.sections} & sections.keys():
        raise _wrong(stub, f"it has {', '.join(sorted(double))} already")
    if image.table + count * _SECTION.size > room:
        raise _wrong(stub, f"there is no room for {len(sections)} further sections in its headers")
    last = max(image.sections, key=lambda each: each.address)
    address = _aligned(last.address + max(last.size, last.stored), image.alignment)
    with target.open("w+b") as out:
        _copy(stub, out)
        table, added = b"", 0
        for name, content in sections.items():
            offset = _aligned(out.seek(0, 2), image.file_alignment)
            out.seek(offset)
            size = _copy(content, out) if isinstance(content, Path) else out.write(content)
            stored = _aligned(size, image.file_alignment)
            out.truncate(offset + stored)
            flags = INITIALIZED | READABLE
            table += _SECTION.pack(name.encode("ascii"), size, address, stored, offset, 0, 0, 0, 0, flags)
            address = _aligned(address + size, image.alignment)
            added += stored
        out.seek(image.table + len(image.sections) * _SECTION.size)
        out.write(table)
        out.seek(image.optional - 18)
        out.write(struct.pack("<H", count))
        out.seek(image.optional + 8)
        (initialized,) = struct.unpack("<I", out.read(4))
        out.seek(image.optional + 8)
        out.write(struct.pack("<I", initialized + added))
        out.seek(image.optional + 56)
        out.write(struct.pack("<I", address))
        # The checksum of the headers: firmware does not look at it, and it would be another file's.
        out.seek(image.optional + 64)
        out.write(struct.pack("<I", 0))


def _copy(source: Path, out: BinaryIO) -> int:
    size = 0
    with source.open("rb") as file:
        while data := file.read(CHUNK):
            size += out.write(data)
    return size


def _aligned(number: int, alignment: int) -> int:
    return -(-number // alignment) * alignment


def _wrong(path: Path, why: str) -> HyperError:
    return HyperError(
        f"{path.name} is not an image for UEFI that can be used.",
        why=f"{path}: {why}",
        remedy="It comes with systemd: rebuild the host, and look whether its Nix store is whole "
        "(`nix-store --verify --check-contents`).",
    )
