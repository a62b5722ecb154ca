"""What can carry answers: an ISO image (also written to a stick), a disk image, an initial RAM disk; and where in it the
embed area and the kernel's arguments are.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from installer import embed
from installer.errors import Exit, HyperError
from iso import fat, iso9660
from iso.el_torito import Catalog, Platform, read_catalog
from iso.image import Image, damaged
from iso.iso9660 import Extent, Volume
from iso.partition_tables import (
    BASIC_DATA,
    EFI_SYSTEM,
    MBR_EFI,
    SECTOR,
    read_gpt,
    read_mbr,
)

CONFIGURATIONS = (
    "isolinux/isolinux.cfg",
    "EFI/BOOT/grub.cfg",
    "boot/grub/grub.cfg",
    "boot/grub/loopback.cfg",
)
"""Where boot loaders of an ISO image have the kernel's arguments."""
ON_ESP = ("EFI/BOOT/grub.cfg", "grub/grub.cfg")
ENTRIES = "loader/entries"
"""systemd-boot's, on an EFI system partition."""
INITRD_MAGICS = (
    b"070701",
    b"070702",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ",
    b"\x89LZO",
    b"\x02\x21\x4c\x18",
    b"BZh",
    b"\x5d\x00\x00",
)
"""How an archive begins that the kernel unpacks (initramfs: cpio, gzip, zstd, xz, lzo, lz4, bzip2, lzma)."""
_PAD = re.compile(re.escape(embed.ARGUMENT.encode()) + rb"#*")


class Kind(StrEnum):
    """What an image is."""

    iso = "ISO image"
    disk = "disk image"
    initrd = "initial RAM disk"


@dataclass(frozen=True)
class Configuration:
    """A boot loader's configuration file, and where its bytes are."""

    place: str
    """For people: the path, and of what it is part."""
    extents: tuple[Extent, ...]
    content: bytes


@dataclass(frozen=True)
class Pad:
    """An argument of the kernel that was made to be filled."""

    place: str
    extents: tuple[Extent, ...]
    """Together `embed.ARGUMENT_LENGTH` bytes."""
    arguments: str
    """What it holds now."""


@dataclass(frozen=True)
class Carrier:
    """An image, understood."""

    kind: Kind
    volume: Volume | None
    catalog: Catalog | None
    area: tuple[Extent, ...] | None
    """Where the embed area is; an initial RAM disk without one gets it at its end."""
    configurations: tuple[Configuration, ...]
    pads: tuple[Pad, ...]


def kind_of(image: Image) -> Kind:
    """What an image is. Raises HyperError (Exit.medium)."""
    if iso9660.is_iso(image):
        return Kind.iso
    if read_gpt(image) is not None or read_gpt(image, 8) is not None:
        return Kind.disk
    start = image.read(0, min(512, image.size))
    if start.startswith(b"QFI\xfb"):
        raise HyperError(
            f"{image.name} is a qcow2 image",
            why="its blocks lie anywhere in it; only QEMU's tools find them",
            remedy=f"convert it first: `qemu-img convert -O raw {image.name} disk.raw`",
            code=Exit.medium,
        )
    for magic, name, program in ((b"\x28\xb5\x2f\xfd", "zstd", "unzstd"), (b"\x1f\x8b", "gzip", "gunzip")):
        if start.startswith(magic) and image.name.endswith((".iso.zst", ".iso.gz", ".raw.zst", ".raw.gz")):
            raise HyperError(
                f"{image.name} is compressed",
                why=f"it is an image inside {name}, and nothing in it can be changed in place",
                remedy=f"unpack it first: `{program} {image.name}`",
                code=Exit.medium,
            )
    if start.startswith(INITRD_MAGICS):
        return Kind.initrd
    raise HyperError(
        f"{image.name} is no install medium",
        why="it is neither an ISO image, nor a disk image with a GPT, nor an initial RAM disk",
        remedy="name the image that `hv media build` or the workflow made, or a stick that it was written to",
        code=Exit.medium,
    )


def examine(image: Image) -> Carrier:
    """Find the embed area and the arguments. Raises HyperError (Exit.medium)."""
    kind = kind_of(image)
    volume: Volume | None = None
    catalog: Catalog | None = None
    match kind:
        case Kind.iso:
            volume = iso9660.read_volume(image)
            if volume.size > image.size:
                raise damaged(
                    image.name,
                    f"its file system has {volume.size} bytes, and the image {image.size}: it was cut off",
                )
            catalog = read_catalog(image, volume)
            entry = iso9660.find(image, volume, embed.PATH)
            area = entry.extents if entry and not entry.is_directory else None
            configurations = tuple(_of_iso(image, volume, catalog))
        case Kind.disk:
            area = _area_on_esp(image)
            configurations = tuple(_of_esps(image, None))
        case Kind.initrd:
            from iso.initrd import area_in

            return Carrier(kind, None, None, area_in(image), (), ())
    if area is not None and sum(extent.length for extent in area) != embed.AREA:
        raise damaged(
            image.name,
            f"{embed.PATH} has {sum(extent.length for extent in area)} bytes instead of {embed.AREA}",
        )
    pads = tuple(pad for each in configurations for pad in _pads(image, each))
    return Carrier(kind, volume, catalog, area, configurations, pads)


