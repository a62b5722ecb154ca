"""A check of the running system, and those that compare kernel settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hv.security.audit.view import Look, View


class Severity(StrEnum):
    """How bad a fault is."""

    critical = "critical"
    """Whoever finds it is in."""
    high = "high"
    """One step from it."""
    medium = "medium"
    """Helps somebody who is in already."""
    low = "low"
    """Good to have."""


WEIGHTS = {Severity.critical: 10, Severity.high: 5, Severity.medium: 3, Severity.low: 1}


@dataclass(frozen=True)
class Check:
    """One thing that is looked at."""

    id: str
    """Stable name."""
    title: str
    """What should be so."""
    severity: Severity
    why: str
    """What could happen otherwise."""
    remedy: str
    look: Look
    cis: tuple[str, ...] = ()
    bsi: tuple[str, ...] = ()


def least(*wanted: tuple[str, int]) -> Look:
    """Kernel settings with at least these values."""

    def look(view: View) -> Iterator[str]:
        for name, value in wanted:
            found = view.setting(name)
            if not found.lstrip("-").isdigit() or int(found) < value:
                yield f"{name} is {found}; {value} is wanted, or more"

    return look


def exactly(*wanted: tuple[str, str]) -> Look:
    """Kernel settings with these values."""

    def look(view: View) -> Iterator[str]:
        for name, value in wanted:
            if (found := view.setting(name)) != value:
                yield f"{name} is {found} instead of {value}"

    return look
