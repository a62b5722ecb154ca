"""A host's /etc/nixos below a root, as the installer leaves it, and `hv setup` run on it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.nixeval.cases import rendered

REPOSITORY = Path(__file__).resolve().parents[2]
NIX = Path(__file__).with_name("nix.py")


def lay_down(root: Path, case: str = "home-lab") -> Path:
    """The files; their folder."""
    folder = root / "etc/nixos"
    for path, text in rendered(case).files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def environment(place: Path) -> dict[str, str]:
    """With the stand-in for Nix in front."""
    programs = place / "bin"
    programs.mkdir(exist_ok=True)
    if not (programs / "nix").exists():
        (programs / "nix").symlink_to(NIX)
    return os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}


def setup(
    root: Path, *words: str, place: Path, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`hv setup` there."""
    return subprocess.run(
        (sys.executable, "-m", "hv", "setup", "--root", str(root), *words),
        env=environment(place),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
