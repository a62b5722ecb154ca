"""A commented answer file to start from, written from the model and, where there is one, a machine."""

from collections.abc import Iterator
from textwrap import wrap

from installer.answers.explain import example_value
from installer.answers.presets import propose
from installer.answers.problems import Path
from installer.answers.schema import Node, answers_schema, children, is_table, resolved
from installer.answers.select import may_destroy, telling, title
from installer.answers.toml import toml, toml_key
from installer.facts import Facts
from installer.facts.disks import Disk

_DECIDED: dict[Path, object] = {
    ("version",): 1,
    ("hostname",): "kvm1",
    ("users", 0, "name"): "admin",
    ("users", 0, "admin"): True,
    ("users", 0, "ssh_keys"): [],
    # The table stands there even where no disk can be named.
    ("storage", "disk", "count"): 1,
}
"""Fields that no file does without; the rest shows its default in a comment."""


def skeleton(facts: Facts | None = None) -> str:
    """A TOML file with every field, its meaning and its default or an example.

    What must be decided is written out, the rest commented out (`#field = …`). With a machine, its only free disk
    is named; of several, none: each is listed to be chosen.
    """
    notes: dict[Path, list[str]] = {}
    decided = dict(_DECIDED)
    if facts is None:
        notes["storage", "disk"] = ["# `hv probe` lists the disks of a machine."]
    else:
        disks = [disk for disk in facts.disks if may_destroy(disk)]
        names = {disk.name: telling(disk, facts) for disk in disks}
        if len(disks) == 1:
            key, value = names[disks[0].name]
            decided["storage", "disk", key] = value
        notes["storage", "disk"] = _disk_notes(disks, names)
        notes["network", "ethernets", 0] = [
            f"# Here: {nic.name}, {nic.mac}, {nic.driver or 'no driver'}"
            for nic in facts.nics
            if not nic.wireless
        ]
    head = [
        "# Answer file of Hyper-NixOS. `hv answers check FILE` tells what is missing or wrong.",
        "# `# ` begins an explanation; `#field = ` a field that shows its default or an example.",
    ]
    body = _table((), resolved(answers_schema()), decided, notes)
    return "\n".join([*head, *body]).rstrip() + "\n"


def _disk_notes(disks: list[Disk], names: dict[str, tuple[str, str]]) -> list[str]:
    if len(disks) == 1:
        return [f"# The only free disk: {title(disks[0])}."]
    if not disks:
        return ["# No disk of this machine is free: each is in use, read-only, or the install medium."]
    notes = ["# Choose one of the free disks of this machine:"]
    for disk in disks:
        key, value = names[disk.name]
        notes += [f"#   {key} = {toml(value)}  # {title(disk)}"]
    # What `layout = "auto"` would make of all of them.
    proposal = propose(tuple(disks))
    return [*notes, *_words(f'With all of them, layout = "auto" would mean {proposal.because}.')]


def _table(
    path: Path, node: Node, decided: dict[Path, object], notes: dict[Path, list[str]]
) -> Iterator[str]:
    """Fields of a table, then the tables in it, as TOML's order demands."""
    tables: list[tuple[Path, Node]] = []
    for name, child in children(node).items():
        here = (*path, name)
        item = resolved(child["items"]) if "items" in child else None
        if item is not None and is_table(item):
            tables.append(((*here, 0), item | {"description": child.get("description", "")}))
        elif is_table(child):
            tables.append((here, child))
        else:
            yield from _field(here, child, decided)
    for here, child in tables:
        # An empty table would already be an answer where the default is none, or a list without elements.
        live = any(key[: len(here)] == here for key in decided) or child.get("default") is not None
        header = ".".join(toml_key(part) for part in here if isinstance(part, str))
        yield ""
        yield from _words(str(child.get("description", "")))
        yield from notes.get(here, ())
        yield ("" if live else "#") + (f"[[{header}]]" if here[-1] == 0 else f"[{header}]")
        yield from _table(here, child, decided, notes)


def _field(here: Path, node: Node, decided: dict[Path, object]) -> Iterator[str]:
    yield from _words(str(node.get("description", "")))
    key = toml_key(str(here[-1]))
    if here in decided:
        yield f"{key} = {toml(decided[here])}"
    else:
        yield f"#{key} = {example_value(node)}"


def _words(text: str) -> list[str]:
    return wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_long_words=False)
