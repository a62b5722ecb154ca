"""Before rebooting: can an administrator log in, and become root? Looked at in the installed system, in every phase."""

import contextlib
import fnmatch
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from installer.answers.password_hash import hash_fault
from installer.answers.ssh_key import parse_ssh_key
from installer.execute.evidence import Evidence, Wrong, ensure
from installer.execute.files import within
from installer.execute.nix_store import profile_toplevel
from installer.execute.runner import Runner
from installer.execute.target import run_inside
from installer.plan.checks import LoginProof

_WHEEL = "wheel"
_NO_LOGIN = {"nologin", "false", "sync", "shutdown", "halt"}
_CLIENT = "host=client.invalid,addr=192.0.2.1"
"""Somebody from outside (RFC 5737): what holds for the world, not for the host itself."""
_SUDO_RULE = re.compile(r"^(\S+)\s+\S+\s*=\s*(?:\([^)]*\))?\s*(.*)$", re.MULTILINE)
"""Who, and what with which tags (sudoers(5))."""


@dataclass(frozen=True)
class Account:
    """One account as activation left it."""

    name: str
    """Login name."""
    home: str
    """Home folder."""
    shell: str
    """Login shell."""
    groups: tuple[str, ...]
    """Names of all its groups."""
    password: str | None
    """Its password hash; none: locked, or none set."""


@dataclass(frozen=True)
class Phase:
    """The system, or one of its specialisations."""

    name: str
    """`setup`, `hardened`."""
    toplevel: str
    """Store path."""


def prove_login(runner: Runner, check: LoginProof) -> Evidence:
    """At least one administrator gets in and can become root, in every phase.

    Raises:
        Wrong: nobody does; says for each administrator and way what stands against it.
    """
    root = Path(check.root)
    evidence: list[str] = []
    for phase in _phases(root):
        ways: list[str] = []
        against: list[str] = []
        with _host_key(runner, root) as key:
            for name in check.administrators:
                found, problems = _ways_in(runner, root, phase, name, key)
                ways += found
                against += [f"{name}: {problem}" for problem in problems]
        ensure(
            bool(ways),
            f"an administrator who can log in, in phase {phase.name}",
            "; ".join(against) or "none",
        )
        evidence += [f"{phase.name}: {way}" for way in ways]
    return tuple(evidence)


def _phases(root: Path) -> Iterator[Phase]:
    toplevel = profile_toplevel(root)
    yield Phase("setup", toplevel)
    folder = within(root, f"{toplevel}/specialisation")
    for each in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield Phase(each.name, "/" + str(within(root, "/" + str(each.relative_to(root))).relative_to(root)))


def _ways_in(runner: Runner, root: Path, phase: Phase, name: str, key: str) -> tuple[list[str], list[str]]:
    """How this person gets in during this phase, and what stands against the other ways."""
    try:
        account = _account(root, name)
    except Wrong as wrong:
        return [], [str(wrong)]
    problems = list(_account_problems(root, phase, account))
    if problems:
        return [], problems
    ways = [f"{name} at the console with a password"] if account.password else []
    if not account.password:
        problems.append("no password for the console")
    if within(root, f"{phase.toplevel}/etc/ssh/sshd_config").is_file():
        settings = _sshd_settings(runner, root, phase, account, key)
        keys = tuple(_keys(root, phase, account, settings))
        reasons = list(_ssh_problems(account, settings, keys))
        if reasons:
            ensure(not keys, f"{name}'s SSH keys admitted in phase {phase.name}", "; ".join(reasons))
            problems += reasons
        else:
            how = f"{len(keys)} key(s)" if keys else "a password"
            ways.append(f"{name} through SSH with {how} (`sshd -T` of the system itself)")
    else:
        problems.append("no SSH server")
    return ways, problems


def _account(root: Path, name: str) -> Account:
    rows = {file: _rows(root, file) for file in ("passwd", "shadow", "group")}
    user = next((row for row in rows["passwd"] if row[0] == name), None)
    if user is None:
        raise Wrong(f"the account {name} in the target's /etc/passwd", "no such line")
    groups = tuple(row[0] for row in rows["group"] if name in row[3].split(",") or row[2] == user[3])
    shadow = next((row for row in rows["shadow"] if row[0] == name), None)
    password = shadow[1] if shadow else ""
    usable = password if password and hash_fault(password) is None else None
    ensure(
        password != "" or shadow is None,
        f"a password or a lock for {name}",
        "an empty password: anyone gets in",
    )
    ensure(
        usable is not None or not password.startswith("$"),
        f"a supported password hash for {name}",
        f"one that {hash_fault(password)}",
    )
    return Account(name, user[5], user[6], groups, usable)


def _rows(root: Path, file: str) -> list[list[str]]:
    path = within(root, f"/etc/{file}")
    ensure(path.is_file(), f"the target's /etc/{file} (activation makes it)", "no such file")
    return [line.split(":") for line in path.read_text().splitlines() if line.count(":") >= 3]


