"""Makes disks of other formats into whole qcow2 files, with qemu-img(1).

The format is always said, never guessed: the beginning of a raw disk is its guest's to write, and a guessed format could name
any file of whoever converts it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hv.firstrun.world import Programs
from installer.errors import Exit, HyperError

FORMATS = ("qcow2", "raw", "vmdk", "vdi", "vhdx", "vpc")
"""qemu-img's names of formats that hold a disk in one file."""
SUFFIXES = {
    ".qcow2": "qcow2",
    ".raw": "raw",
    ".vmdk": "vmdk",
    ".vdi": "vdi",
    ".vhdx": "vhdx",
    ".vhd": "vpc",
}
"""What the name of a file says of its format."""
WHOLE_VMDK = ("monolithicSparse", "streamOptimized")
"""Kinds of VMDK that name no other file (Virtual Disk Format 5.0)."""
LONGEST = 6 * 3600.0


@dataclass(frozen=True)
class Disk:
    """A disk image."""

    path: Path
    """Where it is."""
    size: int
    """Bytes that a guest sees."""


def inspect(path: Path, kind: str, programs: Programs) -> Disk:
    """The disk, if it is whole. Raises HyperError when it leans on other files, or is not of that format."""
    done = programs.run(
        ("qemu-img", "info", "-f", kind, "--output=json", str(path)), timeout=120, check=False
    )
    if done.status:
        raise _unfit(path, kind, done.stderr.strip() or f"qemu-img ended with {done.status}")
    told: dict[str, Any] = json.loads(done.text)
    if "backing-filename" in told:
        raise _unfit(path, kind, f"it is a layer upon another file, {told['backing-filename']}")
    details = told.get("format-specific", {}).get("data", {})
    if "data-file" in details:
        raise _unfit(path, kind, f"its content is in another file, {details['data-file']}")
    if kind == "vmdk" and details.get("create-type") not in WHOLE_VMDK:
        raise _unfit(
            path, kind, f"it is a VMDK of the kind {details.get('create-type')}, which is in other files"
        )
    if told.get("encrypted"):
        raise _unfit(path, kind, "it is encrypted")
    return Disk(path, int(told["virtual-size"]))


def convert(path: Path, kind: str, into: Path, programs: Programs) -> Disk:
    """A whole qcow2 file of it; the file at `into` is there whole or not at all. Raises HyperError."""
    inspect(path, kind, programs)
    partial = into.with_name(f".{into.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        done = programs.run(
            ("qemu-img", "convert", "-f", kind, "-O", "qcow2", str(path), str(partial)),
            timeout=LONGEST,
            check=False,
        )
        if done.status:
            raise HyperError(
                f"{path.name} cannot be converted.",
                why=done.stderr.strip() or f"qemu-img ended with {done.status}",
                remedy=f"See `df {into.parent}` for room, then run it again.",
                code=Exit.failed,
            )
        made = inspect(partial, "qcow2", programs)
        partial.replace(into)
    finally:
        partial.unlink(missing_ok=True)
    return Disk(into, made.size)


def format_of(path: Path) -> str:
    """The format that a file's name says. Raises HyperError when it says none."""
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise HyperError(
            f"The format of {path.name} is not known.",
            why=f"its name ends in none of {', '.join(SUFFIXES)}, and content is not guessed from",
            remedy=f"Say it with --format: {', '.join(FORMATS)}.",
            code=Exit.usage,
        )
    return found


def _unfit(path: Path, kind: str, why: str) -> HyperError:
    return HyperError(
        f"{path.name} is no whole disk of the format {kind}.",
        why=why,
        remedy="Make a whole one where it came from, for instance with `qemu-img convert -O qcow2`, or say its true format "
        "with --format.",
        code=Exit.unsuitable,
    )
