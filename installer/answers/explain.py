"""Validation errors in words: what is wrong with a field, and what it was probably meant to be."""

import difflib
import re
from typing import Any

from pydantic_core import ErrorDetails

from installer.answers.problems import Path, Problem, shown, shown_key, shown_path
from installer.answers.schema import Node, child, children, fields, holds_secret, is_secret, node_at
from installer.answers.toml import toml

_MISSING = object()


def _step(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part, _MISSING)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return _MISSING


def _value_at(path: Path, raw: Any) -> Any:
    value = raw
    for part in path:
        value = _step(value, part)
    return value


def shown_at(path: Path, raw: Any) -> str | None:
    """The value for a message; none where it is missing, unknown to the model, or might be a secret."""
    value = _value_at(path, raw)
    node = node_at(path)
    if not path or value is _MISSING or node is None:
        return None
    if isinstance(value, dict | list):
        return shown(value)
    if is_secret(path):
        is_path = path[-1] == "file" and isinstance(value, str) and value.startswith("/")
        return shown(value) if is_path else "(a secret, not repeated)"
    return "(not repeated)" if holds_secret(node) else shown(value, 44)


def explain(detail: ErrorDetails, raw: Any) -> Problem:
    """What a validation error means to whoever wrote the file; `raw` is the whole content."""
    path = _path(detail, raw)
    if detail["type"] == "extra_forbidden":
        if is_secret(path[:-1]):  # whatever stands there could be the secret
            return Problem(
                path[:-1], "has a field that is not `file`", _example(path[:-1], node_at(path[:-1]) or {})
            )
        return _unknown(path)
    node = node_at(path) or {}
    if detail["type"] == "missing":
        return Problem(path, f"is required and missing: {_sentence(node)}", _example(path, node))
    value = _value_at(path, raw)
    return Problem(path, _wrong(detail, node, value, path), _example(path, node, value))


def _path(detail: ErrorDetails, raw: Any) -> Path:
    """The field that a validation error means: its location without the names of union members."""
    path: Path = ()
    value = raw
    for part in detail["loc"]:
        inner = _step(value, part)
        if inner is not _MISSING:
            path, value = (*path, part), inner
        elif detail["type"] == "missing" and part == detail["loc"][-1]:
            path = (*path, part)
    return path


_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


def kind_of(value: object) -> str:
    """What kind of value it is, in words."""
    match value:
        case bool():
            return "a truth value"
        case str():
            return "text"
        case int():
            return "a whole number"
        case float():
            return "a number with a fraction"
        case list():
            return "a list"
        case dict():
            return "a table"
        case None:
            return "null"
        case _:
            return "a date or time"


def _fits(value: object, kind: str) -> bool:
    match kind:
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case _:
            return True


def _wrong(detail: ErrorDetails, node: Node, value: object, path: Path) -> str:
    context = detail.get("ctx", {})
    kind = node.get("type", "")
    if kind and not _fits(value, kind):
        choices = _choices(node)
        needed = ("one of " if len(choices) > 1 else "") + _listed(choices) if choices else _KINDS[kind]
        return f"is {kind_of(value)}, must be {needed}"
    match detail["type"]:
        case "greater_than_equal":
            return f"is too small, must be at least {context['ge']}"
        case "less_than_equal":
            return f"is too large, must be at most {context['le']}"
        case "too_short":
            return "is empty, must have at least one element"
        case "literal_error" if path == ("version",):
            return "is a format that this program does not know; it reads format 1"
    if choices := _choices(node):
        return ("is not one of " if len(choices) > 1 else "must be ") + _listed(choices)
    if title := node.get("title"):
        return f"is not {title}"
    return "does not fit: " + _sentence(node)


def _choices(node: Node) -> list[Any]:
    return list(node.get("enum", [node["const"]] if "const" in node else []))


def _listed(choices: list[Any]) -> str:
    return ", ".join(map(shown, choices))


def _sentence(node: Node) -> str:
    text = str(node.get("description", "see the reference"))
    return text[:1].lower() + text[1:].rstrip(".") if not text[1:2].isupper() else text.rstrip(".")


def _example(path: Path, node: Node, given: object = None) -> str:
    """The remedy: the field written rightly."""
    key = shown_key(str(next((part for part in reversed(path) if isinstance(part, str)), "")))
    value = _meant(node, given) or example_value(node)
    if path and isinstance(path[-1], int):
        return f"write it for example as `{value}`"
    if not value:
        return f"write a table {_table(path)} with fields of: {', '.join(children(node))}"
    return f"write for example `{key} = {value}`"


def _meant(node: Node, given: object) -> str | None:
    """What a wrong value was probably meant to be."""
    choices = [choice for choice in _choices(node) if isinstance(choice, str)]
    if isinstance(given, str) and (close := difflib.get_close_matches(given.lower(), choices, n=1)):
        return toml(close[0])
    match node.get("type"), given:
        case "integer", str() if re.fullmatch("[0-9]{1,9}", given):
            return str(int(given))
        case "boolean", str() | int():
            return "true" if str(given).lower() in {"1", "yes", "on", "true"} else "false"
        case _:
            return None


def _table(path: Path) -> str:
    """The header that opens a table."""
    name = ".".join(shown_key(part) for part in path if isinstance(part, str))
    return f"`[[{name}]]`" if path and isinstance(path[-1], int) else f"`[{name}]`"


def example_value(node: Node) -> str:
    """A good value in TOML: the default, or what the model shows as an example; empty for tables."""
    default = node.get("default")
    if default not in (None, [], {}, "") and not children(node):
        return toml(default)
    if examples := node.get("examples"):
        return toml(examples[0])
    if choices := _choices(node):
        return toml(choices[0])
    match node.get("type"):
        case "string":
            return '"…"'
        case "integer":
            return str(node.get("minimum", 1))
        case "boolean":
            return "true"
        case "array":
            inner = example_value(child(node, 0) or {})
            return f"[{inner}]" if inner else "[{ … }]"
        case _:
            return ""


def _unknown(path: Path) -> Problem:
    parent = path[:-1]
    key = str(path[-1])
    where = _table(parent) if parent else "the file"
    known = list(children(node_at(parent) or {}))
    return Problem(path, f"is not a field of {where}", _suggestion(key, parent, known))


def _suggestion(key: str, parent: Path, known: list[str]) -> str:
    spelled = key.lower().replace("-", "_")
    close = difflib.get_close_matches(spelled, known, n=2, cutoff=0.6)
    elsewhere = [path for path, _ in fields() if path[-1] == spelled and path[:-1] != parent]
    if close and (not elsewhere or difflib.get_close_matches(spelled, close, cutoff=0.85)):
        return "did you mean " + " or ".join(f"`{name}`" for name in close) + "?"
    if not elsewhere:
        return "remove it; known here: " + ", ".join(known)
    names = [shown_path(tuple(part for part in path if part != 0)) for path in elsewhere[:3]]
    above = " It must stand above the first `[table]`." if (spelled,) in elsewhere else ""
    return "did you mean " + " or ".join(f"`{name}`" for name in names) + f"?{above}"
