"""Our live system takes the place of whatever runs on a machine (kexec(8)). Written; no machine here has proved it."""

import subprocess
import sys
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.remote.connection import Connection
from installer.remote.target import Seen

FILES = ("bzImage", "initrd.gz", "kexec-boot")
"""What nixpkgs' `kexecTree` has."""
THERE = "/root/hyper-nixos-kexec"


def start_kexec(connection: Connection, seen: Seen, tree: Path) -> int:
    """Send the tree and start it. The connection ends with the system that it leads to.

    Raises:
        HyperError: the tree is none, or nobody confirmed that what runs there ends (Exit.consent).
    """
    missing = [name for name in FILES if not (tree / name).exists()]
    if missing:
        raise HyperError(
            f"{tree} is no kexec tree",
            why=f"it has no {', '.join(missing)}",
            remedy="build one with `nix build .#kexec`, and name its result",
            code=Exit.usage,
        )
    host = connection.target.host
    print(
        f"{host} runs {seen.system}. It ends at once, with everything that runs on it; its disks are not touched yet.\n"
        "The live system in its place needs about 4 GB of memory, and shows a NEW host key on the machine's screen."
    )
    if not sys.stdin.isatty() or input(f"Type its name, {host}, to go on: ").strip() != host:
        raise HyperError(
            "not started; everything there runs on",
            why="nobody typed the machine's name",
            remedy="run it at a terminal, and type the name",
            code=Exit.consent,
        )
    connection.output(f"umask 077 && mkdir -p {THERE}")
    for name in FILES:
        with (tree / name).open("rb") as content:
            done = subprocess.run([*connection.argv(), f"cat > {THERE}/{name}"], stdin=content, check=False)
        if done.returncode:
            raise HyperError(
                f"{name} could not be sent to {host}",
                why=f"ssh ended with {done.returncode}",
                remedy=f"is there room in {THERE}? Run it again",
                code=Exit.step,
            )
    connection.output(
        f"chmod +x {THERE}/kexec-boot && (setsid sh -c 'sleep 1; {THERE}/kexec-boot' >/dev/null 2>&1 &)"
    )
    print(
        "It starts. When the machine's screen shows its fingerprint and password, run the same command again, with\n"
        "--host-key and without --kexec."
    )
    return Exit.ok
