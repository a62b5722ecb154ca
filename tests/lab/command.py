"""Commands the lab runs on the host: as root where that is needed, their output kept for when they fail."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from installer.errors import HyperError


def is_root() -> bool:
    """Whether this process may mount and make device nodes without sudo."""
    return os.geteuid() == 0


def as_root(argv: Sequence[str]) -> list[str]:
    """The same command with the rights of root; sudo may ask for its password on the terminal."""
    return list(argv) if is_root() else ["sudo", "--", *argv]


def run(argv: Sequence[str | Path], *, root: bool = False, stdin: str | None = None) -> str:
    """Run to the end and return standard output.

    Raises:
        HyperError: the command failed; its last lines of output are the reason.
    """
    words = [str(word) for word in argv]
    done = subprocess.run(
        as_root(words) if root else words,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise HyperError(
            f"the lab could not run: {' '.join(words)[:300]}",
            why=f"it exited with {done.returncode}:\n{tail}",
            remedy="mend what the output names; `python -m tests.lab clean` starts from nothing",
        )
    return done.stdout


def remove_tree(path: Path) -> None:
    """Remove a tree that root may own. Never crosses into another file system (a forgotten bind mount)."""
    if path.exists() or path.is_symlink():
        run(["rm", "-rf", "--one-file-system", "--", path], root=True)
