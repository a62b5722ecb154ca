"""What the live system is given for trials: a small system for each layout, in a cache, and the server's code."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from installer.answers.load import load
from installer.facts import Facts
from installer.medium import Medium, ReadyClosure
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from tests.execute.rig import Rig, add_nix, run, tiny_system
from tests.lab import layers
from tests.lab.closures import MOUNT
from tests.lab.command import run as copy
from tests.lab.paths import REPOSITORY
from tests.trial.layouts import Layout

CODE = ("tests/__init__.py", "tests/execute/__init__.py", "tests/execute/deaths.py")
"""Besides this package itself."""
SIZE = 16 << 20
"""Bytes, about, of a small system."""


@dataclass(frozen=True)
class GuestDisk:
    """A disk of the machine, by its name there."""

    link: Path


def make(
    folder: Path,
    facts: Facts,
    layouts: Iterable[Layout],
    *,
    ballast: int = 4 << 20,
    beside: Mapping[str, Path] = MappingProxyType({}),
) -> tuple[Path, Medium]:
    """A squashfs image, and the medium's description that names the systems on it.

    Args:
        folder: Where it is made.
        facts: The machine, as the live system sees it.
        layouts: What will be installed there.
        ballast: Bytes of each system, so that copying it takes a while.
        beside: Folders that are laid into the image too, by the name that they have there.
    """
    made = Rig(folder / "rig", "")
    (made.folder / "bin").mkdir(parents=True)
    add_nix(made)
    tree = folder / "tree"
    closures = []
    for layout in layouts:
        answers = tree / "answers" / f"{layout.name}.toml"
        answers.parent.mkdir(parents=True, exist_ok=True)
        answers.write_text(layout.answers())
        toplevel = _system(made, facts, layout, ballast)
        run(
            made.folder / "bin/nix",
            *("copy", "--no-check-sigs", "--to", f"file://{tree}/cache?compression=none"),
            toplevel,
        )
        closures.append(_closure(layout, toplevel))
    for name in (*CODE, *(f"tests/trial/{each}.py" for each in ("__init__", "server"))):
        file = tree / "python" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, file)
    for name, path in beside.items():
        copy(["cp", "-a", "--no-preserve=ownership", path, tree / name], root=True)
    image = folder / "payload.squashfs"
    layers.squash(tree, image)
    return image, _medium(tuple(closures))


def _medium(closures: tuple[ReadyClosure, ...]) -> Medium:
    medium = Medium.model_validate_json((layers.code() / "medium.json").read_bytes())
    return medium.model_copy(update={"closures": closures, "estimated_closure": SIZE})


def _closure(layout: Layout, toplevel: str) -> ReadyClosure:
    return ReadyClosure(name=layout.name, toplevel=toplevel, cache=f"file://{MOUNT}/cache", nar_size=SIZE)


def draft_of(facts: Facts, layout: Layout) -> Plan:
    """What would be planned, but for the system's store path."""
    # Blank disks have nothing to keep; what is made beside something is called the same.
    answers = load(layout.answers().replace('existing = "keep"\n', "").encode(), layout.name)
    return make_plan(facts, answers, _medium((_closure(layout, "/nix/store/" + "0" * 32 + "-x"),)))


def _system(made: Rig, facts: Facts, layout: Layout, ballast: int) -> str:
    """A system that fits what would be planned: its fstab names the file systems to be."""
    draft = draft_of(facts, layout)
    lines = [
        f"{each.device} {each.mountpoint} {each.kind} {','.join(each.options)} 0 0\n"
        for each in draft.host.filesystems
    ]
    esps = (draft.host.esp_mountpoint or "/boot", *(each.mountpoint for each in draft.host.mirrors))
    return tiny_system(
        made,
        GuestDisk(Path(draft.disks[0].device)),
        "",
        size=ballast,
        fstab="".join(lines),
        modules=draft.host.initrd_modules,
        esps=esps,
    )