def _of_iso(image: Image, volume: Volume, catalog: Catalog | None) -> Iterator[Configuration]:
    for path in CONFIGURATIONS:
        entry = iso9660.find(image, volume, path)
        if entry and not entry.is_directory:
            yield Configuration(path, entry.extents, iso9660.content(image, entry))
    yield from _of_esps(image, catalog)


def file_systems(image: Image, catalog: Catalog | None) -> Iterator[tuple[str, int, int]]:
    """EFI file systems: what leads to each, where it begins, how long it is at most. Each place once."""
    found: dict[int, tuple[str, int]] = {}
    for number, start, sectors, sure in efi_partitions(image):
        offset = start * SECTOR
        if not 0 < offset < image.size:
            continue
        length = min(sectors * SECTOR, image.size - offset)
        if sure or fat.read_fat(image.part(offset, length, f"partition {number}")) is not None:
            found.setdefault(offset, (f"partition {number}", min(sectors * SECTOR, image.size - offset)))
    for each in catalog.images if catalog else ():
        if each.platform is Platform.uefi and each.offset < image.size:
            name, length = found.get(each.offset, ("El Torito", image.size - each.offset))
            found[each.offset] = (name if name == "El Torito" else f"El Torito and {name}", length)
    for offset, (name, length) in sorted(found.items()):
        yield name, offset, length


def efi_partitions(image: Image) -> Iterator[tuple[int, int, int, bool]]:
    """Number, first sector and sectors of each partition that UEFI may look for programs in, and whether its type says so:
    one with the type of data is looked into when it holds a FAT.
    """
    gpt = read_gpt(image)
    for entry in gpt.partitions if gpt else ():
        if entry.kind in (EFI_SYSTEM, BASIC_DATA):
            yield entry.number, entry.start, entry.last + 1 - entry.start, entry.kind == EFI_SYSTEM
    for partition in read_mbr(image) or ():
        if partition.kind == MBR_EFI:
            yield partition.number, partition.start, partition.sectors, True


def _of_esps(image: Image, catalog: Catalog | None) -> Iterator[Configuration]:
    for name, offset, length in file_systems(image, catalog):
        part = image.part(offset, length, name)
        system = fat.read_fat(part)
        if system is None:
            continue
        files = [(path, fat.find(part, system, path)) for path in ON_ESP]
        folder = fat.find(part, system, ENTRIES)
        if folder and folder.is_directory:
            files += [
                (f"{ENTRIES}/{entry.name}", entry)
                for entry in fat.entries(part, system, folder.extents)
                if entry.name.endswith(".conf")
            ]
        for path, entry in files:
            if entry and not entry.is_directory:
                extents = tuple(Extent(offset + each.offset, each.length) for each in entry.extents)
                yield Configuration(f"{path} on {name}", extents, fat.content(part, entry))


def _area_on_esp(image: Image) -> tuple[Extent, ...] | None:
    for name, offset, length in file_systems(image, None):
        part = image.part(offset, length, name)
        system = fat.read_fat(part)
        entry = fat.find(part, system, embed.PATH) if system else None
        if entry and not entry.is_directory and entry.size == sum(each.length for each in entry.extents):
            return tuple(Extent(offset + each.offset, each.length) for each in entry.extents)
    return None


def _pads(image: Image, configuration: Configuration) -> Iterator[Pad]:
    text, at = configuration.content, 0
    while found := _PAD.search(text, at):
        at = found.start()
        end = at + embed.ARGUMENT_LENGTH
        inside = text[at:end]
        if len(inside) < embed.ARGUMENT_LENGTH or b"\n" in inside or not text[end : end + 1].isspace():
            raise damaged(
                image.name,
                f"{configuration.place} has {embed.ARGUMENT} with another length than {embed.ARGUMENT_LENGTH}",
            )
        arguments = inside[len(embed.ARGUMENT) :].lstrip(b"#").decode("ascii", "replace").strip()
        yield Pad(configuration.place, slice_of(configuration.extents, at, end), arguments)
        at = end


def slice_of(extents: Sequence[Extent], start: int, end: int) -> tuple[Extent, ...]:
    """Where the bytes `start` to `end` of a file are."""
    found, at = [], 0
    for extent in extents:
        low, high = max(start, at), min(end, at + extent.length)
        if low < high:
            found.append(Extent(extent.offset + low - at, high - low))
        at += extent.length
    return tuple(found)
