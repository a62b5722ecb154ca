"""Nobody locked out: who can log in as an administrator, by which ways, in which phase."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from installer.answers.model import Answers, Phase, User
from installer.answers.password_hash import hash_fault
from installer.answers.problems import Problem
from installer.answers.ssh_key import parse_ssh_key
from installer.answers.ssh_policy import sshd_settings, takes_key
from installer.errors import Exit, HyperError


class Way(StrEnum):
    """A way to log in."""

    console = "console by password"
    """At the screen or a serial console."""
    ssh_password = "SSH by password"  # noqa: S105
    """Over the network, with the password."""
    ssh_key = "SSH by key"
    """Over the network, with a key."""


class Access(NamedTuple):
    """How one user gets in."""

    user: str
    """Login name."""
    admin: bool
    """Whether the user may become root."""
    ways: dict[Phase, tuple[Way, ...]]
    """What works in each phase."""
    missing: tuple[str, ...]
    """What keeps the user from getting in, or from being an administrator, in words."""


def accesses(answers: Answers, hashes: Mapping[str, str] | None = None) -> tuple[Access, ...]:
    """How every user gets in.

    `hashes` maps the paths of password hash files to their contents. Without it (planning, far from the machine)
    such a file is taken for good; whoever is about to write must give it.
    """
    return tuple(_access(user, answers, hashes) for user in answers.users)


def lockout(answers: Answers, hashes: Mapping[str, str] | None = None) -> list[Problem]:
    """A problem naming each user with what is missing, when no administrator could log in in some phase."""
    found = accesses(answers, hashes)
    shut = [phase for phase in Phase if not any(access.admin and access.ways[phase] for access in found)]
    if not shut:
        return []
    users = [f"{access.user}: {'; '.join(access.missing)}" for access in found]
    phases = " and ".join(f"phase `{phase}`" for phase in shut)
    first = f"nobody could log in as an administrator in {phases}"
    wrong = "\n".join([first, *(users or ["there are no users at all"])])
    remedy = (
        "give one user `admin = true` and `ssh_keys` with a public key, or a `password_hash` that "
        "`mkpasswd -m yescrypt` prints"
    )
    return [Problem(("users",), wrong, remedy, code=Exit.lockout)]


def require_login(answers: Answers, hashes: Mapping[str, str]) -> None:
    """HyperError (Exit.lockout) unless an administrator can log in, with the hash files' contents looked at."""
    for problem in lockout(answers, hashes):
        raise HyperError(
            "nobody could log in to the installed host",
            why=problem.wrong,
            remedy=problem.remedy,
            code=Exit.lockout,
        )


def _access(user: User, answers: Answers, hashes: Mapping[str, str] | None) -> Access:
    password_fault = _password_fault(user, hashes)
    key_faults = {phase: _key_fault(user, answers, phase) for phase in Phase}
    ways: dict[Phase, tuple[Way, ...]] = {}
    for phase in Phase:
        settings = sshd_settings(answers, phase)
        works = {
            Way.console: not password_fault,
            Way.ssh_password: not password_fault
            and answers.ssh.enable
            and settings["PasswordAuthentication"] is True,
            Way.ssh_key: not key_faults[phase] and settings["PubkeyAuthentication"] is True,
        }
        ways[phase] = tuple(way for way in Way if works[way])
    missing = [] if user.admin else ["is no administrator (`admin = true`)"]
    missing += [fault for fault in dict.fromkeys((password_fault, *key_faults.values())) if fault]
    return Access(user.name, user.admin, ways, tuple(missing))


def _password_fault(user: User, hashes: Mapping[str, str] | None) -> str | None:
    if user.password_hash is not None:
        fault = hash_fault(user.password_hash)
        return f"password_hash {fault}" if fault else None
    if user.password_hash_file is None:
        return "no password"
    path = user.password_hash_file.file
    if hashes is None:
        return None
    if path not in hashes:
        return f"password hash file {path} cannot be read"
    fault = hash_fault(hashes[path].removesuffix("\n"))
    return f"the content of {path} {fault}" if fault else None


def _key_fault(user: User, answers: Answers, phase: Phase) -> str | None:
    if not answers.ssh.enable:
        return "SSH is off"
    if not user.ssh_keys:
        return "no SSH key"
    faults = []
    for number, line in enumerate(user.ssh_keys):
        try:
            key = parse_ssh_key(line)
        except ValueError as error:
            faults.append(f"ssh_keys[{number}] {error}")
        else:
            if key.limits:
                limits = ", ".join(f"`{each}`" for each in key.limits)
                faults.append(f"ssh_keys[{number}] is limited by {limits}")
            elif not takes_key(answers, phase, key.kind):
                faults.append(
                    f"ssh_keys[{number}] is {key.kind}; security.profile paranoid takes Ed25519 keys alone"
                )
            else:
                return None
    return "; ".join(faults)
