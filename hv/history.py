"""Who changed what of this host: a file of JSON lines, the system journal, and the kernel's audit log.

The audit log is what only root can rewrite (auditctl(8), -m), where there is one.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from hv.firstrun.world import World, sync_folder
from installer.errors import HyperError
from installer.frozen import Frozen

FILE = "/var/lib/hyper-nixos/history.jsonl"
"""On the host; one entry a line, the newest last."""
UNSET = 2**32 - 1
"""The login id of processes that nobody logged in for (proc_pid_loginuid(5))."""


class Entry(Frozen):
    """One thing that happened."""

    version: Literal[1] = 1
    """Format."""
    at: datetime
    """When."""
    who: str
    """Login name, `root` at the machine itself, or `the timer`."""
    action: str
    """`harden`, `confirmed`, `reverted`, …"""
    what: str
    """In words."""
    previous: str | None = None
    """Toplevel before."""
    incoming: str | None = None
    """Toplevel after."""
    files: tuple[str, ...] = ()
    """Files of /etc/nixos that it changed."""


def who(root: Path) -> str:
    """Who is behind this process: the kernel's login id outlives sudo and su; without one, sudo's word for it."""
    try:
        uid = int((root / "proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        uid = UNSET
    if uid == UNSET:
        return os.environ.get("SUDO_USER") or _name(root, os.geteuid())
    return _name(root, uid)


def _name(root: Path, uid: int) -> str:
    passwd = root / "etc/passwd"
    lines = passwd.read_text(encoding="utf-8", errors="replace").splitlines() if passwd.is_file() else ()
    for line in lines:
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid):
            return fields[0]
    return f"uid {uid}"


def record(world: World, entry: Entry) -> None:
    """Keep it, in all three places. A log that cannot be written holds no change up: it is warned about."""
    path = world.path(FILE)
    fresh = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(entry.model_dump_json() + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    if fresh:
        sync_folder(path.parent)
    line = " ".join(f"hyper-nixos {entry.action}: {entry.what}, by {entry.who}".split())
    for argv in (
        ("logger", "--tag", "hyper-nixos", "--priority", "authpriv.notice", line),
        ("auditctl", "-m", line),
    ):
        try:
            world.attempt(argv, timeout=10)
        except HyperError:
            continue  # no such program: a host without auditd
