"""Can an administrator still get in? Looked at, on the running host, for a configuration that is not in force yet."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hv.firstrun.world import World
from installer.errors import Exit, HyperError

GROUP = "wheel"
"""Whose members may become root on NixOS (security.sudo-rs)."""
ALGORITHMS = {
    "ECDSA": ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    "ECDSA-SK": ("sk-ecdsa-sha2-nistp256@openssh.com",),
    "ED25519": ("ssh-ed25519",),
    "ED25519-SK": ("sk-ssh-ed25519@openssh.com",),
    "RSA": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""ssh-keygen's name of a kind of key (sshkey_type), and sshd's names of the signatures that it makes."""


@dataclass(frozen=True)
class Account:
    """What passwd(5), group(5) and shadow(5) say of one user."""

    name: str
    home: str
    shell: str
    groups: tuple[str, ...]
    password: str
    """Hash; `!` or `*` in front: locked."""
    expires: int | None
    """Day since 1970 from which on the account is closed."""


def require_way_in(world: World, administrators: tuple[str, ...], system: Path) -> tuple[str, ...]:
    """Every way into a host that runs `system` (a toplevel): sentences. Raises when there is none.

    A way is a public key that sshd of that system would admit, or a password at the console.
    """
    ways: list[str] = []
    obstacles: list[str] = []
    for name in administrators:
        account = read_account(world, name)
        if account is None:
            obstacles.append(f"{name}: there is no such account")
        elif closed := _closed(world, account):
            obstacles.append(f"{name}: {closed}")
        else:
            if account.password.startswith("$"):
                ways.append(f"{name}: with a password at the console")
            else:
                obstacles.append(f"{name}: has no password for the console")
            if obstacle := _ssh_obstacle(world, account, system):
                obstacles.append(f"{name}: {obstacle}")
            else:
                ways.append(f"{name}: with a key over SSH")
    if not ways:
        raise HyperError(
            "Nobody could log in as an administrator.",
            why="; ".join(obstacles) or "the hand-off names no administrator",
            remedy="Give one an SSH key or a password in /etc/nixos, rebuild, then `hv firstrun retry phase`.",
            code=Exit.lockout,
        )
    return tuple(ways)


def read_account(world: World, name: str) -> Account | None:
    """The user as the host has it now."""
    passwd = _records(world, "/etc/passwd")
    if name not in passwd:
        return None
    _, _, group_id, _, home, shell = (passwd[name] + [""] * 6)[:6]
    groups = tuple(
        group
        for group, fields in _records(world, "/etc/group").items()
        if fields[1] == group_id or name in fields[2].split(",")
    )
    shadow = (_records(world, "/etc/shadow").get(name) or []) + [""] * 8
    return Account(name, home, shell, groups, shadow[0], int(shadow[6]) if shadow[6].isdigit() else None)


def _closed(world: World, account: Account) -> str | None:
    """Why the account is of no use at all."""
    if GROUP not in account.groups:
        return f"is not in group {GROUP}"
    shell = world.path(account.shell)
    if shell.name in ("nologin", "false") or not os.access(shell, os.X_OK):
        return f"has no shell that runs ({account.shell})"
    if account.expires is not None and world.clock.now().timestamp() // 86400 >= account.expires:
        return f"expired on day {account.expires} since 1970"
    return None


def _ssh_obstacle(world: World, account: Account, system: Path) -> str | None:
    """Why no key opens an SSH session in that system; none when one does."""
    config = system / "etc/ssh/sshd_config"
    if not config.is_file():
        return "no SSH server is configured"
    who = f"user={account.name},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"
    with _privilege_folder(world):
        done = world.attempt(("sshd", "-T", "-f", str(config), "-C", who), timeout=30)
    if done.status:
        return f"sshd refuses its configuration ({done.stderr.strip()})"
    settings: dict[str, list[str]] = {}
    for line in done.text.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key, []).extend(value.split())
    if settings.get("pubkeyauthentication") != ["yes"]:
        return "sshd takes no keys"
    if (methods := settings.get("authenticationmethods", ["any"])) not in (
        ["any"],
    ) and "publickey" not in methods:
        return f"sshd wants more than a key ({' '.join(methods)})"
    if refused := _refused(account, settings):
        return refused
    files = [
        _key_file(world, account, system, pattern) for pattern in settings.get("authorizedkeysfile", [])
    ]
    kinds = [kind for file in files if file.is_file() for kind in _key_kinds(world, file)]
    if not kinds:
        return f"has no readable key in {', '.join(map(str, files)) or 'any file'}"
    taken = {each for value in settings.get("pubkeyacceptedalgorithms", []) for each in value.split(",")}
    if taken and not any(taken.intersection(ALGORITHMS.get(kind, ())) for kind in kinds):
        return f"sshd takes no key of these kinds: {', '.join(sorted(set(kinds)))}"
    return None


def _key_kinds(world: World, file: Path) -> list[str]:
    """Kind of each key in an authorized_keys file, as ssh-keygen names it: `ED25519`."""
    # A line for each key it can read: `256 SHA256:… comment (ED25519)`; it fails when there is none.
    done = world.attempt(("ssh-keygen", "-l", "-f", str(file)), timeout=30)
    return re.findall(r"\(([A-Z0-9-]+)\)$", done.text, re.MULTILINE) if done.status == 0 else []


@contextmanager
def _privilege_folder(world: World) -> Iterator[None]:
    """sshd's empty folder, without which some builds refuse even to check; services make it when they start."""
    folder = world.path("/run/sshd")
    made = not folder.exists()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        yield
    finally:
        if made:
            folder.rmdir()


def _refused(account: Account, settings: dict[str, list[str]]) -> str | None:
    """sshd_config(5): deny before allow, users before groups; a list that is there must name the account."""
    for kind, names in (("users", (account.name,)), ("groups", account.groups)):
        if _named(names, settings.get(f"deny{kind}", [])):
            return f"sshd's Deny{kind.title()} names the account"
        allowed = settings.get(f"allow{kind}", [])
        if allowed and not _named(names, allowed):
            return f"sshd's Allow{kind.title()} does not name the account"
    return None


def _named(names: tuple[str, ...], patterns: list[str]) -> bool:
    """Whether a list names one of these; `!` in front leaves out, a pattern's host part is taken as fitting."""
    users = [pattern.partition("@")[0] for pattern in patterns]
    if any(fnmatchcase(name, user[1:]) for name in names for user in users if user.startswith("!")):
        return False
    return any(fnmatchcase(name, user) for name in names for user in users)


def _key_file(world: World, account: Account, system: Path, pattern: str) -> Path:
    """sshd_config(5), TOKENS of AuthorizedKeysFile; relative names are below the home folder."""
    tokens = {"%%": "%", "%h": account.home, "%u": account.name}
    named = re.sub("%[%hu]", lambda match: tokens[match[0]], pattern)
    absolute = named if named.startswith("/") else f"{account.home}/{named}"
    in_system = system / absolute.lstrip("/")
    return in_system if absolute.startswith("/etc/") and in_system.exists() else world.path(absolute)


def _records(world: World, file: str) -> dict[str, list[str]]:
    lines = world.path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    split = [line.split(":") for line in lines if ":" in line]
    return {name: fields for name, *fields in split}
