"""Packs: systems of hosts that are added to a finished ISO image, behind its end. Nothing before that is moved or changed but
one sector, the header of the partition table, which names where its copy is now; so the image boots as before, verifies
against its manifest as before, and is given back to the byte.

The whole image is on a CD as it is on a stick, so a pack is found on both: it begins at the first MiB behind the image,
with a header of 64 KiB, and a squashfs follows, which holds a binary cache of Nix.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from installer.answers.sizes import MIB, format_size
from installer.errors import Exit, HyperError
from installer.medium import ReadyClosure
from iso.carrier import Kind, examine
from iso.image import CHUNK, Image, damaged, opened
from iso.iso9660 import SYSTEM_AREA, Volume
from iso.partition_tables import SECTOR, both, read_gpt, table_sectors
from iso.patches import Patch, apply

WHOLE, UNFINISHED = b"HVPACK-1", b"HVPACK-0"
HEADER = 64 << 10
"""Bytes before the squashfs."""
LARGEST_GAP = 8 * MIB
"""The file system of an ISO image ends at most so far before the image: xorriso pads it, and a partition table's copy."""
MOST = 64
SQUASHFS = b"hsqs"
_FIELDS = struct.Struct("<8s32s QQQ 32s32s I 512s")
"""Magic; SHA-256 of the header without magic and this; size of the image before and after, and of the squashfs, bytes;
SHA-256 of the squashfs, and of the volume descriptor that it belongs to; bytes of the description; the header of the
partition table as it was, or zeros."""
_CLOSURES = TypeAdapter(tuple[ReadyClosure, ...])


@dataclass(frozen=True)
class Pack:
    """One pack in an image."""

    offset: int
    """Where its header is, in bytes."""
    before: int
    """Bytes of the image without it."""
    after: int
    """Bytes of the image with it."""
    length: int
    """Bytes of its squashfs."""
    sha256: bytes
    volume: bytes
    """SHA-256 of the volume descriptor of the image that it was made for."""
    closures: tuple[ReadyClosure, ...]
    """Their `cache` is where it is in the squashfs."""
    table: bytes
    """The sector of the partition table's header, as it was; zeros: there is none."""
    whole: bool = True

    @property
    def content(self) -> int:
        """Where its squashfs begins, in bytes."""
        return self.offset + HEADER


def header(pack: Pack) -> bytes:
    """Its header. Raises HyperError (Exit.medium) when the description has no room."""
    said = json.dumps(
        [each.model_dump(mode="json") for each in pack.closures], separators=(",", ":")
    ).encode()
    if len(said) > HEADER - _FIELDS.size:
        raise HyperError(
            "the systems have no room in one pack",
            why=f"their descriptions have {len(said)} bytes, and there is room for {HEADER - _FIELDS.size}",
            remedy="make several packs, one after the other",
            code=Exit.medium,
        )
    fields = (pack.before, pack.after, pack.length, pack.sha256, pack.volume, len(said), pack.table)
    rest = (_FIELDS.pack(b"", b"", *fields)[40:] + said).ljust(HEADER - 40, b"\0")
    return (WHOLE if pack.whole else UNFINISHED) + hashlib.sha256(rest).digest() + rest


def read(image: Image, offset: int) -> Pack | None:
    """The pack whose header is there; none when there is none. Raises HyperError (Exit.medium) for a damaged one."""
    if offset + HEADER > image.size:
        return None
    block = image.read(offset, HEADER)
    magic, checksum, before, after, length, sha256, volume, many, table = _FIELDS.unpack_from(block)
    if magic not in (WHOLE, UNFINISHED):
        return None
    if hashlib.sha256(block[40:]).digest() != checksum:
        raise damaged(image.name, f"the header of the pack at byte {offset} is damaged")
    try:
        closures = _CLOSURES.validate_json(block[_FIELDS.size :][:many])
    except ValidationError as error:
        raise damaged(image.name, f"the pack at byte {offset} is of another version") from error
    if _aligned(before) != offset or after % MIB or not offset + HEADER + length <= after:
        raise damaged(image.name, f"the pack at byte {offset} contradicts itself")
    return Pack(offset, before, after, length, sha256, volume, closures, table, magic == WHOLE)


def find(image: Image, volume: Volume) -> tuple[Pack, ...]:
    """The packs of an image or stick, in their order; the last may be unfinished. Raises HyperError (Exit.medium)."""
    mine = _volume(image)
    at = volume.size // MIB * MIB
    first = None
    while first is None and at <= volume.size + LARGEST_GAP:
        first = read(image, at)
        at += MIB
    found: list[Pack] = []
    while first is not None and len(found) < MOST:
        if first.volume != mine:  # left over on a stick, of another image
            break
        found.append(first)
        if not first.whole:
            break
        if first.after > image.size:
            raise damaged(
                image.name, f"its pack ends at byte {first.after}, and it has {image.size}: it was cut off"
            )
        first = read(image, first.after)
    return tuple(found)


def _volume(image: Image) -> bytes:
    return hashlib.sha256(image.read(SYSTEM_AREA, 2048)).digest()


