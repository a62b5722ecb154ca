"""What the lab needs of the machine it runs on, looked at before anything is downloaded."""

import os
import shutil
import subprocess

from installer.errors import Exit, HyperError
from tests.lab import cache
from tests.lab.command import as_root, is_root
from tests.lab.paths import LAB

SPACE = 6 << 30
"""Bytes: userland, store, image and two runs."""
PROGRAMS = ("mmdebstrap", "unshare", "mount", "setpriv")


def packages() -> dict[str, str]:
    """Host packages, name to reason, from packages.txt."""
    lines = (LAB / "packages.txt").read_text().splitlines()
    pairs = (line.split("#", 1) for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): reason.strip() for name, reason in pairs}


def require() -> None:
    """Raises HyperError naming everything that is missing."""
    missing: list[str] = []
    if not is_root() and shutil.which("sudo") is None:
        missing.append("root: neither root nor sudo")
    missing += [f"the program {name}" for name in PROGRAMS if shutil.which(name) is None]
    if not missing:
        missing += _namespaces()
    if cache.free_space() < SPACE:
        missing.append(f"disk space: {cache.free_space() >> 30} of {SPACE >> 30} GiB free")
    if os.uname().machine != "x86_64":
        missing.append(f"an x86_64 processor; this is {os.uname().machine}")
    if missing:
        raise HyperError(
            "the lab cannot run here",
            why="missing: " + "; ".join(missing),
            remedy=f"install {', '.join(packages())}; run as root or with sudo, in a container with --privileged",
            code=Exit.privilege,
        )


def _namespaces() -> list[str]:
    """Each right by using it."""
    trials = {
        "mount namespaces (unshare --mount)": ["unshare", "--mount", "true"],
        "mounting (mount -t tmpfs in a namespace)": [
            "unshare",
            "--mount",
            "mount",
            "-t",
            "tmpfs",
            "none",
            "/mnt",
        ],
        "user namespaces, for Nix's sandbox (unshare --user)": [
            "unshare",
            "--user",
            "--map-root-user",
            "true",
        ],
        "the overlay file system": ["sh", "-c", "grep -qw overlay /proc/filesystems || modprobe overlay"],
    }
    found = []
    for what, argv in trials.items():
        done = subprocess.run(as_root(argv), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            found.append(f"{what}: {done.stderr.strip()[-200:]}")
    return found
