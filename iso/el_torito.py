"""How firmware boots a CD: the boot catalog (El Torito, Bootable CD-ROM Format Specification 1.0)."""

import struct
from dataclasses import dataclass
from enum import StrEnum

from iso.image import Image
from iso.iso9660 import BLOCK, Volume

SPECIFICATION = b"EL TORITO SPECIFICATION"
_CATALOG = 0x47
"""Where the boot record names the catalog's sector (figure 7)."""
SECTIONS = 64
SECTOR = 512
"""Boot images are counted in these (figure 3)."""


class Platform(StrEnum):
    """Which firmware (figure 2; 0xEF is UEFI's, UEFI 2.10, 13.3.2.1)."""

    bios = "BIOS"
    powerpc = "PowerPC"
    mac = "Mac"
    uefi = "UEFI"
    unknown = "unknown"


_PLATFORMS = {0: Platform.bios, 1: Platform.powerpc, 2: Platform.mac, 0xEF: Platform.uefi}


@dataclass(frozen=True)
class BootImage:
    """One entry of the catalog."""

    platform: Platform
    bootable: bool
    emulates: bool
    """Whether the firmware shows it as a floppy or hard disk."""
    offset: int
    """Bytes from the start of the image."""
    length: int
    """Bytes that the firmware loads at first; of UEFI's, the whole file system where it is told."""


@dataclass(frozen=True)
class Catalog:
    """The boot catalog."""

    images: tuple[BootImage, ...]
    problems: tuple[str, ...]
    """What is wrong with it, for people."""


def read_catalog(image: Image, volume: Volume) -> Catalog | None:
    """The catalog; none when the image has none. Raises HyperError when it lies beyond the image's end."""
    record = next((sector for kind, sector in volume.descriptors if kind == 0), None)
    if record is None:
        return None
    block = image.read(record * BLOCK, BLOCK)
    if block[7:30] != SPECIFICATION:
        return Catalog((), (f"sector {record} is a boot record of another specification than El Torito",))
    catalog = image.read(int.from_bytes(block[_CATALOG : _CATALOG + 4], "little") * BLOCK, BLOCK)
    problems = []
    if catalog[0] != 1 or catalog[30:32] != b"\x55\xaa":
        problems.append("the boot catalog has no validation entry")
    elif sum(struct.unpack("<16H", catalog[:32])) & 0xFFFF:
        problems.append("the checksum of the boot catalog does not fit")
    found = [_image(catalog[32:64], catalog[1])]
    at = 64
    while at + 32 <= len(catalog) and catalog[at] in (0x90, 0x91):
        last, platform, many = catalog[at] == 0x91, catalog[at + 1], catalog[at + 2]
        at += 32
        for _ in range(min(many, SECTIONS)):
            if at + 32 > len(catalog):
                problems.append("the boot catalog is longer than its sector")
                break
            found.append(_image(catalog[at : at + 32], platform))
            at += 32
        if last:
            break
    problems += [
        f"the {each.platform} boot image lies beyond the end of the image"
        for each in found
        if each.bootable and each.offset + SECTOR > image.size
    ]
    return Catalog(tuple(found), tuple(problems))


def _image(entry: bytes, platform: int) -> BootImage:
    many, place = struct.unpack_from("<HI", entry, 6)
    return BootImage(
        platform=_PLATFORMS.get(platform, Platform.unknown),
        bootable=entry[0] == 0x88,
        emulates=entry[1] & 0x0F != 0,
        offset=place * BLOCK,
        length=many * SECTOR,
    )
