"""The answer file as a form: its fields from the model, and answers from what was filled in. Pure."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import tomli_w

from installer.answers.load import load
from installer.answers.problems import AnswersError, Path, shown_path
from installer.answers.schema import fields, is_table, resolved
from installer.errors import Exit, HyperError

DECIDED = {"version": 1}
"""Nobody is asked for these."""
NAME = "name"
SERIAL = "serial"
"""Columns of a fleet's table that are no answers: what a machine is called, and by which serial number it is known."""
MOST_ROWS = 10_000
LARGEST_TABLE = 4 << 20


@dataclass(frozen=True)
class Field:
    """One field of the form."""

    name: str
    """As `shown_path` writes it: `users[0].name`."""
    kind: str
    """`text`, `number`, `yesno`, `choice`, `lines` or `secret`."""
    choices: tuple[str, ...]
    default: str
    """What it is when nothing is filled in; empty: nothing."""
    help: str
    required: bool


@cache
def form() -> tuple[tuple[str, tuple[Field, ...]], ...]:
    """Sections with their fields, in the model's order."""
    sections: dict[str, list[Field]] = {}
    for path, node in fields():
        if (
            path[0] in DECIDED
            or is_table(node)
            or (node.get("type") == "object" and not node.get("writeOnly"))
        ):
            continue
        if node.get("type") == "array" and is_table(resolved(node.get("items", {}))):
            continue
        kind, choices = _kind(node)
        if kind is None:
            continue
        default = node.get("default")
        section = str(path[0]) if len(path) > 1 else "host"
        sections.setdefault(section, []).append(
            Field(
                name=shown_path(path),
                kind=kind,
                choices=choices,
                default=_shown(default),
                help=str(node.get("description", "")).split("\n\n")[0].replace("`", ""),
                required=path in (("hostname",), ("users", 0, "name")),
            )
        )
    return tuple((name, tuple(found)) for name, found in sections.items())


def _kind(node: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    if "enum" in node:
        return "choice", tuple(map(str, node["enum"]))
    match node.get("type"):
        case "boolean":
            return "yesno", ("yes", "no")
        case "integer" | "number":
            return "number", ()
        case "string":
            return ("secret" if node.get("writeOnly") else "text"), ()
        case "array":
            items = resolved(node.get("items", {}))
            return ("lines", ()) if items.get("type") == "string" else (None, ())
    return None, ()


def _shown(default: object) -> str:
    match default:
        case None:
            return ""
        case bool():
            return "yes" if default else "no"
        case list() | tuple():
            return ", ".join(map(str, default))
    return str(default)


def _kinds() -> dict[str, Field]:
    return {field.name: field for _, found in form() for field in found}


_PIECE = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)((?:\[\d{1,3}\])*)")


def path_of(name: str) -> Path:
    """`users[0].name` as a path. Raises ValueError."""
    found: list[str | int] = []
    for piece in name.split("."):
        match = _PIECE.fullmatch(piece)
        if match is None:
            raise ValueError(f"{name[:80]!r} is no field")
        found += [match[1], *(int(number) for number in re.findall(r"\d+", match[2]))]
    return tuple(found)


def unknown(name: str) -> HyperError:
    """The error for a field that the answer file does not have."""
    return HyperError(
        f"there is no field {name[:80]!r}",
        why="it is not in the answer file's model",
        remedy="look into the reference: `hv answers reference`",
        code=Exit.answers,
    )


