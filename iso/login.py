"""How the live system is reached from elsewhere: with the keys on the medium, or a password that is made at boot."""

import os
import secrets
import subprocess
from collections.abc import Callable, Mapping
from getpass import getpass
from pathlib import Path

from installer import embed
from installer.answers.ssh_key import fingerprint, parse_ssh_key
from installer.errors import Exit, HyperError
from installer.execute.files import make_directory, write_file
from iso import signature
from iso.authorized import public_keys
from iso.contents import Content

FOLDER = "run/hyper-nixos/live"
"""Below the root of the live system; memory, and root's alone."""
PASSWORD = "password"  # noqa: S105 -- the name of a file
PROBLEM = "problem"
AREA = f"iso/{embed.PATH}"
AREAS = (AREA, "run/hyper-nixos/embed.bin", f"boot/{embed.PATH}")
"""The embed area: where the live system mounts its medium, where stage 1 puts what came with the initial RAM disk, and on
the boot partition of a disk image. The first that is there is taken.
"""
SIGNERS = "etc/hyper-nixos/payload_signers"
"""Part of the live system, not of the area: whose signatures count (ssh-keygen(1), ALLOWED SIGNERS)."""
AUTHORIZED = "root/.ssh/authorized_keys"
CONNECTIONS = "run/NetworkManager/system-connections"
"""Where NetworkManager looks for connections that are for this boot only."""
HOST_KEYS = "etc/ssh"
ACCOUNT = "root"
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""No two of them look alike on a bad screen."""
GROUPS, GROUP = 3, 4
"""Twelve letters: 59 bits, more than anybody can try over the network."""


def make_password() -> str:
    """A new password, in groups that a person can read out."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(GROUP)) for _ in range(GROUPS))


def prepare(root: Path) -> tuple[str, ...]:
    """Take what the medium holds, and open a way in: its keys, else a password. What was done, a line each. Where the live
    system was built with signers, nothing is taken that none of them signed.

    Raises:
        HyperError: the medium's embed area is not taken; a password was made all the same.
    """
    folder = root / FOLDER
    make_directory(folder, 0o700)
    (folder / PROBLEM).unlink(missing_ok=True)
    problem = None
    files: Mapping[str, bytes] = {}
    done: list[str] = []
    try:
        files = embedded(root)
        done = [*require_signed(root, files), *install(root, files)]
    except HyperError as error:
        problem = error
        write_file(folder / PROBLEM, error.why.encode(), 0o600)
    if embed.WRAPPED in files:
        done.append("its secrets are locked: hv live unlock")
    if problem or embed.KEYS not in files:
        done.append(_open_with_password(folder))
    if problem:
        raise problem
    return tuple(done)


def embedded(root: Path) -> Mapping[str, bytes]:
    """Files in the embed area; none when the medium has no area. Raises HyperError."""
    for place in AREAS:
        try:
            with (root / place).open("rb") as file:
                return embed.unpack(file.read(embed.AREA + 1))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise embed.refusal(f"the medium cannot be read: {error.strerror}") from error
    return {}


