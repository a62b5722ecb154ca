"""Bytes of an answer file → `Answers`, or everything that is wrong with it at once."""

import difflib
import json
import math
import re
import tomllib
from datetime import date, datetime, time
from enum import StrEnum
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from installer.answers.check import check
from installer.answers.login import lockout
from installer.answers.model import Answers
from installer.answers.places import Places, json_places, toml_places
from installer.answers.problems import AnswersError, Path, Problem, shown, shown_key, shown_path
from installer.answers.schema import Node, child, children, fields, holds_secret, is_secret, node_at
from installer.answers.toml import toml

LARGEST = 4 << 20
"""Bytes. A file with a whole bundle of certificates is below 1 MiB; what is larger is not an answer file."""


class Format(StrEnum):
    """How an answer file is written."""

    toml = "TOML"
    json = "JSON"


def format_of(name: str) -> Format:
    """JSON for names that end so, else TOML."""
    return Format.json if name.lower().endswith(".json") else Format.toml


def load(data: bytes, name: str, format: Format | None = None) -> Answers:  # noqa: A002
    """The answers in a file's content; `name` is what messages call it.

    Raises AnswersError (Exit.answers, or Exit.lockout when that alone is wrong) with every problem found: first
    the types of all fields, then, when they are right, what they say together.
    """
    text = _decode(data, name)
    raw, places = _parse(text, name, format or format_of(name))
    problems: dict[Path, Problem] = {}
    clean = _json_safe(raw, (), problems)
    try:
        # Strict, and as JSON: text is no number, 1 is no truth value, yet lists become tuples and names enums.
        answers = Answers.model_validate_json(json.dumps(clean), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=True):
            problem = _explain(detail, raw)
            problems.setdefault(problem.path, problem)
        found = list(problems.values())
    else:
        found = [*problems.values()] or [*check(answers), *lockout(answers)]
    if found:
        raise AnswersError(name, [_placed(problem, raw, places) for problem in found])
    return answers


def _whole(
    name: str, wrong: str, remedy: str, line: int | None = None, column: int | None = None
) -> AnswersError:
    return AnswersError(name, [Problem((), wrong, remedy, line=line, column=column)])