def filled(values: Mapping[str, str], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Answers from what was filled in, over a base; empty values are nothing. Raises HyperError for unknown fields."""
    known = _kinds()
    answers: dict[str, Any] = {**DECIDED, **_copied(base or {})}
    for name, text in values.items():
        if not text.strip():
            continue
        first = re.sub(r"\[\d+\]", "[0]", name)
        field = known.get(first)
        try:
            path = path_of(name)
        except ValueError as error:
            raise unknown(name) from error
        if field is None:
            raise unknown(name)
        _set(answers, path, _value(field, text))
    return {key: _without_gaps(value) for key, value in answers.items()}


def _copied(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _copied(inner) for key, inner in value.items()}
        case list():
            return [_copied(inner) for inner in value]
    return value


def _value(field: Field, text: str) -> Any:
    text = text.strip()
    match field.kind:
        case "yesno":
            return {"yes": True, "true": True, "no": False, "false": False}.get(text.lower(), text)
        case "number":
            return int(text) if re.fullmatch(r"-?\d{1,15}", text) else text
        case "lines":
            return [line.strip() for line in text.replace("\r", "").split("\n") if line.strip()]
    return text


def _set(answers: dict[str, Any], path: Path, value: Any) -> None:
    here: Any = answers
    for part, after in zip(path, (*path[1:], None), strict=True):
        if isinstance(here, list) and isinstance(part, int):
            here.extend({} for _ in range(part + 1 - len(here)))
        if after is None:
            here[part] = value
        elif isinstance(here, list):
            here = here[int(part)]
        else:
            here = here.setdefault(part, [] if isinstance(after, int) else {})


def _without_gaps(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_gaps(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_gaps(inner) for inner in value if inner != {}]
    return value


def text(answers: Mapping[str, Any]) -> bytes:
    """The answer file: same answers, same bytes."""
    return tomli_w.dumps(dict(answers)).encode()


@dataclass(frozen=True)
class Machine:
    """A row of a fleet's table."""

    name: str
    serial: str
    answers: bytes


def fleet(table: str, base: Mapping[str, Any]) -> tuple[Machine, ...]:
    """One answer file for each row: columns `name` and `serial`, and fields of the answer file, over a base.

    Raises:
        HyperError: every row that is wrong, with its line (Exit.answers).
    """
    try:
        rows = list(csv.reader(io.StringIO(table), strict=True))
    except csv.Error as error:
        raise _wrong(f"it is no CSV: {error}") from error
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if len(rows) < 2 or len(rows) > MOST_ROWS + 1:
        raise _wrong(f"it has {max(0, len(rows) - 1)} machines; between 1 and {MOST_ROWS} are taken")
    head = [cell.strip() for cell in rows[0]]
    if NAME not in head or SERIAL not in head or len(set(head)) < len(head):
        raise _wrong(f"its first line must name each column once, {NAME} and {SERIAL} among them")
    machines, problems = [], []
    for number, row in enumerate(rows[1:], start=2):
        cells = dict(zip(head, row, strict=False))
        try:
            if len(row) != len(head):
                raise _wrong(f"it has {len(row)} cells instead of {len(head)}")
            machines.append(_machine(cells, base))
        except HyperError as error:
            why = (
                "; ".join(map(str, error.problems))
                if isinstance(error, AnswersError)
                else f"{error.what}: {error.why}"
            )
            problems.append(f"line {number} ({cells.get(NAME, '')[:40]}): {why}")
    for what in (NAME, SERIAL):
        seen: dict[str, int] = {}
        for number, machine in enumerate(machines, start=2):
            value = getattr(machine, what)
            if value in seen:
                problems.append(f"line {number}: the {what} {value} stands in line {seen[value]} too")
            seen.setdefault(value, number)
    if problems:
        raise _wrong("\n".join(problems[:20]))
    return tuple(machines)


def _wrong(why: str) -> HyperError:
    return HyperError(
        "the fleet's table is not taken",
        why=why,
        remedy=f"write CSV: a first line with {NAME},{SERIAL} and fields such as hostname, then a line for each machine",
        code=Exit.answers,
    )


def _machine(cells: Mapping[str, str], base: Mapping[str, Any]) -> Machine:
    name, serial = cells[NAME].strip(), cells[SERIAL].strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name) or not serial:
        raise _wrong("it needs a name of letters, digits, dots and hyphens, and a serial number")
    values = {key: cell for key, cell in cells.items() if key not in (NAME, SERIAL)}
    if not values.get("hostname", "").strip():
        values["hostname"] = name
    made = text(filled(values, base))
    load(made, f"{name}.toml")
    return Machine(name, serial, made)


def fleet_files(machines: Sequence[Machine]) -> dict[str, bytes]:
    """A folder for `hv answers serve`: fleet.toml, and an answer file for each machine."""
    entries = [
        {"name": each.name, "answers": f"{each.name}.toml", "match": {"serial": each.serial}}
        for each in machines
    ]
    return {
        "fleet.toml": tomli_w.dumps({"version": 1, "machine": entries}).encode(),
        **{f"{each.name}.toml": each.answers for each in machines},
    }
