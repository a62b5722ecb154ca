"""What this process mounts is its own, so that workers of tests do not hold each other's disks."""

import ctypes
import os
from pathlib import Path

MOUNTS = 0x00020000
"""CLONE_NEWNS (unshare(2))."""
SLAVES = 0x00004000 | 0x00080000
"""MS_REC | MS_SLAVE (mount(2)): what is mounted outside is seen in here, and not the other way round."""

_outside: list[int] = []


def leave() -> None:
    """Go on in a mount namespace of our own.

    A namespace that a test beside this one makes has a copy of all that is mounted where that test runs, and holds the
    disks below for as long as it lives.

    Raises:
        OSError: Without CAP_SYS_ADMIN.
    """
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(MOUNTS) != 0 or libc.mount(b"none", b"/", None, SLAVES, None) != 0:
        raise OSError(ctypes.get_errno(), "cannot have a mount namespace of our own")
    _outside.append(before)


def outside() -> Path:
    """The mount namespace that was left, for nsenter(1)."""
    return Path(f"/proc/{os.getpid()}/fd/{_outside[0]}")
