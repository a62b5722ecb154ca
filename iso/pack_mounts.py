"""Packs in the live system: found behind the medium that it was started from, mounted, and told to the installer."""

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.medium import PACKS_PATH
from iso import packs
from iso.image import opened

FOLDER = "run/hyper-nixos/packs"
SYSFS = "sys/class/block"
Run = Callable[[Sequence[str]], str]


def run(argv: Sequence[str]) -> str:
    """Run a program; what it prints. Raises HyperError."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise _unmounted(f"{argv[0]} is not installed") from error
    if done.returncode:
        raise _unmounted(f"{argv[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _unmounted(why: str) -> HyperError:
    return HyperError(
        "the systems that were added to the medium are not there",
        why=why,
        remedy="check the medium where it was made: `hv media verify`; the medium's own systems can be installed",
        code=Exit.medium,
    )


def device(root: Path, run: Run) -> Path:
    """The disk that the system was started from: the whole, because packs lie behind its partitions."""
    source = run(["findmnt", "--noheadings", "--output", "SOURCE", "--target", str(root / "iso")]).strip()
    name = Path(source).resolve().name
    if name.startswith("loop") and (root / SYSFS / name / "loop/backing_file").exists():
        # Started with `copytoram`: the copy may be of a partition; the medium itself still has its label.
        label = run(["findmnt", "--noheadings", "--output", "LABEL", "--target", str(root / "iso")]).strip()
        found = root / "dev/disk/by-label" / label
        if label and found.exists():
            name = found.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9!._-]+", name):
        raise _unmounted(f"{source or 'nothing'} is mounted at /iso, which is no disk")
    link = root / SYSFS / name
    if (link / "partition").exists():
        name = link.resolve().parent.name
    return root / "dev" / name


def attach(root: Path, disk: Path, run: Run) -> list[str]:
    """Mount each pack, and write what they have where the installer reads it; lines for people. Again does nothing anew."""
    with opened(disk) as image:
        found = [pack for pack in packs.of_image(image) if pack.whole]
    told, lines = [], []
    for number, pack in enumerate(found, 1):
        place = root / FOLDER / str(number)
        place.mkdir(parents=True, exist_ok=True)
        if not place.is_mount():
            where = f"ro,loop,offset={pack.content},sizelimit={-(-pack.length // 4096) * 4096}"
            run(["mount", "-t", "squashfs", "-o", where, str(disk), str(place)])
        for each in pack.closures:
            cache = f"file:///{FOLDER}/{number}/{each.cache}"
            told.append(each.model_copy(update={"cache": cache}).model_dump(mode="json"))
            lines.append(f"system {each.name}: from a pack behind the medium")
    if told:
        file = root / PACKS_PATH.lstrip("/")
        made = file.with_name(f".{file.name}")
        made.write_text(json.dumps(told))
        made.replace(file)
    return lines or ["the medium has no packs"]
