"""Finding the embed area behind an initial RAM disk (installer/initrd.py writes it there)."""

from installer import embed
from installer.initrd import archive
from iso.image import Image
from iso.iso9660 import Extent

_BEFORE = archive(bytes(embed.AREA)).index(embed.PATH.encode()) + len(embed.PATH) + 1
_BEFORE += -_BEFORE % 4
_HEADS = {archive(bytes(embed.AREA), before)[:_BEFORE]: before for before in range(4)}
LENGTH = len(archive(bytes(embed.AREA)))


def area_in(image: Image) -> tuple[Extent, ...] | None:
    """Where the area is in it; none when there is none yet."""
    start = image.size - LENGTH
    if start < 0 or image.read(start, _BEFORE) not in _HEADS:
        return None
    return (Extent(start + _BEFORE, embed.AREA),)


def size_without(image: Image) -> int:
    """Bytes that the image has without the archive that is there."""
    start = image.size - LENGTH
    return start - _HEADS[image.read(start, _BEFORE)]
