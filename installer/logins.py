"""Who can log in: accounts as passwd(5), group(5) and shadow(5) have them, and what sshd's settings make of them.

Text and values in, values out: the installer asks of a target that has not booted, the first run of a system that is
not in force yet; each reads the files and runs sshd in its own way.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from installer.answers.password_hash import hash_fault
from installer.answers.ssh_key import SshKey, parse_ssh_key

WHEEL = "wheel"
"""Whose members may become root on NixOS (security.sudo)."""
NO_LOGIN = frozenset(("nologin", "false", "sync", "shutdown", "halt"))
"""Programs that stand where a shell would be and let nobody in."""
CLIENT = "host=client.invalid,addr=192.0.2.1"
"""For sshd's `-C`: somebody from outside (RFC 5737); what holds for the world, not for the host itself."""
SECONDS_A_DAY = 86400

SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")}
"""The signatures that a kind of key makes, where their name is not the kind's own (RFC 8332)."""

Settings = Mapping[str, tuple[str, ...]]
"""sshd's settings by lower-case keyword; one value for each line."""


@dataclass(frozen=True)
class Account:
    """One user."""

    name: str
    """Login name."""
    home: str
    """Home folder."""
    shell: str
    """Login shell."""
    groups: tuple[str, ...]
    """Names of all its groups."""
    hash: str
    """Second field of its line in shadow; empty: anyone gets in; `!` or `*` in front: locked."""
    expires: int | None
    """Day since 1970 from which on the account is closed."""

    @property
    def has_password(self) -> bool:
        """Whether a password opens it."""
        return self.hash != "" and hash_fault(self.hash) is None

    def problems(self, now: float) -> Iterator[str]:
        """Why it is of no use to an administrator at all; `now` in seconds since 1970."""
        if WHEEL not in self.groups:
            yield f"is not in the group {WHEEL}"
        if self.shell.rpartition("/")[2] in NO_LOGIN:
            yield f"its shell {self.shell} lets nobody in"
        if self.expires is not None and now // SECONDS_A_DAY >= self.expires:
            yield f"expired on day {self.expires} since 1970"
        if self.hash == "":
            yield "has an empty password: anyone would get in"
        if self.hash.startswith("$") and not self.has_password:
            yield f"its password hash {hash_fault(self.hash)}"


@dataclass(frozen=True)
class Row:
    """What a line of passwd(5) says of a user."""

    name: str
    """Login name."""
    uid: int
    """User id."""
    full_name: str
    """GECOS."""
    home: str
    """Home folder."""
    shell: str
    """Login shell."""


def passwd_row(name: str, passwd: str) -> Row | None:
    """A user's line; none when there is none."""
    row = next((row for row in _rows(passwd, 7) if row[0] == name), None)
    return None if row is None else Row(row[0], int(row[2]), row[4], row[5], row[6])


def parse_account(name: str, passwd: str, group: str, shadow: str) -> Account | None:
    """A user from the text of the three files; none when passwd has no line for it. Without a line in shadow: locked."""
    user = next((row for row in _rows(passwd, 7) if row[0] == name), None)
    if user is None:
        return None
    groups = tuple(row[0] for row in _rows(group, 4) if name in row[3].split(",") or row[2] == user[3])
    secret = next((row for row in _rows(shadow, 2) if row[0] == name), [name, "!"])
    expires = secret[7] if len(secret) > 7 else ""
    return Account(name, user[5], user[6], groups, secret[1], int(expires) if expires.isdigit() else None)


def _rows(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        row = line.split(":")
        if len(row) >= fields:
            yield row


def parse_settings(text: str) -> Settings:
    """What `sshd -T` prints."""
    settings: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        word, _, value = line.partition(" ")
        settings[word.lower()] = (*settings.get(word.lower(), ()), value)
    return settings


def key_files(account: Account, settings: Settings) -> tuple[str, ...]:
    """Absolute paths where sshd looks for the account's keys (sshd_config(5), AuthorizedKeysFile and TOKENS)."""
    patterns = " ".join(settings.get("authorizedkeysfile", ())).split()
    return tuple(_expanded(account, pattern) for pattern in patterns if pattern != "none")


def _expanded(account: Account, pattern: str) -> str:
    path = pattern.replace("%%", "\0").replace("%u", account.name).replace("%h", account.home)
    path = path.replace("\0", "%")
    return path if path.startswith("/") else f"{account.home}/{path}"


def usable_keys(text: str) -> tuple[SshKey, ...]:
    """The keys of an authorized_keys file that open an ordinary session."""
    keys = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            with contextlib.suppress(ValueError):
                keys.append(parse_ssh_key(line))
    return tuple(key for key in keys if not key.limits)


def ssh_problems(account: Account, settings: Settings, keys: Iterable[SshKey]) -> Iterator[str]:
    """What keeps this account from logging in through SSH; nothing when a key or a password opens it."""

    def value(name: str) -> str:
        return " ".join(settings.get(name, ()))

    # sshd_config(5): deny before allow, users before groups; a list that is there must name the account.
    for kind, names in (("Users", (account.name,)), ("Groups", account.groups)):
        if _named(value(f"deny{kind.lower()}"), names):
            yield f"sshd's Deny{kind} names it"
        allowed = value(f"allow{kind.lower()}")
        if allowed and not _named(allowed, names):
            yield f"sshd's Allow{kind} leaves it out"
    keys = tuple(keys)
    accepted = {*value("pubkeyacceptedalgorithms").replace(" ", ",").split(",")} - {""}
    fitting = [key for key in keys if not accepted or accepted & {*SIGNATURES.get(key.kind, (key.kind,))}]
    by_key = bool(fitting) and value("pubkeyauthentication") == "yes"
    can = {"publickey"} if by_key else set()
    if account.has_password and value("passwordauthentication") == "yes":
        can.add("password")
    # OpenSSH for Linux asks questions through PAM alone.
    if account.has_password and value("kbdinteractiveauthentication") == value("usepam") == "yes":
        can.add("keyboard-interactive")
    chains = [chain.split(",") for chain in value("authenticationmethods").split() if chain != "any"]
    if not can:
        yield _without(account, settings, keys, fitting)
    elif chains and not any({method.split(":")[0] for method in chain} <= can for chain in chains):
        yield f"sshd wants {value('authenticationmethods')}"


def _without(account: Account, settings: Settings, keys: Sequence[SshKey], fitting: Sequence[SshKey]) -> str:
    """Why neither a key nor a password opens it."""
    if fitting:
        return "sshd does not accept keys"
    if keys:
        return f"sshd takes no key of these kinds: {', '.join(sorted({key.kind for key in keys}))}"
    return f"no usable key in {', '.join(key_files(account, settings)) or 'any file'}, where sshd looks"


def _named(patterns: str, names: Iterable[str]) -> bool:
    """Whether a list of sshd_config(5) patterns names one; a pattern's host part is taken as fitting."""
    users = [pattern.partition("@")[0] for pattern in patterns.split()]
    names = tuple(names)
    left_out = any(fnmatchcase(name, each[1:]) for each in users if each.startswith("!") for name in names)
    return not left_out and any(fnmatchcase(name, each) for each in users for name in names)
