"""A way in for an administrator, on a mounted host: in force at its next boot, and kept by its next rebuild."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from installer.answers.password_hash import hash_fault
from installer.answers.ssh_key import parse_ssh_key
from installer.errors import Exit, HyperError
from installer.execute.evidence import Wrong
from installer.execute.files import make_directory, within, write_file
from installer.execute.login_proof import prove_login
from installer.execute.runner import Runner
from installer.logins import parse_account
from installer.plan.checks import LoginProof
from installer.plan.installation import SECRETS
from installer.plan.prebuilt import HOST_DATA
from installer.render.nix import Commented, Function, Nix, force, to_nix, uses

MODULE = "rescue-login.nix"
"""Beside the host's configuration."""
_IMPORTS = re.compile(r"^(?P<indent>[ \t]*)imports = \[[ \t]*$", re.MULTILINE)
_TITLE = "Set by `hv rescue login`: move it to users.nix when there is time, and take this file out of the imports."
_WHEEL = "wheel"
_SECRET, _PLAIN, _KEYS = 0o600, 0o644, 0o600


@dataclass(frozen=True)
class NewLogin:
    """What an account gets."""

    user: str
    """Login name."""
    password_hash: str | None = None
    """crypt(5) hash."""
    ssh_key: str | None = None
    """One authorized_keys line."""


def check_login(root: Path, login: NewLogin) -> None:
    """Refuse what would help nobody, before anything is changed. Raises HyperError (Exit.answers)."""
    texts = [within(root, f"/etc/{name}") for name in ("passwd", "group", "shadow")]
    account = (
        parse_account(login.user, *(path.read_text() for path in texts)) if texts[0].is_file() else None
    )
    if account is None:
        names = (
            [line.split(":")[0] for line in texts[0].read_text().splitlines()] if texts[0].is_file() else []
        )
        raise _wrong(
            f"there is no account {login.user} on the host",
            f"it has: {', '.join(names) or 'none'}",
            "name one of its administrators",
        )
    if _WHEEL not in account.groups:
        raise _wrong(
            f"{login.user} is no administrator of the host",
            f"it is in the groups {', '.join(account.groups) or 'none'}, not in {_WHEEL}",
            "name a member of wheel; `hv rescue shell` is there for everything else",
        )
    if login.password_hash is not None and (fault := hash_fault(login.password_hash)):
        raise _wrong(
            "the password hash cannot be used", f"it {fault}", "make one with `mkpasswd -m yescrypt`"
        )
    if login.ssh_key is not None:
        try:
            parse_ssh_key(login.ssh_key)
        except ValueError as error:
            raise _wrong(
                "the SSH key cannot be used", str(error), "give the one line of a `.pub` file"
            ) from None
    configuration = root / "etc/nixos/configuration.nix"
    if not configuration.is_file() or not _IMPORTS.search(configuration.read_text()):
        raise _wrong(
            "the host's configuration cannot be kept in agreement, and nothing was changed",
            f"{configuration} has no line `imports = [` to add a file to",
            "add `./rescue-login.nix` to its imports by hand after `hv rescue shell`, or write the login there",
        )


def _wrong(what: str, why: str, remedy: str) -> HyperError:
    return HyperError(what, why=why, remedy=remedy, code=Exit.answers)


def reset_login(runner: Runner, root: Path, login: NewLogin) -> Iterator[str]:
    """Set the login, on the host as it is and in its configuration; says each file that was changed, then proves it.

    Raises:
        HyperError: it cannot be used (Exit.answers), or nobody gets in by it (Exit.step).
        OSError: a file cannot be written.
    """
    check_login(root, login)
    if login.password_hash is not None:
        yield from _password(root, login.user, login.password_hash)
    if login.ssh_key is not None:
        yield from _key(root, login.user, login.ssh_key.strip())
    yield from keep_in_configuration(root / "etc/nixos", login)
    try:
        for line in prove_login(runner, LoginProof(root=str(root), administrators=(login.user,))):
            yield f"proved: {line}"
    except Wrong as error:
        raise HyperError(
            f"{login.user} still has no way in at the next boot",
            why=str(error),
            remedy="set a password too (`--password`), or rebuild in `hv rescue shell`: the configuration has the login",
            code=Exit.step,
        ) from error


