"""Keys that the host keeps: made here, of chance alone, for devices that it opens by itself and for stage 1's SSH."""

import secrets
from pathlib import Path

from installer.execute.evidence import Evidence, ensure
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


def make_host_key(runner: Runner, path: Path, comment: str) -> str:
    """Make an SSH host key; the fingerprint of its public half."""
    for each in (path, path.with_name(f"{path.name}.pub")):
        each.unlink(missing_ok=True)
    runner.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)],
        environment={"HOME": "/root"},
    )
    return runner.run(["ssh-keygen", "-l", "-f", f"{path}.pub"]).text


def check_host_key(runner: Runner, path: Path) -> Evidence:
    """Its two halves fit, and only root reads it."""
    found = check_file(path, _MODE, None)
    public = path.with_name(f"{path.name}.pub").read_text().split()[:2]
    own = runner.run(["ssh-keygen", "-y", "-P", "", "-f", str(path)]).text.split()[:2]
    ensure(own == public, f"{path}.pub beside its key", "another key's")
    return found
