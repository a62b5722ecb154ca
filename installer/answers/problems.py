"""What is wrong with an answer file: every problem with its line, field, value and remedy, told in 80 columns."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from installer.errors import Exit, HyperError, paragraph

Path = tuple[str | int, ...]
"""Keys and list positions (from 0) that lead to a field."""

_SECRET_LOOKS = re.compile(r"\$(y|gy|7|6|5|1|2[abxy]?)\$|PRIVATE KEY|-Secret-Key-")
"""Hashes and private keys that strayed into a field where nobody expects them."""
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an answer file."""

    path: Path
    """The field; empty for the file as a whole."""
    wrong: str
    """What is wrong with it."""
    remedy: str
    """What to do."""
    value: str | None = None
    """The value as `shown` writes it; none where there is none or where it must not be repeated."""
    line: int | None = None
    """Line of the file, from 1."""
    column: int | None = None
    """Column of the line, from 1."""
    code: Exit = Exit.answers
    """Exit code of this kind of problem."""

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else ""
        place += f", column {self.column}" if place and (self.column or 1) > 1 else ""
        field = shown_path(self.path) + (f" = {self.value}" if self.value is not None else "")
        head = ": ".join(part for part in (place, field) if part)
        return "\n".join(
            [
                *paragraph(head or "the whole file", "  ", "      "),
                *paragraph(self.wrong, "    why: ", " " * 9),
                *paragraph(self.remedy, "    do:  ", " " * 9),
            ]
        )


class AnswersError(HyperError):
    """Everything wrong with one answer file, at once.

    The code is `Exit.lockout` when nothing else is wrong than that no administrator could log in.
    """

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
        codes = {problem.code for problem in self.problems}
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            f"{printable(name)} has {count}",
            why="; ".join(
                f"{shown_path(problem.path)}: {problem.wrong}" if problem.path else problem.wrong
                for problem in self.problems
            ),
            remedy="correct them and run `hv answers check` again",
            code=codes.pop() if len(codes) == 1 else Exit.answers,
        )

    def __str__(self) -> str:
        return "\n\n".join([f"{self.what}:", *map(str, self.problems)])


def shown(value: object, limit: int = 60) -> str:
    """A value for a message: one line, at most `limit` characters, printable, nothing that looks like a secret."""
    match value:
        case dict():
            return "{ … }" if value else "{}"
        case list() | tuple():
            return "[ … ]" if value else "[]"
        case bool():
            return "true" if value else "false"
        case str() if _SECRET_LOOKS.search(value):
            return "(a secret, not repeated)"
        case str():
            text = printable(json.dumps(_URL_LOGIN.sub("…@", value), ensure_ascii=False))
            return text if len(text) <= limit else text[: limit - 2] + '…"'
        case None:
            return "null"
        case _:
            text = str(value)
            return text if len(text) <= limit else text[: limit - 1] + "…"


def shown_path(path: Path) -> str:
    """The field as TOML would name it: `users[0].name`, `storage.subvolumes."@home"`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else ("." if text else "") + shown_key(part)
    return text


def shown_key(key: str) -> str:
    """A key, in quotes where TOML needs them."""
    return key if _BARE_KEY.fullmatch(key) and len(key) <= 40 else shown(key, 42)


def printable(text: str) -> str:
    """The text with everything that could move a terminal's cursor or hide written as an escape."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
