"""Reads and changes what is embedded in an image. Each change is a list of patches; what is wrong is found before one is
written.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from installer import embed
from installer.errors import Exit, HyperError
from installer.initrd import appended
from iso.carrier import Carrier, Kind
from iso.contents import Content, filled
from iso.image import Image, damaged
from iso.initrd import size_without
from iso.patches import Patch, needed, spread


@dataclass(frozen=True)
class Change:
    """What has to be written."""

    patches: tuple[Patch, ...]
    size: int | None = None
    """Bytes that the image has afterwards, where that is another number."""


def area_of(image: Image, carrier: Carrier) -> bytes | None:
    """The embed area as it is; none when there is none."""
    if carrier.area is None:
        return None
    return b"".join(image.read(extent.offset, extent.length) for extent in carrier.area)


def embedded(image: Image, carrier: Carrier) -> Content:
    """What is embedded. Raises HyperError for a damaged area, or arguments that differ between boot ways."""
    area = area_of(image, carrier)
    files: Mapping[str, bytes] = embed.unpack(area) if area is not None else {}
    said = {pad.arguments for pad in carrier.pads}
    if len(said) > 1:
        raise damaged(
            image.name,
            "boot entries have different arguments: "
            + "; ".join(f"{pad.place}: {pad.arguments or 'none'}" for pad in carrier.pads),
        )
    return Content(files, tuple(" ".join(said).split()))


def change(image: Image, carrier: Carrier, content: Content) -> Change:
    """What puts this into the image instead of what is there. Raises HyperError (Exit.medium): there is no place."""
    area = embed.pack(content.files)
    if content.arguments and not carrier.pads:
        raise HyperError(
            f"{image.name} has no place for kernel arguments",
            why=f"{'an initial RAM disk has none' if carrier.kind is Kind.initrd else 'no boot entry has ' + embed.ARGUMENT}",
            remedy="write them into the iPXE script (`hv media netboot --kernel-argument`)"
            if carrier.kind is Kind.initrd
            else "use `hv media adopt` for an image that is not ours",
            code=Exit.medium,
        )
    patches = [patch for pad in carrier.pads for patch in spread(pad.extents, filled(content.arguments))]
    if carrier.area is not None:
        if carrier.kind is Kind.initrd and not content.files:
            return Change((), size_without(image))
        patches += spread(carrier.area, area)
    elif carrier.kind is Kind.initrd:
        if content.files:
            patches.append(Patch(image.size, appended(image.size, area)))
    else:
        raise HyperError(
            f"{image.name} has no place for answers",
            why=f"there is no file {embed.PATH} in it, so it is not one of this project's media, or an old one",
            remedy="build one (`hv media build`), or add the place to a stock NixOS image: `hv media adopt`",
            code=Exit.medium,
        )
    return Change(needed(image, patches))


def digest(image: Image) -> str:
    """SHA-256 of the whole image."""
    found = hashlib.sha256()
    for chunk in image.chunks():
        found.update(chunk)
    return found.hexdigest()
