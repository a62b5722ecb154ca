"""Before rebooting: can an administrator log in, and become root? Looked at in the installed system, in every phase."""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from installer.answers.ssh_key import SshKey
from installer.execute.evidence import Evidence, ensure
from installer.execute.files import within
from installer.execute.nix_store import profile_toplevel
from installer.execute.runner import Runner
from installer.execute.target import run_inside
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
from installer.plan.checks import LoginProof

_SUDO_RULE = re.compile(r"^(\S+)\s+\S+\s*=\s*(?:\([^)]*\))?\s*(.*)$", re.MULTILINE)
"""Who, and what with which tags (sudoers(5))."""


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
    account = _account(root, name)
    if account is None:
        return [], ["no such line in the target's /etc/passwd"]
    problems = list(_account_problems(root, phase, account))
    if problems:
        return [], problems
    ways = [f"{name} at the console with a password"] if account.has_password else []
    if not account.has_password:
        problems.append("no password for the console")
    if within(root, f"{phase.toplevel}/etc/ssh/sshd_config").is_file():
        settings = _sshd_settings(runner, root, phase, account, key)
        keys = tuple(_keys(root, phase, account, settings))
        reasons = list(ssh_problems(account, settings, keys))
        if reasons:
            ensure(not keys, f"{name}'s SSH keys admitted in phase {phase.name}", "; ".join(reasons))
            problems += reasons
        else:
            how = f"{len(keys)} key(s)" if keys else "a password"
            ways.append(f"{name} through SSH with {how} (`sshd -T` of the system itself)")
    else:
        problems.append("no SSH server")
    return ways, problems


def _account(root: Path, name: str) -> Account | None:
    texts = []
    for file in ("passwd", "group", "shadow"):
        path = within(root, f"/etc/{file}")
        ensure(path.is_file(), f"the target's /etc/{file} (activation makes it)", "no such file")
        texts.append(path.read_text())
    return parse_account(name, *texts)


def _account_problems(root: Path, phase: Phase, account: Account) -> Iterator[str]:
    yield from account.problems(time.time())
    shell = within(root, account.shell.replace("/run/current-system", phase.toplevel, 1))
    if not shell.is_file():
        yield f"its shell {account.shell} does not exist"
    rules = within(root, f"{phase.toplevel}/etc/sudoers")
    if rules.is_file() and not account.has_password:
        found = _SUDO_RULE.finditer(rules.read_text())
        granted = [match[2] for match in found if match[1] in {f"%{WHEEL}", account.name}]
        if not granted or "NOPASSWD" not in granted[-1]:  # the last rule that fits decides
            yield "sudo asks for a password, and it has none: it could not become root"


def _sshd_settings(runner: Runner, root: Path, phase: Phase, account: Account, key: str) -> Settings:
    """What the phase's own sshd makes of its configuration for this account (sshd(8), -T and -C)."""
    configuration = within(root, f"{phase.toplevel}/etc/ssh/sshd_config")
    argv = [
        _program(root, phase, "sshd"),
        "-T",
        *("-f", "/" + str(configuration.relative_to(root))),
        *("-h", key),
        *("-C", f"user={account.name},{CLIENT}"),
    ]
    return parse_settings(run_inside(runner, root, argv).text)


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


def _keys(root: Path, phase: Phase, account: Account, settings: Settings) -> Iterator[SshKey]:
    """Public keys where sshd will look for them."""
    for path in key_files(account, settings):
        for place in _places(root, phase, path):
            if place.is_file():
                yield from usable_keys(place.read_text())
                break


def _places(root: Path, phase: Phase, path: str) -> Iterator[Path]:
    """A file of /etc as this phase has it, before what activation of the first phase put there."""
    if path.startswith("/etc/"):
        yield within(root, f"{phase.toplevel}{path}")
    yield within(root, path)
