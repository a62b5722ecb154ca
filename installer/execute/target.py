"""Programs of the installed system, run inside it."""

import contextlib
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from installer.execute.runner import Finished, Runner

SYSTEM = "/nix/var/nix/profiles/system"
"""The system profile, inside the target."""


def run_inside(
    runner: Runner,
    root: Path,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    check: bool = True,
) -> Finished:
    """Run a program of the target with the target as its root, in mount and PID namespaces of its own.

    The live system's programs build the namespace; PATH inside is the target's.
    """
    inside = {
        "IN_NIXOS_ENTER": "1",
        "LOCALE_ARCHIVE": f"{SYSTEM}/sw/lib/locale/locale-archive",
        **(environment or {}),
    }
    namespaces = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    with as_file(files("installer.execute") / "enter.sh") as script:
        finished = runner.run(
            ["unshare", *namespaces, "sh", str(script), str(root), *argv], environment=inside, check=check
        )
    with contextlib.suppress(
        OSError
    ):  # the mount point that the script made for itself, unless someone needs it
        Path(f"{root}{root}").rmdir()
    return finished
