"""What a system says of its own protection (nix/modules/security/description.nix), and how two systems compare."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from installer.errors import HyperError
from installer.frozen import Frozen

FILE = "etc/hyper-nixos/security.json"
"""In a system's toplevel."""
KINDS = {
    "accounts": ("Accounts", "at once"),
    "apparmor": ("AppArmor profiles", "by the next boot"),
    "audit": ("Audit rules", "at once; once locked, by the next boot"),
    "auditing": ("Auditing", "at once; once locked, by the next boot"),
    "blacklisted": ("Modules that are not loaded by themselves", "at once"),
    "firewall": ("Firewall", "at once"),
    "kernel": ("Kernel parameters", "by the next boot"),
    "locked": ("Loading of modules ends after boot", "by the next boot"),
    "preloaded": ("Modules loaded at boot", "by the next boot"),
    "setuid": ("Programs with more rights than their caller", "at once"),
    "ssh": ("SSH server", "at once, for new connections"),
    "sudo": ("sudo", "at once"),
    "sysctl": ("Kernel settings", "by the next boot"),
}
"""Kind of a change: its title, and what takes it back when the phase or profile is lowered."""

Values = Mapping[str, Mapping[str, Any]]
"""Kind, name, value."""


class Ports(Frozen):
    """What the firewall lets in."""

    tcp: tuple[int, ...] = ()
    udp: tuple[int, ...] = ()
    tcpRanges: tuple[dict[str, int], ...] = ()  # noqa: N815 -- as Nix writes it
    udpRanges: tuple[dict[str, int], ...] = ()  # noqa: N815


class AllPorts(Ports):
    """On every interface, and on single ones."""

    ssh: tuple[int, ...] = ()
    """Where the SSH server listens."""
    interfaces: dict[str, Ports] = {}


class Description(Frozen):
    """A system's word on itself."""

    version: int
    """Format."""
    phase: str
    """`setup` or `hardened`."""
    profile: str
    """What `hardened` is, or would be."""
    administrators: tuple[str, ...] = ()
    """Who is declared to be one; nobody on a system for any host."""
    ports: AllPorts = AllPorts()
    """What is reachable."""
    table: dict[str, dict[str, Any]]
    """Kind, name, value."""


def read(system: Path) -> Description | None:
    """A system's description; None for one made before there were any."""
    file = system / FILE
    try:
        return Description.model_validate(json.loads(file.resolve().read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, ValidationError) as error:
        raise HyperError(
            "A system's description of itself cannot be read.",
            why=f"{file}: {str(error).splitlines()[0]}",
            remedy="Rebuild the host: the file is made anew.",
        ) from error


def changed(before: Values, after: Values) -> dict[str, dict[str, Any]]:
    """What `after` has otherwise than `before`, kind by kind; null for what is gone."""
    kinds = {
        kind: {
            name: after.get(kind, {}).get(name)
            for name in sorted({*before.get(kind, {}), *after.get(kind, {})})
            if before.get(kind, {}).get(name) != after.get(kind, {}).get(name)
        }
        for kind in sorted({*before, *after})
    }
    return {kind: names for kind, names in kinds.items() if names}


def words(value: object) -> str:
    """A value for people."""
    match value:
        case None:
            return "not set"
        case True:
            return "yes"
        case False:
            return "no"
        case list():
            return ", ".join(str(each) for each in value)
        case _:
            return str(value)


def lines(before: Values, after: Values) -> Iterator[str]:
    """Every difference, one a line, below the titles of their kinds."""
    for kind, names in changed(before, after).items():
        yield KINDS.get(kind, (kind, ""))[0]
        for name, value in names.items():
            old = before.get(kind, {}).get(name)
            if value is True and old is None:
                yield f"  + {name}"
            elif old is True and value is None:
                yield f"  - {name}"
            else:
                yield f"    {name}: {words(old)} -> {words(value)}"
