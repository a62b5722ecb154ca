"""Bytes of an answer file → `Answers`, or everything that is wrong with it at once."""

import json
import math
import re
import tomllib
from datetime import date, datetime, time
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from installer.answers.check import check
from installer.answers.explain import explain, kind_of, shown_at
from installer.answers.login import lockout
from installer.answers.model import Answers
from installer.answers.places import Places, json_places, toml_places
from installer.answers.problems import AnswersError, Path, Problem, shown

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
            problem = explain(detail, raw)
            problems.setdefault(problem.path, problem)
        found = list(problems.values())
    else:
        found = [*problems.values()] or [*check(answers), *lockout(answers)]
    if found:
        raise AnswersError(name, [_placed(problem, raw, places) for problem in found])
    return answers


def parse(data: bytes, name: str, format: Format | None = None) -> dict[str, Any]:  # noqa: A002
    """A file's content as it stands, whatever it says; for who asks for the rest. Raises AnswersError."""
    raw, _places = _parse(_decode(data, name), name, format or format_of(name))
    return dict(raw)


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
            name, f"it is {kind_of(raw)}, must be a table", 'begin with `{ "version": 1, "hostname": … }`', 1
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
        value = shown_at(problem.path, raw)
    return Problem(
        problem.path,
        problem.wrong,
        problem.remedy,
        value,
        problem.line or (place.line if place else None),
        problem.column or (place.column if place else None),
        problem.code,
    )
