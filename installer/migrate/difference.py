"""What changes between two evaluated systems. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from installer.frozen import Frozen
from installer.migrate.summary import Summary

KEPT = ("users", "mutable_users", "sshd", "network", "file_systems", "luks", "sudo", "firewall")
"""What a migration must not change: who gets in, by which road, and where the data are."""


class Change(Frozen):
    """A set of names, before and after."""

    added: tuple[str, ...]
    """New."""
    removed: tuple[str, ...]
    """Gone."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


class Difference(Frozen):
    """Two systems compared."""

    packages: Change
    """Packages for everybody, with their versions."""
    units: Change
    """Units of systemd."""
    ports: Change
    """What the firewall lets in."""
    users: Change
    """Accounts."""
    lost: tuple[str, ...]
    """What should have been kept and was not: one line each; empty for a migration that may go on."""


def compare(before: Summary, after: Summary) -> Difference:
    """What the second system has otherwise than the first."""
    return Difference(
        packages=_change(before.packages, after.packages),
        units=_change(before.units, after.units),
        ports=_change(before.ports, after.ports),
        users=_change(tuple(before.users), tuple(after.users)),
        lost=tuple(
            line
            for field in KEPT
            for line in _unlike(field, _data(getattr(before, field)), _data(getattr(after, field)))
        ),
    )


def _change(before: tuple[str, ...], after: tuple[str, ...]) -> Change:
    old, new = set(before), set(after)
    return Change(added=tuple(sorted(new - old)), removed=tuple(sorted(old - new)))


def _data(value: Any) -> Any:
    if isinstance(value, Frozen):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: _data(inner) for name, inner in value.items()}
    return value


def _unlike(path: str, before: Any, after: Any) -> Iterator[str]:
    """Each place where two values differ. What a list or a set gains is told as well: nothing here may change."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from _unlike(f"{path}.{name}", before.get(name), after.get(name))
    elif before != after:
        yield f"{path}: {_short(before)} would become {_short(after)}"


def _short(value: Any) -> str:
    text = (
        "nothing"
        if value is None
        else ", ".join(map(str, value))
        if isinstance(value, list | tuple)
        else str(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}…"


def describe(difference: Difference) -> str:
    """For people: one group of lines for each kind of change, nothing for what stays."""
    lines = []
    for name in ("packages", "units", "ports", "users"):
        change: Change = getattr(difference, name)
        if not change:
            lines.append(f"{name}: the same")
            continue
        lines.append(f"{name}: {len(change.added)} more, {len(change.removed)} fewer")
        lines += [f"  + {each}" for each in change.added]
        lines += [f"  - {each}" for each in change.removed]
    kept = "kept as they are: users and their keys, sudo, the SSH server, the network, the firewall, file systems"
    lines += [f"NOT KEPT  {each}" for each in difference.lost] or [kept]
    return "\n".join(lines) + "\n"
