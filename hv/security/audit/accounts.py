"""Checks of accounts, groups, passwords and sudo."""

import re
from collections.abc import Iterator

from hv.security.audit.check import Check, Severity
from hv.security.audit.view import View
from installer.logins import WHEEL

ROOT_GROUPS = (
    "disk",
    "docker",
    "hvd",
    "incus-admin",
    "input",
    "kmem",
    "libvirtd",
    "lxd",
    "podman",
    "qemu-libvirtd",
    "shadow",
    "swtpm",
)
"""Whose members are root, or read what only root may (nix/modules/privileges/forbidden-groups.json)."""


def _root_twins(view: View) -> Iterator[str]:
    for account in view.accounts:
        if account.uid == 0 and account.name != "root":
            yield f"{account.name} has uid 0"


def _same_ids(view: View) -> Iterator[str]:
    seen: dict[int, str] = {}
    for account in view.accounts:
        if account.uid in seen and account.uid != 0:
            yield f"{account.name} and {seen[account.uid]} share uid {account.uid}"
        seen.setdefault(account.uid, account.name)


def _empty_passwords(view: View) -> Iterator[str]:
    for account in view.accounts:
        if account.hash == "":
            yield f"{account.name} needs no password"


def _weak_hashes(view: View) -> Iterator[str]:
    for account in view.accounts:
        if account.hash and re.match(r"\$(1|2a?|md5)\$|[./0-9A-Za-z]{13}$", account.hash):
            yield f"{account.name}'s password is hashed with a method that is broken"


def _root_groups(view: View) -> Iterator[str]:
    for group in ROOT_GROUPS:
        if members := [name for name in view.groups.get(group, ()) if name not in ("root", "hvd")]:
            people = [
                each for each in members if any(a.name == each and a.uid >= 1000 for a in view.accounts)
            ]
            if people:
                yield f"{', '.join(people)} in the group {group}"


def _unknown_administrators(view: View) -> Iterator[str]:
    known = set(view.declared.administrators)
    if not known:
        return  # a system for any host: its people are not declared
    for name in view.groups.get(WHEEL, ()):
        if name not in known and name != "root":
            yield f"{name} is in {WHEEL}, and is not declared there"


def _sudo(view: View) -> Iterator[str]:
    secrets = {account.name: account.hash for account in view.accounts}
    for line in view.text("/etc/sudoers").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if "!authenticate" in line:
            yield f"sudoers: {line.strip()}"
            continue
        asked = (secrets.get(words[0]) or "!").startswith("$") or words[0] in ("ALL", f"%{WHEEL}")
        # Who has no password cannot be asked for one.
        if asked and re.search(r"NOPASSWD:(\s|SETENV:)*ALL\b", line):
            yield f"sudoers: {line.strip()}"


def _writable_homes(view: View) -> Iterator[str]:
    for account in view.accounts:
        if account.uid >= 1000 and account.home.startswith("/home/"):
            mode = view.mode(account.home)
            if mode is not None and mode & 0o027:
                yield f"{account.home} has mode {mode:04o}; 0750 is enough"


def _way_in(view: View) -> Iterator[str]:
    members = [name for name in view.groups.get(WHEEL, ()) if name != "root"]
    if not members:
        yield f"nobody is in {WHEEL}"


CHECKS: tuple[Check, ...] = (
    Check(
        "users-root",
        "Only root has uid 0",
        Severity.critical,
        "A second root, with a password of its own.",
        "userdel the account",
        _root_twins,
        cis=("5.4.2.1",),
        bsi=("SYS.1.3.A2",),
    ),
    Check(
        "users-ids",
        "Each uid belongs to one account",
        Severity.medium,
        "Two people own the same files.",
        "give one of them another uid in /etc/nixos",
        _same_ids,
        cis=("7.2.5",),
        bsi=("SYS.1.3.A2",),
    ),
    Check(
        "users-empty",
        "No account has an empty password",
        Severity.critical,
        "Anybody at the console gets in.",
        "passwd NAME, or hashedPasswordFile in /etc/nixos",
        _empty_passwords,
        cis=("7.2.2",),
    ),
    Check(
        "users-hashes",
        "Passwords are hashed with a method that is not broken",
        Severity.medium,
        "Whoever sees the hash has the password.",
        "passwd NAME",
        _weak_hashes,
        cis=("5.4.1.4",),
    ),
    Check(
        "users-groups",
        "Nobody is root by a group",
        Severity.high,
        "Who reaches libvirt's socket, a container engine's or a raw disk is root.",
        "take them out of the group; roles are in docs/reference/privileges",
        _root_groups,
        bsi=("SYS.1.3.A2",),
    ),
    Check(
        "users-administrators",
        "Administrators are those who are declared",
        Severity.high,
        "Somebody made themselves one.",
        "gpasswd --delete NAME wheel, or declare it in /etc/nixos/users.nix",
        _unknown_administrators,
    ),
    Check(
        "users-way-in",
        "Somebody administers the host",
        Severity.high,
        "Nobody can become root.",
        "declare an administrator in /etc/nixos/users.nix",
        _way_in,
    ),
    Check(
        "users-homes",
        "Home folders are closed to others",
        Severity.low,
        "Others read what people leave there.",
        "chmod 700 the folder",
        _writable_homes,
        cis=("7.2.9",),
        bsi=("SYS.1.3.A14",),
    ),
    Check(
        "sudo",
        "sudo asks who has a password for it",
        Severity.medium,
        "Whoever finds an open terminal is root.",
        "take NOPASSWD out of security.sudo-rs.extraRules",
        _sudo,
        cis=("5.2.4",),
    ),
)