def _account_problems(root: Path, phase: Phase, account: Account) -> Iterator[str]:
    if _WHEEL not in account.groups:
        yield f"is not in the group {_WHEEL}"
    shell = within(root, account.shell.replace("/run/current-system", phase.toplevel, 1))
    if not shell.is_file() or shell.name in _NO_LOGIN:
        yield f"its shell {account.shell} does not exist or lets nobody in"
    rules = within(root, f"{phase.toplevel}/etc/sudoers")
    if rules.is_file() and account.password is None:
        found = _SUDO_RULE.finditer(rules.read_text())
        granted = [match[2] for match in found if match[1] in {f"%{_WHEEL}", account.name}]
        if not granted or "NOPASSWD" not in granted[-1]:  # the last rule that fits decides
            yield "sudo asks for a password, and it has none: it could not become root"


def _sshd_settings(
    runner: Runner, root: Path, phase: Phase, account: Account, key: str
) -> dict[str, list[str]]:
    """What the phase's own sshd makes of its configuration for this account (sshd(8), -T and -C)."""
    configuration = within(root, f"{phase.toplevel}/etc/ssh/sshd_config")
    argv = [
        _program(root, phase, "sshd"),
        "-T",
        *("-f", "/" + str(configuration.relative_to(root))),
        *("-h", key),
        *("-C", f"user={account.name},{_CLIENT}"),
    ]
    settings: dict[str, list[str]] = {}
    for line in run_inside(runner, root, argv).text.splitlines():
        word, _, value = line.partition(" ")
        settings.setdefault(word.lower(), []).append(value)
    return settings


def _program(root: Path, phase: Phase, name: str) -> str:
    """sshd insists on its absolute path, and finds its helpers beside the real one."""
    path = within(root, f"{phase.toplevel}/sw/bin/{name}")
    ensure(path.is_file(), f"{name} in {phase.toplevel}/sw/bin", "no such program")
    return "/" + str(path.relative_to(root))


@contextlib.contextmanager
def _host_key(runner: Runner, root: Path) -> Iterator[str]:
    """A host key for the test alone: sshd -T wants one, and the host makes its own at first boot."""
    toplevel = profile_toplevel(root)
    if not within(root, f"{toplevel}/etc/ssh/sshd_config").is_file():
        yield ""
        return
    folder = within(root, "/run") / "hv-login-proof"
    privileges = within(root, "/run") / "sshd"  # sshd's empty folder on systems that make it at boot
    made = not privileges.exists()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    privileges.mkdir(exist_ok=True, mode=0o755)
    try:
        key = "/" + str((folder / "key").relative_to(root))
        keygen = _program(root, Phase("setup", toplevel), "ssh-keygen")
        run_inside(runner, root, [keygen, "-q", "-t", "ed25519", "-N", "", "-f", key])
        yield key
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if made:
            privileges.rmdir()


def _keys(root: Path, phase: Phase, account: Account, settings: dict[str, list[str]]) -> Iterator[str]:
    """Public keys where sshd will look for them."""
    for pattern in " ".join(settings.get("authorizedkeysfile", [])).split():
        if pattern == "none":
            continue
        expanded = pattern.replace("%%", "\0").replace("%u", account.name).replace("%h", account.home)
        expanded = expanded.replace("\0", "%")
        path = expanded if expanded.startswith("/") else f"{account.home}/{expanded}"
        for place in _places(root, phase, path):
            if place.is_file():
                yield from _usable(place)
                break


def _places(root: Path, phase: Phase, path: str) -> Iterator[Path]:
    """A file of /etc as this phase has it, before what activation of the first phase put there."""
    if path.startswith("/etc/"):
        yield within(root, f"{phase.toplevel}{path}")
    yield within(root, path)


def _usable(file: Path) -> Iterator[str]:
    for line in file.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            with contextlib.suppress(ValueError):
                parse_ssh_key(line)
                yield line


def _ssh_problems(account: Account, settings: dict[str, list[str]], keys: tuple[str, ...]) -> Iterator[str]:
    """What keeps this account from logging in through SSH."""

    def value(name: str) -> str:
        return " ".join(settings.get(name, []))

    if _named(value("denyusers"), (account.name,)) or _named(value("denygroups"), account.groups):
        yield "sshd denies this user or group"
    for name, who in (("allowusers", (account.name,)), ("allowgroups", account.groups)):
        if value(name) and not _named(value(name), who):
            yield f"{name} leaves it out"
    by_key = bool(keys) and value("pubkeyauthentication") == "yes"
    by_password = account.password is not None and "yes" in (
        value("passwordauthentication"),
        value("kbdinteractiveauthentication"),
    )
    methods = [method.split(",") for method in value("authenticationmethods").split() if method != "any"]
    can = {"publickey"} if by_key else set()
    can |= {"password", "keyboard-interactive"} if by_password else set()
    if not can:
        yield "no usable key where sshd looks" if not keys else "sshd does not accept keys"
    elif methods and not any({method.split(":")[0] for method in chain} <= can for chain in methods):
        yield f"sshd wants {value('authenticationmethods')}"


def _named(patterns: str, names: tuple[str, ...]) -> bool:
    """Whether a list of sshd_config(5) patterns names one; a pattern's host part is taken as fitting."""
    users = [pattern.split("@")[0] for pattern in patterns.split()]
    denied = any(
        fnmatch.fnmatchcase(name, each[1:]) for each in users if each.startswith("!") for name in names
    )
    return not denied and any(fnmatch.fnmatchcase(name, each) for each in users for name in names)
