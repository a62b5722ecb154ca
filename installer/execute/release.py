"""Files that nobody may remove, until their flags are taken off (ioctl_iflags(2))."""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
"""linux/fs.h, 64 bit."""
_HELD = 0x10 | 0x20
"""FS_IMMUTABLE_FL and FS_APPEND_FL: NixOS makes /var/empty so, and the kernel most variables of the firmware."""


def release(path: Path) -> None:
    """Take off the flags that forbid removing; file systems without them have nothing to take off."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(8)))
            if flags & _HELD:
                fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, struct.pack("l", flags & ~_HELD))
    finally:
        os.close(descriptor)
