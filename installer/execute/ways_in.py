"""The ways into a system that need not be in force yet: each administrator's account, and what sshd of that system says.

The installer asks it of a target that has not booted, a running host of the phase or declaration that it would switch to.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.answers.ssh_key import SshKey
from installer.execute.evidence import ensure
from installer.execute.files import within
from installer.execute.runner import Finished
from installer.logins import (
    CLIENT,
    WHEEL,
    Account,
    Settings,
    key_files,
    parse_account,
    parse_settings,
    ssh_problems,
    usable_keys,
)

RUNNING = "/run/current-system"
_SUDO_RULE = re.compile(r"^(\S+)\s+\S+\s*=\s*(?:\([^)]*\))?\s*(.*)$", re.MULTILINE)
"""Who, and what with which tags (sudoers(5))."""


@dataclass(frozen=True)
class System:
    """A system, and how its sshd is asked."""

    root: Path
    """The host's root."""
    toplevel: str
    """Absolute path in it."""
    sshd: str
    """The program, in the host."""
    run: Callable[[Sequence[str]], Finished]
    """Runs a program with the host's root as its own, and hands back however it ended."""
    now: float
    """Seconds since 1970."""
    host_key: str | None = None
    """For sshd to check its configuration with, where the host has none yet."""


@dataclass(frozen=True)
class Ways:
    """How one administrator gets into a system."""

    name: str
    """Login name."""
    password: bool
    """At the console, with a password."""
    ssh: str | None
    """Over SSH: with what; None: not at all."""
    against: tuple[str, ...]
    """What stands against the other ways."""
    keys: int = 0
    """Usable keys where sshd looks."""

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self.password or self.ssh is not None

    def said(self) -> Iterator[str]:
        """Sentences."""
        if self.password:
            yield f"{self.name}: with a password at the console"
        if self.ssh:
            yield f"{self.name}: over SSH, with {self.ssh}"


def ways_in(system: System, name: str) -> Ways:
    """How this person gets in, and what stands against the rest.

    Raises:
        Wrong: the host has no passwd, group or shadow.
    """
    account = parse_account(name, *_accounts(system.root))
    if account is None:
        return Ways(name, password=False, ssh=None, against=("there is no such account",))
    if closed := tuple(_closed(system, account)):
        return Ways(name, password=False, ssh=None, against=closed)
    against = [] if account.has_password else ["has no password for the console"]
    ssh, keys, problems = _over_ssh(system, account)
    return Ways(name, account.has_password, ssh, (*against, *problems), keys)


def _accounts(root: Path) -> Iterator[str]:
    for file in ("passwd", "group", "shadow"):
        path = within(root, f"/etc/{file}")
        ensure(path.is_file(), f"the host's /etc/{file}", "no such file")
        yield path.read_text(encoding="utf-8", errors="replace")


def _closed(system: System, account: Account) -> Iterator[str]:
    """Why the account is of no use to an administrator at all."""
    yield from account.problems(system.now)
    shell = within(system.root, account.shell.replace(RUNNING, system.toplevel, 1))
    if not (shell.is_file() and os.access(shell, os.X_OK)):
        yield f"has no shell that runs ({account.shell})"
    rules = within(system.root, f"{system.toplevel}/etc/sudoers")
    if rules.is_file() and not account.has_password:
        found = _SUDO_RULE.finditer(rules.read_text(encoding="utf-8"))
        granted = [match[2] for match in found if match[1] in {f"%{WHEEL}", account.name}]
        if not granted or "NOPASSWD" not in granted[-1]:  # the last rule that fits decides
            yield "sudo asks for a password, and it has none: it could not become root"


def _over_ssh(system: System, account: Account) -> tuple[str | None, int, tuple[str, ...]]:
    """With what SSH opens, how many keys sshd finds, and what stands against it."""
    configuration = within(system.root, f"{system.toplevel}/etc/ssh/sshd_config")
    if not configuration.is_file():
        return None, 0, ("no SSH server is configured",)
    key = ("-h", system.host_key) if system.host_key else ()
    file = f"/{configuration.relative_to(system.root)}"
    argv = (system.sshd, "-T", "-f", file, *key, "-C", f"user={account.name},{CLIENT}")
    done = system.run(argv)
    if done.status:
        return None, 0, (f"sshd refuses its configuration ({done.stderr.strip()})",)
    settings = parse_settings(done.text)
    keys = tuple(_keys(system, account, settings))
    if problems := tuple(ssh_problems(account, settings, keys)):
        return None, len(keys), problems
    return f"{len(keys)} key(s)" if keys else "a password", len(keys), ()


def _keys(system: System, account: Account, settings: Settings) -> Iterator[SshKey]:
    """Public keys where sshd will look: a file of /etc as that system has it, before what is in force now."""
    for path in key_files(account, settings):
        places = [f"{system.toplevel}{path}"] if path.startswith("/etc/") else []
        for place in (within(system.root, each) for each in (*places, path)):
            if place.is_file():
                yield from usable_keys(place.read_text(encoding="utf-8", errors="replace"))
                break
