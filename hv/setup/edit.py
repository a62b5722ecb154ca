"""Changes of the declaration's text: fields are set, and comments, order and blank lines stay as a person left them. Pure."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tomlkit
from tomlkit.items import AoT

from installer.answers.model import Answers
from installer.answers.problems import shown_path
from installer.errors import Exit, HyperError

WIDTH = 76
Words = tuple[str, ...]
"""Where a value stands: names, also of what stands in lists (`users`, `alice`, `admin`)."""


@dataclass(frozen=True)
class FieldChange:
    """One value that becomes another; None: there is none."""

    path: Words
    before: Any
    after: Any

    @property
    def field(self) -> str:
        """As people write it: `users.alice.admin`."""
        return shown_path(self.path)

    def line(self) -> str:
        """For people."""
        if self.before is None:
            text = f"+ {self.field} = {_told(self.after)}"
        elif self.after is None:
            text = f"- {self.field} = {_told(self.before)}"
        else:
            text = f"  {self.field}: {_told(self.before)} -> {_told(self.after)}"
        return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def _told(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(_told(each) for each in value)}]"
        case str() if len(value) > 40:
            return f'"{value[:18]}…{value[-18:]}"'.replace("\n", " ")
        case str():
            return f'"{value}"'
        case _:
            return str(value)


def field_changes(before: Answers, after: Answers) -> tuple[FieldChange, ...]:
    """What differs between two declarations, with what both leave to defaults."""
    old, new = dict(_flat(before.model_dump(mode="json"))), dict(_flat(after.model_dump(mode="json")))
    return tuple(
        FieldChange(path, old.get(path), new.get(path))
        for path in dict.fromkeys((*old, *new))
        if old.get(path) != new.get(path)
    )


def _flat(value: Any, path: Words = ()) -> Iterator[tuple[Words, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, (*path, str(name)))
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        for name, inner in _named(value):
            yield from _flat(inner, (*path, name))
    elif value is not None and value != []:
        yield path, value


def _named(tables: list[Any]) -> Iterator[tuple[str, Any]]:
    for number, each in enumerate(tables):
        yield str(each.get("name") or each.get("url") or number), each


def set_field(raw: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """The declaration with `FIELD=VALUE`: the value as TOML, or a word as text; empty takes the field out.

    What stands in a list is named (`users.alice.shell=zsh`) or counted from 0. Raises HyperError.
    """
    field, equals, text = assignment.partition("=")
    words = [word for word in field.strip().split(".") if word]
    if not equals or not words:
        raise _unfit(assignment, "it has no `=` after a field", "write it as `--set ssh.port=2222`")
    value: Any = None
    if text.strip():
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
    changed: dict[str, Any] = _copy(raw)
    at: Any = changed
    for word in words[:-1]:
        if isinstance(at, dict):
            at = at.setdefault(word, {})
        elif isinstance(at, list):
            at = at[_position(at, word, assignment)]
        else:
            raise _unfit(assignment, f"there is nothing below {word!r}", "see `hv answers reference`")
    last = words[-1]
    if isinstance(at, list):
        position = _position(at, last, assignment)
        if value is None:
            del at[position]
        else:
            at[position] = value
    elif not isinstance(at, dict):
        raise _unfit(assignment, f"there is nothing below {words[-2]!r}", "see `hv answers reference`")
    elif value is None:
        at.pop(last, None)
    else:
        at[last] = value
    return changed


def _position(tables: list[Any], word: str, assignment: str) -> int:
    names = [name for name, _ in _named([each if isinstance(each, Mapping) else {} for each in tables])]
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < len(tables):
        return int(word)
    raise _unfit(
        assignment,
        f"there is no {word!r}: {', '.join(names) or 'the list is empty'}",
        "name one that is there; whole tables are added with --file, or by hand",
    )


def _unfit(assignment: str, why: str, remedy: str) -> HyperError:
    field = assignment.partition("=")[0]
    return HyperError(f"`--set {field}=…` cannot be taken", why=why, remedy=remedy, code=Exit.usage)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(inner) for name, inner in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list) else value


def rewritten(text: str, wanted: Mapping[str, Any]) -> str:
    """The text with other values: every comment, blank line and order of what stays is kept. Raises HyperError."""
    document = tomlkit.parse(text)
    _put(document, tomllib.loads(text), wanted)
    made = tomlkit.dumps(document)
    if tomllib.loads(made) != wanted:
        raise HyperError(
            "host.toml cannot be changed without touching more of it.",
            why="its tables are written in a way in which the new values have no place",
            remedy="change it by hand in an editor, then `sudo hv setup apply`",
        )
    return made


def _put(at: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for name in old:
        if name not in new:
            del at[name]
    for name, value in new.items():
        if name not in old:
            at[name] = value
        elif isinstance(value, Mapping) and isinstance(old[name], Mapping):
            _put(at[name], old[name], value)
        elif isinstance(at[name], AoT) and _tables(value) and _tables(old[name]):
            _put_tables(at[name], old[name], value)
        elif value != old[name]:
            at[name] = value


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _put_tables(at: AoT, old: list[Any], new: list[Any]) -> None:
    """Tables keep their comments by their names: what is gone is taken out, what stays is changed, the rest is added."""
    names = [name for name, _ in _named(new)]
    for position in reversed(range(len(old))):
        if list(_named(old))[position][0] not in names:
            del at[position]
    kept = [(name, each) for name, each in _named(old) if name in names]
    if [name for name, _ in kept] != names[: len(kept)]:
        while len(at):
            del at[0]
        kept = []
    for position, (_name, each) in enumerate(kept):
        _put(at[position], each, new[position])
    for each in new[len(kept) :]:
        table = tomlkit.table()
        table.update(each)
        at.append(table)