def require_signed(root: Path, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Who signed what was embedded, a line; none where the live system knows no signers, or nothing was embedded.

    Raises:
        HyperError: it is signed by none of them, or not as it is now.
    """
    signers = root / SIGNERS
    arguments = embed.arguments_in(read(root / "proc/cmdline") or "")
    if not signers.exists() or not (files or arguments):
        return ()
    try:
        by = signature.payload_signer(Content(files, arguments), signers)
    except HyperError as error:
        raise embed.refusal(error.why) from error
    return (f"what the medium holds is signed by {by}",)


def install(root: Path, files: Mapping[str, bytes]) -> list[str]:
    """Put embedded files in their places. Raises HyperError, before anything is written, for keys that are none."""
    keys = files.get(embed.KEYS)
    if keys is not None and not public_keys(keys):
        raise embed.refusal(f"{embed.KEYS} in it holds no key")
    for name, content in files.items():
        folder, _, own = name.rpartition("/")
        path = root / (
            AUTHORIZED
            if name == embed.KEYS
            else f"{CONNECTIONS}/{own}"
            if folder == embed.NETWORK
            else f"{HOST_KEYS}/{own}"
            if folder == embed.HOST_KEYS
            else f"{FOLDER}/{name}"
        )
        make_directory(path.parent, 0o755 if folder == embed.HOST_KEYS else 0o700)
        write_file(path, content, 0o700 if folder == embed.HOOKS else 0o600)
        if folder == embed.HOST_KEYS:
            _publish(path)
    return [f"taken from the medium: {name}" for name in files]


def _publish(key: Path) -> None:
    """The public half beside a host key, which the page shows. Raises HyperError."""
    done = subprocess.run(["ssh-keygen", "-y", "-f", key], capture_output=True, check=False)
    if done.returncode:
        key.unlink()  # sshd would not start with it; it makes one of its own then
        raise embed.refusal(f"{key.name} in it is no key: {done.stderr.decode(errors='replace').strip()}")
    write_file(key.with_suffix(".pub"), done.stdout, 0o644)


def unlock(root: Path, identity: Path | None, ask: Callable[[str], str] = getpass) -> list[str]:
    """Open wrapped secrets, with an identity file or a passphrase, and put them in their places. Raises HyperError."""
    from iso import age  # what needs it is not there on every boot

    folder = root / FOLDER
    try:
        wrapped = (folder / embed.WRAPPED).read_bytes()
    except FileNotFoundError as error:
        raise HyperError(
            "there are no locked secrets",
            why="none came with the medium, or they were opened before",
            remedy="nothing needs to be done; the secrets that are there: `ls /run/hyper-nixos/live/secrets`",
            code=Exit.nothing,
        ) from error
    if identity is not None:
        opened = age.unwrap(wrapped, identity=identity)
    elif age.needs_passphrase(wrapped):
        opened = age.unwrap(wrapped, passphrase=ask("Passphrase of the secrets: ").encode())
    else:
        raise HyperError(
            "the secrets are locked for somebody's identity",
            why="they were wrapped for recipients, so no passphrase opens them",
            remedy="name the identity file: `hv live unlock --identity FILE`",
            code=Exit.usage,
        )
    files = embed.files_in(opened)
    if any(not name.startswith(f"{embed.SECRETS}/") for name in files):
        raise embed.refusal("there is something else than secrets among the locked secrets")
    done = install(root, files)
    (folder / embed.WRAPPED).unlink()
    return done


def host_keys(root: Path) -> tuple[tuple[str, str], ...]:
    """Kind and fingerprint of each key by which this system proves itself, Ed25519 first."""
    found = []
    for path in sorted((root / HOST_KEYS).glob("ssh_host_*_key.pub")):
        try:
            key = parse_ssh_key(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError):  # being written just now
            continue
        found.append(
            (key.kind.removeprefix("ssh-").removeprefix("ecdsa-sha2-").upper(), fingerprint(key.blob))
        )
    return tuple(sorted(found))


def _open_with_password(folder: Path) -> str:
    password = make_password()
    try:
        subprocess.run(
            ["chpasswd"], input=f"{ACCOUNT}:{password}\n".encode(), stdout=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise HyperError(
            "nobody can log in over the network",
            why=f"no password could be set for {ACCOUNT}: {error}",
            remedy="set one at the console: `sudo passwd root`",
            code=Exit.step,
        ) from error
    write_file(folder / PASSWORD, password.encode(), 0o600)
    return f"made a password for {ACCOUNT}; the screen shows it"


def read(path: Path) -> str | None:
    """Text of a small file; none when it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None


def is_root() -> bool:
    """Whether this process may read all that."""
    return os.geteuid() == 0