def _aligned(size: int) -> int:
    return -(-size // MIB) * MIB


def of_image(image: Image) -> tuple[Pack, ...]:
    """The packs of an image; none in what is no ISO image."""
    carrier = examine(image)
    return find(image, carrier.volume) if carrier.volume is not None else ()


def add(path: Path, squashfs: Path, closures: tuple[ReadyClosure, ...]) -> Pack:
    """Add a pack, in place. Raises HyperError; the image is then as it was."""
    _require_file(path)
    remove(path, only_unfinished=True)
    with opened(path) as image, opened(squashfs) as content:
        carrier = examine(image)
        if carrier.kind is not Kind.iso or carrier.volume is None:
            raise HyperError(
                f"nothing is added to {path}",
                why=f"it is a {carrier.kind}, and packs go behind ISO images",
                remedy="name an ISO image; disk images take systems when they are built (`hypervisor.medium`)",
                code=Exit.medium,
            )
        there = find(image, carrier.volume)
        if len(there) >= MOST:
            raise HyperError(
                f"{path} has {len(there)} packs already",
                why="more are not looked for at boot",
                remedy="take them out (`--remove`), and put all systems into one",
                code=Exit.medium,
            )
        named = {each.name for pack in there for each in pack.closures} & {each.name for each in closures}
        if named:
            raise HyperError(
                f"{path} has {', '.join(sorted(named))} already",
                why="answers name systems, and two of one name cannot be told apart",
                remedy="give it another name, or take the packs out first: `--remove`",
                code=Exit.usage,
            )
        if content.read(0, min(4, content.size)) != SQUASHFS:
            raise damaged(str(squashfs), "it is no squashfs")
        gpt = read_gpt(image)
        offset = _aligned(image.size)
        room = (table_sectors(gpt) + 1) * SECTOR if gpt else 0
        digest = hashlib.sha256()
        for chunk in content.chunks():
            digest.update(chunk)
        pack = Pack(
            offset=offset,
            before=image.size,
            after=_aligned(offset + HEADER + content.size + room),
            length=content.size,
            sha256=digest.digest(),
            volume=_volume(image),
            closures=closures,
            table=image.read(SECTOR, SECTOR) if gpt else bytes(SECTOR),
            whole=False,
        )
        free = os.statvfs(path)
        if pack.after - pack.before > free.f_bavail * free.f_frsize:
            raise HyperError(
                f"nothing is added to {path}",
                why=f"it would have {format_size(pack.after)}, and its disk has "
                f"{format_size(free.f_bavail * free.f_frsize)} free",
                remedy="make room, or copy the image to a larger disk first",
                code=Exit.medium,
            )
        tables = (
            [each for each in both(gpt, pack.after // SECTOR) if each[0] != gpt.entries_sector * SECTOR]
            if gpt
            else []
        )
        try:
            # Marked as unfinished until all of it is there: killed in the middle, it is taken away the next time.
            apply(path, [Patch(offset, header(pack))])
            _append(path, pack.content, content)
            apply(path, [Patch(*each) for each in tables], pack.after)
            apply(path, [Patch(offset, header(replace(pack, whole=True)))])
        except BaseException:
            _cut(path, pack)
            raise
    return replace(pack, whole=True)


def _append(path: Path, offset: int, content: Image) -> None:
    try:
        with path.open("r+b") as file:
            file.seek(offset)
            for chunk in content.chunks():
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise HyperError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            remedy="make room; the image is as it was",
            code=Exit.medium,
        ) from error


def _cut(path: Path, pack: Pack) -> None:
    table = [Patch(SECTOR, pack.table)] if any(pack.table) else []
    apply(path, table, pack.before)


def remove(path: Path, *, only_unfinished: bool = False) -> tuple[Pack, ...]:
    """Take packs out again, the last first; what was taken out. The image is then what it was, to the byte."""
    _require_file(path)
    with opened(path) as image:
        gone = tuple(pack for pack in of_image_to_cut(image) if not (only_unfinished and pack.whole))
    for pack in reversed(gone):
        _cut(path, pack)
    return gone


def of_image_to_cut(image: Image) -> tuple[Pack, ...]:
    """The packs of an image that may have been cut off itself: only their headers have to be there."""
    carrier = examine(image)
    if carrier.volume is None:
        return ()
    try:
        return find(image, carrier.volume)
    except HyperError:
        at = next(_headers(image, carrier.volume), None)
        if at is None:
            raise
        return (at,)


def _headers(image: Image, volume: Volume) -> Iterator[Pack]:
    for at in range(volume.size // MIB * MIB, volume.size + LARGEST_GAP, MIB):
        pack = read(image, at)
        if pack is not None and pack.volume == _volume(image):
            yield pack


def _require_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise HyperError(
            f"{path} is not changed",
            why="it is no file: packs are added to images, before they are written to a stick",
            remedy="add it to the image, and write that: `hv media write`",
            code=Exit.usage,
        )


def check(image: Image, pack: Pack) -> None:
    """HyperError (Exit.medium) unless its content is whole."""
    names = ", ".join(each.name for each in pack.closures)
    if not pack.whole:
        raise damaged(image.name, f"adding {names} to it was interrupted: `hv media pack --remove`")
    digest = hashlib.sha256()
    for at in range(0, pack.length, CHUNK):
        digest.update(image.read(pack.content + at, min(CHUNK, pack.length - at)))
    if digest.digest() != pack.sha256:
        raise damaged(image.name, f"the pack with {names} was altered")
