"""What a change of the declaration makes of the files in /etc/nixos, and what it risks. Pure.

host.toml is what a person says; host.applied.toml is what the modules were last written from. Between the two, and the lines
that a person wrote into the modules, nothing is lost: a module is written anew only where the declaration asks for it, and a
person's lines in it are merged in, as `git merge` would. Where both changed the same lines, nothing is written at all.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from merge3 import Merge3

from hv.guard.guard import digest
from hv.guard.state import Staged
from hv.setup.edit import FieldChange, field_changes
from installer.answers.catalogue import FEATURES, TOLERANCES, enabled
from installer.answers.declaration import load_declaration
from installer.answers.model import SECURITY_PROFILES, Answers
from installer.answers.ssh_key import fingerprint, parse_ssh_key
from installer.errors import Exit, HyperError
from installer.migrate.findings import FILE as MIGRATED
from installer.render.host import APPLIED, DECLARATION, declared_files, host_declaration
from installer.render.templates import Templates
from installer.render.users import password_file

EXTRA = ("passthrough.nix", "unlock.nix")
"""Modules that a host may have, which the declaration says nothing of."""
RELEASE = re.compile(r'system\.stateVersion = "([^"]+)";')


@dataclass(frozen=True)
class Proposal:
    """A change that is not made yet."""

    changes: tuple[FieldChange, ...]
    """What the declaration says otherwise."""
    staged: tuple[Staged, ...]
    """Every file that becomes another, the declaration first."""
    kept: tuple[str, ...]
    """Files with a person's own lines, which stay in them."""
    risks: tuple[str, ...]
    """What a person should know before."""
    answers: Answers = field(repr=False)
    """What the declaration says then."""
    before: Answers = field(repr=False)
    """What it said."""


def read_applied(files: Mapping[str, str]) -> Answers:
    """What the modules were written from. Raises HyperError on a host that has no declaration."""
    text = files.get(APPLIED) or files.get(DECLARATION)
    if text is None and any(path.rpartition("/")[2] == MIGRATED for path in files):
        raise HyperError(
            "This host was migrated: its own configuration says what it is, and hv setup changes none of that.",
            why=f"there is {MIGRATED}, and no {DECLARATION}: who wrote the rest of /etc/nixos goes on writing it",
            remedy=f"Tier and features are options, hypervisor.tier and hypervisor.features, in {MIGRATED}; then "
            "`nixos-rebuild switch`.",
        )
    if text is None:
        raise HyperError(
            "This host has no declaration that hv setup could change.",
            why=f"there is no {DECLARATION} in /etc/nixos: it was not installed by `hv install` of this version",
            remedy="Change the modules in /etc/nixos by hand, then `nixos-rebuild switch`.",
        )
    return load_declaration(text.encode(), APPLIED if APPLIED in files else DECLARATION)


def propose(files: Mapping[str, str], text: str, templates: Templates) -> Proposal:
    """What becomes of the files of /etc/nixos when host.toml has this text.

    Raises HyperError: for a text that is not right, or would lock out every administrator (`Exit.lockout`); for what cannot
    be changed this way; for modules where a person changed the same lines.
    """
    before = read_applied(files)
    after = load_declaration(text.encode(), DECLARATION)
    changes = field_changes(before, after)
    _require_changeable(files, before, after)
    release = _release(files)
    extra = tuple(name for name in EXTRA if name in files)
    old = declared_files(before, release, extra, templates)
    new = declared_files(after, release, extra, templates)
    wanted: dict[str, str] = {DECLARATION: text}
    kept = []
    for path, there in old.items():
        if new[path] == there:
            continue
        wanted[path] = _merged(path, there, files.get(path), new[path])
        if wanted[path] != new[path]:
            kept.append(path)
    if changes or APPLIED not in files:
        wanted[APPLIED] = text
    staged = tuple(
        Staged(path=path, text=made, base=digest(files.get(path)))
        for path, made in wanted.items()
        if files.get(path) != made
    )
    return Proposal(changes, staged, tuple(kept), tuple(_risks(before, after)), after, before)


def fresh(before: Answers) -> str:
    """The declaration of a host, without anything that a person wrote into it."""
    return host_declaration(before)


def _release(files: Mapping[str, str]) -> str:
    """The release that the host's data began with; where a person says it otherwise, theirs is merged in anyway."""
    found = RELEASE.search(files.get("configuration.nix", ""))
    return found[1] if found else "unknown"


