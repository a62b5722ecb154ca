"""Pages of the documentation that are made from evaluated goldens and from data of the modules.

`python -m tests.nixeval.pages` writes them; tests hold them equal.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from hv.security.table import KINDS
from tests.nixeval.features import features_page
from tests.nixeval.nix import REPOSITORY
from tests.nixeval.phases import GOLDEN, STATES, Values

REFERENCE = REPOSITORY / "docs/reference"
ROLES = REPOSITORY / "nix/modules/privileges/roles.json"
FORBIDDEN = ROLES.with_name("forbidden-groups.json")

LISTS = {"audit", "blacklisted", "kernel", "preloaded", "setuid"}
"""Kinds whose names say everything."""
TITLES = {
    "setup": "Phase `setup`",
    "development": "Phase `hardened`, profile `development`",
    "balanced": "Profile `balanced`",
    "strict": "Profile `strict`",
    "paranoid": "Profile `paranoid`",
}
AGAINST = {
    "setup": "Against a NixOS host with our modules but for `hypervisor.security`. The firewall of the host is on too.",
    "development": "Against phase `setup`.",
    "balanced": "On top of `development`.",
    "strict": "On top of `balanced`.",
    "paranoid": "On top of `strict`.",
}
NOTE = "<!-- Made by `python -m tests.nixeval.pages`. -->\n"
WHAT = {
    "all": "all guests",
    "own": "their own guests",
}


def phases_page(changes: dict[str, Values]) -> str:
    """What each phase and profile changes, from the evaluated difference."""
    return "\n".join(_phases(changes)) + "\n"


def _phases(changes: dict[str, Values]) -> Iterator[str]:
    yield "# Phases and profiles\n"
    yield NOTE
    yield (
        "What each phase and profile changes, as evaluated with nixpkgs on the smallest host with an administrator and\n"
        "an SSH server on x86-64. A profile holds everything of those before it. [Security](../security.md) says what\n"
        "it is for and how to go back.\n"
    )
    yield "## How many changes\n"
    yield "| What | " + " | ".join(f"`{state}`" for state in STATES) + " | Taken back by a lower one |"
    yield "|---|" + "---|" * (len(STATES) + 1)
    for kind, (title, undone) in KINDS.items():
        counts = [str(len(changes[state].get(kind, {})) or "") for state in STATES]
        yield f"| {title} | {' | '.join(counts)} | {undone} |"
    for state in STATES:
        yield f"\n## {TITLES[state]}\n"
        yield AGAINST[state]
        for kind, (title, _) in KINDS.items():
            if names := changes[state].get(kind):
                yield f"\n### {title} {{ #{state}-{kind} }}\n"
                yield from _list(names) if kind in LISTS else _table(names)


def _list(names: dict[str, Any]) -> Iterator[str]:
    yield from (f"- `{name}`{' no more' if value is None else ''}" for name, value in sorted(names.items()))


def _table(names: dict[str, Any]) -> Iterator[str]:
    yield "| Name | Value |"
    yield "|---|---|"
    yield from (f"| `{name}` | {_value(value)} |" for name, value in sorted(names.items()))


def _value(value: Any) -> str:
    match value:
        case None:
            return "as the kernel or program has it"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(f"`{each}`" for each in value)
        case str() if "," in value:
            return ", ".join(f"`{each}`" for each in value.split(","))
        case _:
            return f"`{value}`"


def privileges_page(roles: dict[str, Any], forbidden: dict[str, str]) -> str:
    """Who may do what."""
    return "\n".join(_privileges(roles, forbidden)) + "\n"


def _privileges(roles: dict[str, Any], forbidden: dict[str, str]) -> Iterator[str]:
    verbs = list(dict.fromkeys(verb for role in roles.values() for verb in role["guests"]))
    yield "# Who may do what\n"
    yield NOTE
    yield (
        "A role is a group; put people into it with `users.users.NAME.extraGroups`. Guests are reached through the\n"
        "broker `hvd` alone ([virtual machines](../vms.md)), which looks at the caller's groups. Where\n"
        "`hypervisor.privileges.broker.enable` is false only root reaches guests, with `sudo virsh`.\n"
        "[Security](../security.md#privileges) says why.\n"
    )
    yield "## Guests\n"
    yield "| | " + " | ".join(f"`{role['group']}`" for role in roles.values()) + " |"
    yield "|---|" + "---|" * len(roles)
    yield "| Of | " + " | ".join(WHAT[role["of"]] for role in roles.values()) + " |"
    for verb in verbs:
        yield (
            f"| {verb} | "
            + " | ".join("yes" if verb in role["guests"] else "" for role in roles.values())
            + " |"
        )
    yield "\n## The host\n"
    yield "| Group | What for | Commands with sudo, exactly as written | Also in |"
    yield "|---|---|---|---|"
    yield "| `wheel` | Administers the host: is root after giving a password. | all | |"
    for role in roles.values():
        commands = "<br>".join(f"`sudo {' '.join(words)}`" for words in role["commands"])
        also = ", ".join(f"`{group}`" for group in role["groups"])
        yield f"| `{role['group']}` | {role['summary']} | {commands} | {also} |"
    yield (
        "\n`hv-auditors` also reads the audit log with `ausearch`, without root. Everybody with a role is in `hv-users`,\n"
        "the group of the broker's socket, by itself.\n"
    )
    yield "## Groups for no person\n"
    yield "The host does not evaluate with a person in one of these, unless `hypervisor.privileges.exceptions` names both.\n"
    yield "| Group | Whoever is in it … |"
    yield "|---|---|"
    yield from (f"| `{group}` | {what} |" for group, what in sorted(forbidden.items()))
    yield (
        "\n`kvm` is not among them: NixOS opens `/dev/kvm` to everybody, and a guest of one's own is a program like any other."
    )


def pages() -> dict[str, str]:
    """File name below docs/reference to text."""
    return {
        "features.md": features_page(),
        "phases.md": phases_page(json.loads(GOLDEN.read_text())),
        "privileges.md": privileges_page(json.loads(ROLES.read_text()), json.loads(FORBIDDEN.read_text())),
    }


def main() -> int:
    """Write the pages."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text)
        print((REFERENCE / name).relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
