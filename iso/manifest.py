"""The manifest of an image: hashes that still fit after answers were put in, and a signature over them.

An image that is customised has another SHA-256 than the one that was published. What may change is known: the embed area,
the kernel arguments that are there to be filled, and on a stick the header of the partition table, which names where its
copy is. So the manifest has a hash of the image with those places zeroed, and a map of them; map and hash are signed
together, by `ssh-keygen -Y sign`.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from installer.errors import Exit, HyperError
from iso import iso9660
from iso.carrier import Carrier, examine
from iso.image import CHUNK, Image
from iso.partition_tables import SECTOR, read_gpt, table_sectors

VERSION = 1
NAMESPACE = "hyper-nixos-medium"
"""What signatures on manifests are for (`ssh-keygen -n`)."""


@dataclass(frozen=True)
class Region:
    """Bytes that are taken as zeros."""

    offset: int
    length: int
    why: str


def regions(image: Image, carrier: Carrier) -> tuple[Region, ...]:
    """What may change in an image without its being another: in order, none touching another."""
    found = [Region(each.offset, each.length, "embed area") for each in carrier.area or ()]
    found += [
        Region(extent.offset, extent.length, f"kernel arguments: {pad.place}")
        for pad in carrier.pads
        for extent in pad.extents
    ]
    gpt = read_gpt(image)
    if gpt is not None:
        found.append(Region(SECTOR, SECTOR, "header of the partition table"))
        # Where the copy is in the image; on a larger disk it is elsewhere, and not part of it.
        room = table_sectors(gpt) + 1
        if gpt.other == image.size // SECTOR - 1:
            found.append(Region(image.size - room * SECTOR, room * SECTOR, "copy of the partition table"))
    ordered = sorted(
        {(each.offset, each.length): each for each in found}.values(), key=lambda each: each.offset
    )
    return tuple(ordered)


def hash_without(image: Image, size: int, zeroed: Sequence[Region]) -> tuple[str, str]:
    """SHA-256 of the first `size` bytes with regions taken as zeros, and of them as they are."""
    masked, whole = hashlib.sha256(), hashlib.sha256()
    for at in range(0, size, CHUNK):
        data = image.read(at, min(CHUNK, size - at))
        whole.update(data)
        touching = [
            (max(at, each.offset), min(at + len(data), each.offset + each.length))
            for each in zeroed
            if each.offset < at + len(data) and each.offset + each.length > at
        ]
        if touching:
            changed = bytearray(data)
            for start, stop in touching:
                changed[start - at : stop - at] = bytes(stop - start)
            data = bytes(changed)
        masked.update(data)
    return masked.hexdigest(), whole.hexdigest()


def make(image: Image, facts: dict[str, Any] | None = None) -> dict[str, Any]:
    """The manifest of an image, as it was built. `facts`: what the builder knows besides (inputs, revisions)."""
    carrier = examine(image)
    zeroed = regions(image, carrier)
    masked, whole = hash_without(image, image.size, zeroed)
    files = []
    if carrier.volume is not None:
        area = {(each.offset, each.length) for each in carrier.area or ()}
        for path, entry in sorted(iso9660.walk(image, carrier.volume)):
            if entry.is_directory or any((each.offset, each.length) in area for each in entry.extents):
                continue
            digest = hashlib.sha256()
            for extent in entry.extents:
                for chunk in image.chunks(extent.offset, extent.length):
                    digest.update(chunk)
            files.append({"path": path, "size": entry.size, "sha256": digest.hexdigest()})
    return {
        "version": VERSION,
        "kind": carrier.kind,
        "label": carrier.volume.label if carrier.volume else None,
        "size": image.size,
        "sha256": whole,
        "sha256_without_regions": masked,
        "regions": [{"offset": each.offset, "length": each.length, "why": each.why} for each in zeroed],
        "files": files,
        **(facts or {}),
    }


def text(manifest: dict[str, Any]) -> bytes:
    """The manifest as it is written and signed."""
    return json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"


def refused(why: str, remedy: str) -> HyperError:
    """The error for a medium or manifest that does not verify."""
    return HyperError("the medium is not the one of the manifest", why=why, remedy=remedy, code=Exit.medium)


def read(content: bytes) -> dict[str, Any]:
    """A manifest. Raises HyperError (Exit.medium)."""
    try:
        manifest = json.loads(content)
        if manifest["version"] != VERSION:
            raise refused(
                f"the manifest has version {manifest['version']}, known is {VERSION}",
                "take the `hv` of its release",
            )
        _regions(manifest)
        if not isinstance(manifest["size"], int) or not isinstance(manifest["sha256_without_regions"], str):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise refused("the manifest cannot be read", "fetch it again, with the image") from error
    return dict(manifest)


def _regions(manifest: dict[str, Any]) -> tuple[Region, ...]:
    return tuple(
        Region(int(each["offset"]), int(each["length"]), str(each["why"])) for each in manifest["regions"]
    )


def check(image: Image, manifest: dict[str, Any]) -> bool:
    """Hold an image or stick against a manifest; whether it is as it was built, with nothing put in.

    Raises:
        HyperError: something was altered that may not be (Exit.medium), and which file.
    """
    size, zeroed = manifest["size"], _regions(manifest)
    if image.size < size:
        raise refused(
            f"it has {image.size} bytes and should have {size}: it was cut off", "fetch or write it again"
        )
    masked, whole = hash_without(image, size, zeroed)
    if masked != manifest["sha256_without_regions"]:
        raise refused(_where(image, manifest), "fetch or write it again; do not boot it")
    return bool(whole == manifest["sha256"])


def _where(image: Image, manifest: dict[str, Any]) -> str:
    """Which files differ, for people."""
    known = {each["path"]: each["sha256"] for each in manifest.get("files", ())}
    try:
        found = {each["path"]: each["sha256"] for each in make(image)["files"]}
    except HyperError as error:
        return error.why
    changeable = {place.split(": ", 1)[1].split(" on ")[0] for place in _why(manifest, "kernel arguments: ")}
    differing = [
        path
        for path in sorted({*known, *found})
        if known.get(path) != found.get(path) and path not in changeable
    ]
    differing = [
        path for path in differing if path not in ("boot/efi.img", "isolinux/isolinux.bin")
    ] or differing
    if differing:
        return f"these files were altered: {', '.join(differing[:8])}"
    return "something outside its files was altered: tables, boot sectors or directories"


def _why(manifest: dict[str, Any], beginning: str) -> Iterable[str]:
    return (each["why"] for each in manifest["regions"] if each["why"].startswith(beginning))
