"""A guest without an operating system that says which PCI devices it has, and drives some of them by itself.

Where the host is emulated too, a Linux guest said nothing for many minutes, with no device of the host's as well: each of
its instructions is translated twice. This one, of a few kilobytes, is up as soon as its firmware is.
"""

import hashlib
from pathlib import Path

from tests.lab.command import run
from tests.lab.paths import STATE

HERE = Path(__file__).parent
MARKER = "GUEST-UP"
"""What its first line begins with; later ones, when something has changed, with NOW."""
BLOCK = 4096
"""Bytes from one mark on the disk to the next."""
WRITTEN = "WRITTEN-BY-THE-GUEST"
"""What it writes to the second block of an NVMe disk."""
SECTORS = 32
"""Of 512 bytes that its first one loads."""
SIZE = 1 << 20
"""Bytes of the image."""


def image() -> Path:
    """A raw disk that a BIOS starts."""
    # Neither an operating system's libraries nor its conventions; and nothing between the sector and what it loads.
    argv = ["gcc", "-m32", "-march=i686", "-Os", "-Wall", "-Wextra", "-Werror", "-nostdlib", "-static"]
    argv += ["-ffreestanding", "-fno-pic", "-fno-pie", "-fno-stack-protector"]
    argv += ["-fno-asynchronous-unwind-tables", "-fcf-protection=none"]
    argv += [f"-DSECTORS={SECTORS}", f'-DMARKER="{MARKER}"', f'-DWRITTEN="{WRITTEN}\\n"']
    argv += ["-Wl,-Ttext=0x7c00,--build-id=none,-e,start,-z,norelro,--oformat=binary"]
    sources = [HERE / "start.S", HERE / "guest.c"]
    state = hashlib.sha256(repr(argv).encode() + b"".join(each.read_bytes() for each in sources)).hexdigest()
    folder = STATE / "devices-guest"
    there = folder / f"{state[:12]}.raw"
    if not there.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = there.with_suffix(".partial")
        run([*argv, "-o", str(partial), *map(str, sources)])
        assert partial.stat().st_size <= (SECTORS + 1) * 512, "more sectors have to be loaded"
        with partial.open("r+b") as stream:
            stream.truncate(SIZE)
        partial.rename(there)
    return there