def _password(root: Path, user: str, value: str) -> Iterator[str]:
    folder = within(root, SECRETS) / "passwords"
    make_directory(folder.parent, 0o700)
    make_directory(folder, 0o700)
    write_file(folder / user, f"{value}\n".encode(), _SECRET)
    yield f"changed {folder / user}"
    shadow = within(root, "/etc/shadow")
    mode = shadow.stat().st_mode & 0o7777
    rows = [line.split(":") for line in shadow.read_text().splitlines()]
    for row in rows:
        if row[0] == user:
            row[1] = value
            # An account that has expired, or whose password has, would not open with the right one either.
            row[2:9] = [row[2], *([""] * (len(row) - 3))]
    write_file(shadow, "".join(":".join(row) + "\n" for row in rows).encode(), mode)
    yield f"changed {shadow}: the password of {user}"


def _key(root: Path, user: str, key: str) -> Iterator[str]:
    """Where the running configuration may look for it: the data of a ready system, and the account's own file."""
    row = next(
        line.split(":")
        for line in within(root, "/etc/passwd").read_text().splitlines()
        if line.startswith(f"{user}:")
    )
    if within(root, f"{HOST_DATA}/hostname").is_file():
        yield from _append(within(root, f"{HOST_DATA}/authorized_keys") / user, key, _PLAIN, (0, 0))
    owner = int(row[2]), int(row[3])
    folder = within(root, row[5]) / ".ssh"
    if not folder.is_dir():
        if not folder.parent.is_dir():
            make_directory(folder.parent, 0o700)
            _give(folder.parent, owner)
        make_directory(folder, 0o700)
        _give(folder, owner)
    yield from _append(folder / "authorized_keys", key, _KEYS, owner)


def _append(path: Path, key: str, mode: int, owner: tuple[int, int]) -> Iterator[str]:
    if path.is_symlink():
        return  # of somebody else's making, and perhaps into the store
    before = path.read_text() if path.is_file() else ""
    if key in before.splitlines():
        yield f"{path}: the key is there already"
        return
    if before and not before.endswith("\n"):
        before += "\n"
    write_file(path, f"{before}{key}\n".encode(), mode)
    _give(path, owner)
    yield f"changed {path}: one key more"


def _give(path: Path, owner: tuple[int, int]) -> None:
    os.chown(path, *owner, follow_symlinks=False)


def keep_in_configuration(folder: Path, login: NewLogin) -> Iterator[str]:
    """Write the login into a file beside the host's configuration, and have that import it.

    Args:
        folder: The configuration's.
        login: What to keep; the hash itself is not written there.
    """
    account: dict[str, Nix] = {}
    if login.password_hash is not None:
        account["hashedPasswordFile"] = force(f"{SECRETS}/passwords/{login.user}")
    if login.ssh_key is not None:
        account["openssh"] = {"authorizedKeys": {"keys": [login.ssh_key.strip()]}}
    options: dict[str, Nix] = {"users": {"users": {login.user: account}}}
    named = any("AllowUsers" in path.read_text(errors="replace") for path in folder.rglob("*.nix"))
    if (
        named
    ):  # without such a list everybody may log in, and one with a single name would lock the others out
        options["services"] = {"openssh": {"settings": {"AllowUsers": [login.user]}}}
    body: Nix = Function(("lib",), options) if uses(options, "lib") else options
    text = to_nix(Commented(_TITLE, body))
    write_file(folder / MODULE, text.encode(), _PLAIN)
    yield f"changed {folder / MODULE}"
    configuration = folder / "configuration.nix"
    before = configuration.read_text()
    if f"./{MODULE}" not in before:
        after = _IMPORTS.sub(lambda found: f"{found[0]}\n{found['indent']}  ./{MODULE}", before, count=1)
        write_file(configuration, after.encode(), configuration.stat().st_mode & 0o7777)
        yield f"changed {configuration}: imports ./{MODULE}"
