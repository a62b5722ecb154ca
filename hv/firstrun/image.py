"""A guest's disk: the image that the installer copied becomes a volume of the pool, whole or not at all."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hv.firstrun.state import STATE_FOLDER
from hv.firstrun.world import World, sync_folder, to_json, write_atomically
from installer.errors import HyperError
from installer.handoff import HandoffVm

CONVERT_TIMEOUT = 3600.0
"""Seconds; the job's own deadline cuts in first."""


@dataclass(frozen=True)
class Owner:
    """Who QEMU runs as."""

    uid: int
    gid: int


def import_image(world: World, vm: HandoffVm, disk: Path, owner: Owner) -> None:
    """Check, convert to qcow2, resize, hand to QEMU's user, and only then give it its name.

    A disk of that name that we did not make is never overwritten: before our own gets its name, a note of it is kept.
    """
    note = world.path(f"{STATE_FOLDER}/vm-{vm.name}.disk")
    if disk.exists():
        if not note.exists():
            raise HyperError(
                f"The disk of VM {vm.name} would overwrite a file that is not ours.",
                why=f"{disk} is there, and no run of ours made it",
                remedy=f"Move it away and `hv firstrun retry vm-{vm.name}`, or skip the job.",
            )
        world.say(f"{disk.name} is in the pool already")
        return
    source = world.path(vm.image)
    _check(world, vm, source)
    partial = disk.with_name(f".{disk.name}.partial")
    partial.unlink(missing_ok=True)
    world.say(f"converting {source} ({vm.image_format}) to {disk}")
    remedy = f"Look for free space with `df {disk.parent}`, then `hv firstrun retry vm-{vm.name}`."
    world.run(
        ("qemu-img", "convert", "-f", vm.image_format, "-O", "qcow2", str(source), str(partial)),
        purpose=f"convert the image of VM {vm.name}",
        timeout=CONVERT_TIMEOUT,
        remedy=remedy,
    )
    size = inspect(world, partial, "qcow2")["virtual-size"]
    if vm.disk_size is not None and vm.disk_size > size:
        world.say(f"enlarging the disk from {size} to {vm.disk_size} bytes")
        world.run(
            ("qemu-img", "resize", "-f", "qcow2", str(partial), str(vm.disk_size)),
            purpose=f"enlarge the disk of VM {vm.name}",
            remedy=remedy,
        )
    elif vm.disk_size is not None and vm.disk_size < size:
        world.warn(
            f"the image of {vm.name} has {size} bytes, more than the {vm.disk_size} asked for: kept whole"
        )
    with partial.open("rb") as stream:
        os.fchmod(stream.fileno(), 0o600)
        os.fchown(stream.fileno(), owner.uid, owner.gid)
        os.fsync(stream.fileno())
    write_atomically(note, to_json({"disk": str(disk), "image": vm.image, "sha256": vm.image_sha256}))
    partial.replace(disk)
    sync_folder(disk.parent)


def inspect(world: World, image: Path, kind: str) -> dict[str, Any]:
    """qemu-img's view of an image of a known format, also while a guest has it open."""
    printed = world.run(
        ("qemu-img", "info", "--force-share", "-f", kind, "--output=json", str(image)),
        purpose=f"read {image} as {kind}",
        remedy="Check that the image is whole and that the hand-off names its format.",
    )
    found: dict[str, Any] = json.loads(printed)
    return found


def _check(world: World, vm: HandoffVm, source: Path) -> None:
    retry = f"Put the right image at {vm.image}, then `hv firstrun retry vm-{vm.name}`."
    try:
        with source.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest() if vm.image_sha256 else None
    except OSError as error:
        raise HyperError(
            f"The image of VM {vm.name} cannot be read.", why=f"{source}: {error.strerror}", remedy=retry
        ) from error
    if digest != vm.image_sha256:
        raise HyperError(
            f"The image of VM {vm.name} is not the one that was asked for.",
            why=f"SHA-256 of {source} is {digest}, the hand-off says {vm.image_sha256}",
            remedy=retry,
        )
    if digest:
        world.say(f"{source.name}: SHA-256 as expected")
    # An image that names other files would let its maker read them through the guest.
    found = inspect(world, source, vm.image_format)
    outside = found.get("backing-filename") or (
        found.get("format-specific", {}).get("data", {}).get("data-file")
    )
    if outside:
        raise HyperError(
            f"The image of VM {vm.name} is not whole.",
            why=f"it refers to another file, {outside}",
            remedy=f"Make it whole where it was made (`qemu-img convert`). {retry}",
        )