def _require_changeable(files: Mapping[str, str], before: Answers, after: Answers) -> None:
    if before.hostname != after.hostname:
        raise HyperError(
            f"hostname: {before.hostname} cannot become {after.hostname} here.",
            why="the flake, the identities of the disks and the hand-off have the name too",
            remedy=f'leave hostname = "{before.hostname}"; for people, a name in the DNS does as well',
            code=Exit.answers,
        )
    if before.network != after.network and "unlock.nix" in files:
        raise HyperError(
            "network: it cannot be changed here on a host whose passphrase is typed over SSH.",
            why="unlock.nix has the same network for stage 1, with drivers of this machine: the disks could not be opened "
            "from afar after the next boot",
            remedy="change network.nix and unlock.nix by hand alike, then `nixos-rebuild boot`, and be at the console",
            code=Exit.lockout,
        )
    for user in after.users:
        named, ours = user.password_hash_file, password_file(user)
        if named and named.file != ours:
            raise HyperError(
                f"users.{user.name}.password_hash_file: {named.file} is not where this host keeps it.",
                why=f"the modules take the hash of {user.name} from {ours}",
                remedy=f'write password_hash_file = {{ file = "{ours}" }}, and put the hash there, for root alone',
                code=Exit.answers,
            )


def _merged(path: str, old: str, have: str | None, new: str) -> str:
    """A module with a person's lines and ours. Raises HyperError where both changed the same."""
    if have in (old, new):
        return new
    if have is None:
        raise HyperError(
            f"/etc/nixos/{path} is not there, and the change would be made in it.",
            why="somebody moved or removed it",
            remedy="put it back (the backup is in /var/lib/hyper-nixos/backup), or change the host by hand",
        )
    merge = Merge3(old.splitlines(True), have.splitlines(True), new.splitlines(True))
    clashes = []
    for kind, *where in merge.merge_regions():
        if kind == "conflict":
            first, last = where[2], where[3]
            clashes.append(f"line {first + 1}" if last <= first + 1 else f"lines {first + 1} to {last}")
    if clashes:
        raise HyperError(
            f"/etc/nixos/{path} has lines of yours where the change would be made. Nothing was written.",
            why=f"{', '.join(clashes)}: the modules say something else there than the declaration did",
            remedy="say it in host.toml instead of there, or move your lines to a module of your own (add it to `imports` "
            "in configuration.nix), then try again",
        )
    return "".join(merge.merge_lines())


def _risks(before: Answers, after: Answers) -> Iterator[str]:
    """In words, the gravest first."""
    if before.ssh.enable and not after.ssh.enable:
        yield "Nobody gets in over SSH any more: only this machine's own console remains."
    if before.network != after.network:
        yield "The network changes: connections may break. Unconfirmed, it goes back by itself."
    if before.ssh.port != after.ssh.port and after.ssh.enable:
        yield f"SSH listens on port {after.ssh.port}, no longer on {before.ssh.port}."
    if after.ssh.password_login and not before.ssh.password_login:
        yield "Passwords are taken over SSH in phase setup: they can be guessed from afar."
    yield from _people(before, after)
    was, becomes = (SECURITY_PROFILES.index(each.security.profile) for each in (before, after))
    if becomes < was:
        yield f"Phase hardened protects less: profile {after.security.profile}, not {before.security.profile}."
    was, becomes = (list(TOLERANCES).index(each.hypervisor.risk_tolerance) for each in (before, after))
    if becomes > was:
        yield f"Features may risk more: tolerance {after.hypervisor.risk_tolerance}."
    for name in sorted(set(enabled(after.hypervisor)) - set(enabled(before.hypervisor))):
        yield f"Feature {name} (risk {FEATURES[name].risk}): {' '.join(FEATURES[name].impacts) or FEATURES[name].summary}"
    for cache in after.system.substituters:
        if cache not in before.system.substituters:
            yield f"What the cache {cache.url} offers may run as root on this host."
    if set(after.system.ca_certificates) - set(before.system.ca_certificates):
        yield "A certificate authority more is trusted: whoever has its key can pretend to be any server."
    pages = ("hugepages_1g", "hugepages_2m")
    if any(getattr(before.hypervisor, each) != getattr(after.hypervisor, each) for each in pages):
        yield "Huge pages are set aside at boot: the next one has them, and the host that much less memory."


def _people(before: Answers, after: Answers) -> Iterator[str]:
    old, new = ({user.name: user for user in each.users} for each in (before, after))
    for name, user in new.items():
        was = old.get(name)
        if user.admin and not (was and was.admin):
            yield f"{name} becomes an administrator: root, by sudo."
        if was:
            for key in set(user.ssh_keys) - set(was.ssh_keys):
                yield f"{name} gets in with a key more: {_key(key)}."
            for key in set(was.ssh_keys) - set(user.ssh_keys):
                yield f"{name} no longer gets in with the key {_key(key)}."
    for name, user in old.items():
        if name not in new:
            yield f"The account of {name} goes, {'an administrator' if user.admin else 'no administrator'}; the home folder stays."
        elif user.admin and not new[name].admin:
            yield f"{name} is no administrator any more."


def _key(line: str) -> str:
    try:
        key = parse_ssh_key(line)
    except ValueError:
        return line[:40]
    return f"{key.kind} {fingerprint(key.blob)}"