def _decode(data: bytes, name: str) -> str:
    if len(data) > LARGEST:
        raise _whole(
            name, f"it is larger than {LARGEST >> 20} MiB", "name the answer file, not an image or archive"
        )
    if not data.strip():
        raise _whole(name, "it is empty", "start one with `hv answers new`")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _whole(name, "it is UTF-16, not UTF-8", "save it again with the encoding UTF-8")
    try:
        text = data.decode("utf-8-sig")  # editors on Windows put a byte order mark in front
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        raise _whole(
            name,
            f"byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8 text",
            "save it again with the encoding UTF-8; a binary file is no answer file",
            line,
            column,
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _whole(
            name, "it holds a NUL byte, so it is a binary file", "name the answer file itself", line
        )
    return text


def _parse(text: str, name: str, format: Format) -> tuple[dict[str, Any], Places]:  # noqa: A002
    try:
        match format:
            case Format.toml:
                return tomllib.loads(text), toml_places(text.replace("\r\n", "\n"))
            case Format.json:
                raw = json.loads(text)
                places = json_places(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(str(error), text, name) from None
    except json.JSONDecodeError as error:
        at_end = not text[error.pos :].strip()
        wrong = "it ends in the middle of a value" if at_end else f"it is not JSON here: {error.msg.lower()}"
        remedy = (
            "restore the rest of the file" if at_end else "correct the line, or the end of the one before it"
        )
        raise _whole(name, wrong, remedy, error.lineno, error.colno) from None
    except RecursionError:
        raise _whole(
            name,
            "its lists or tables are nested too deep",
            "write the fields as `hv answers new` shows them",
        ) from None
    except ValueError:  # a number of thousands of digits, a date that the calendar lacks
        raise _whole(
            name, "a number in it is too long to read", "write numbers that fit their fields"
        ) from None
    if not isinstance(raw, dict):
        raise _whole(
            name, f"it is {_kind(raw)}, must be a table", 'begin with `{ "version": 1, "hostname": … }`', 1
        )
    if places.twice:
        twice = [
            Problem(
                path,
                "the key stands twice in the same table",
                "remove one of them",
                line=line,
                column=column,
            )
            for path, (line, column) in places.twice
        ]
        raise AnswersError(name, twice)
    return raw, places


_TOML_POSITION = re.compile(r"^(.*?) \((?:at line (\d+), column (\d+)|at end of document)\)$", re.DOTALL)
_TOML_MESSAGES = (
    # What tomllib says, what is wrong, what to do. Never its own words: they could repeat a piece of a value.
    (
        r"Cannot overwrite a value|Cannot mutate immutable namespace|Duplicate inline table key",
        "the key stands twice in the same table, or is a table and a value at once",
        "remove one of them",
    ),
    (
        r"Cannot declare|Cannot redefine",
        "this table was opened before",
        "put its fields together under one header; for one more user or interface write `[[…]]`",
    ),
    (
        r"Illegal character '\\n'",
        "the text is not closed at the end of its line",
        'add the missing quote; text of several lines stands in """three quotes"""',
    ),
    (
        r"Illegal character|Found invalid character",
        "a control character stands in the text",
        "remove it, or write it as an escape such as \\t in double quotes",
    ),
    (
        r"Unescaped|Invalid hex value|Escaped character",
        "a backslash begins no known escape",
        "write \\\\, or use single quotes",
    ),
    (
        r"Unterminated|Unclosed|Expected .*quote",
        "a text or list is not closed",
        "add the missing quote or bracket",
    ),
    (
        r"Expected '=' after a key",
        "a key has no `=`",
        'write it as `key = value`; text needs quotes: `name = "kvm1"`',
    ),
    (
        r"Invalid value|Invalid date or datetime",
        "this is no TOML value",
        "put text in quotes; numbers, `true`, `false`, `[ … ]` and `{ … }` stand without",
    ),
    (
        r"Expected newline or end of document",
        "something stands after the value",
        "begin a new line after each value; text and dates need quotes",
    ),
    (r"Invalid statement|Invalid initial character", "this is no TOML", "write `key = value` or `[table]`"),
    (
        r"Expected ']'|Expected '\]\]'",
        "a table header is not closed",
        "write `[table]`, or `[[table]]` for lists",
    ),
)


def _syntax(message: str, text: str, name: str) -> AnswersError:
    match = _TOML_POSITION.match(message)
    lines = text.rstrip().count("\n") + 1
    at_end = match is not None and match[2] is None
    line = int(match[2]) if match and match[2] else lines
    column = int(match[3]) if match and match[3] else None
    if at_end and not message.startswith(("Cannot", "Duplicate")):
        wrong, remedy = "it ends in the middle of a value", "restore the rest, or close the quote or bracket"
    else:
        wrong, remedy = next(
            (told for pattern, *told in _TOML_MESSAGES if re.match(pattern, message)),
            ["this is no TOML", "write `key = value` or `[table]`"],
        )
    lines_of_text = text.splitlines()
    content = lines_of_text[line - 1] if 0 < line <= len(lines_of_text) else ""
    key = re.match(r"\s*\[{0,2}\s*([A-Za-z0-9_.-]{1,60})\s*[]=]", content)
    problem = Problem((), wrong, remedy, line=line, column=column)
    if key:  # only what stands before the equals sign: after it there may be a secret
        problem = Problem(tuple(key[1].split(".")), wrong, remedy, line=line, column=column)
    return AnswersError(name, [problem])


def _json_safe(value: Any, path: Path, problems: dict[Path, Problem]) -> Any:
    """The value as JSON can carry it; what it cannot is noted and left out."""

    def note(wrong: str, remedy: str) -> None:
        problems[path] = Problem(path, wrong, remedy)

    match value:
        case dict():
            return {
                _text_safe(key): _json_safe(inner, (*path, key), problems)
                for key, inner in value.items()
                # A key with half a character is unknown anyway, and reported as such under its safe spelling.
            }
        case list():
            return [_json_safe(inner, (*path, number), problems) for number, inner in enumerate(value)]
        case str() if _text_safe(value) != value:
            note("holds half a character (a lone surrogate)", "write the character itself")
        case float() if not math.isfinite(value):
            note(f"is {shown(value)}, which is no number", "write a number")
        case datetime() | date() | time():
            note("is a date or time, must be text", "put it in quotes")
        case _:
            return value
    return None


def _text_safe(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _placed(problem: Problem, raw: Any, places: Places) -> Problem:
    place = places.find(problem.path)
    value = problem.value
    if value is None:
        value = _shown_at(problem.path, raw)
    return Problem(
        problem.path,
        problem.wrong,
        problem.remedy,
        value,
        problem.line or (place.line if place else None),
        problem.column or (place.column if place else None),
        problem.code,
    )


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


def _shown_at(path: Path, raw: Any) -> str | None:
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


def _explain(detail: ErrorDetails, raw: Any) -> Problem:
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


def _kind(value: object) -> str:
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
        return f"is {_kind(value)}, must be {needed}"
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
