"""Key files: made here, of chance alone, for devices that the installed host opens by itself."""

import secrets
from pathlib import Path

from installer.execute.evidence import Evidence
from installer.execute.files import check_file, write_file
from installer.execute.runner import Runner

_LENGTH = 64
"""Bytes: as much as the volume key that it opens (aes-xts-plain64)."""
_MODE = 0o600


def write_key(path: Path) -> None:
    """Write a new key; one that an interrupted try left opens nothing, or no more than the new one."""
    write_file(path, secrets.token_bytes(_LENGTH), _MODE)


def check_key(runner: Runner, device: str, path: Path) -> Evidence:
    """It opens the device, and only root reads it."""
    found = check_file(path, _MODE, None)
    runner.run(
        ["cryptsetup", "open", "--test-passphrase", "--type", "luks2", "--key-file", str(path), device]
    )
    return (*found, f"{path} opens {device}")
