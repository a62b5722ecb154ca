"""Commands from the userland, run on the host: QEMU, Nix and the makers of images, newer than most hosts have."""

import os
from collections.abc import Sequence
from pathlib import Path

from tests.lab.command import as_root, is_root, run
from tests.lab.paths import LAB, REPOSITORY
from tests.lab.userland import build


def entered(
    root: Path, argv: Sequence[str | Path], *, keep_user: bool = False, process: bool = True
) -> list[str]:
    """The command line that runs a command with `root` as its root directory.

    Args:
        root: tree to enter; /tmp and the repository keep their names inside.
        argv: the command, as named inside.
        keep_user: run it as the caller, not as root (QEMU does not need root).
        process: a process namespace of its own, so that nothing outlives the command.
    """
    owner = f"{os.getuid()}:{os.getgid()}" if keep_user and not is_root() else ""
    namespaces = ["--mount", "--propagation", "private"]
    if process:
        namespaces += ["--pid", "--fork", "--kill-child"]
    enter = ["sh", LAB / "enter.sh", root, owner, REPOSITORY, *argv]
    return as_root([str(word) for word in ["unshare", *namespaces, "--", *enter]])


def tool(*argv: str | Path, stdin: str | None = None) -> str:
    """Run a tool of the userland to its end, as root, and return what it printed."""
    return run(entered(build() / "root", argv), stdin=stdin)
