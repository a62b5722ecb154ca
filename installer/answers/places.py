"""Where in the text each field stands.

Of the libraries that nixpkgs keeps, tomllib, tomlkit, rtoml and pytomlpp tell a position for syntax errors only,
and json-stream none at all; a language-server grammar would be a second parser with opinions of its own. So
tomllib and json decide what a file means, and these two scanners, which see only text that those accepted,
merely follow it to note where keys and list elements begin. A property test holds them to the parsers' result.
"""

import json
import re
import tomllib
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from installer.answers.problems import Path


class Place(NamedTuple):
    """A position in a text."""

    line: int
    """From 1."""
    column: int
    """In characters, from 1."""


class Places:
    """Positions of all fields of one text."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.of: dict[Path, Place] = {}
        """Position of each field's key, or of the element in a list."""
        self.twice: list[tuple[Path, Place]] = []
        """Keys of a JSON object that were there before."""

    def at(self, index: int) -> Place:
        """Line and column of a character."""
        line = bisect_right(self._starts, index)
        return Place(line, index - self._starts[line - 1] + 1)

    def note(self, path: Path, index: int, *, again: bool = False) -> None:
        """Remember a field; the first mention counts, unless `again`."""
        if again or path not in self.of:
            self.of[path] = self.at(index)

    def find(self, path: Path) -> Place | None:
        """Position of a field, or of the nearest table around one that is not there."""
        for length in range(len(path), 0, -1):
            if place := self.of.get(path[:length]):
                return place
        return None


def toml_places(text: str) -> Places:
    """Positions in a text that tomllib accepts."""
    return _Toml(text).scan()


def json_places(text: str) -> Places:
    """Positions in a text that json accepts."""
    return _Json(text).scan()


_JSON_BLANK = re.compile(r"[ \t\r\n]*")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_JSON_ATOM = re.compile(r"[^,\]}\s]+")


class _Scanner:
    blank: re.Pattern[str]

    def __init__(self, text: str) -> None:
        self.text = text
        self.index = 0
        self.places = Places(text)

    def skip(self, pattern: re.Pattern[str] | None = None) -> str:
        """Step over blanks, or over what must be there; tell what it was."""
        match = (pattern or self.blank).match(self.text, self.index)
        if not match:
            raise ValueError(f"unexpected text at {self.places.at(self.index)}")
        self.index = match.end()
        return match.group()

    def ahead(self, text: str) -> bool:
        return self.text.startswith(text, self.index)

    def several(self, closing: str, one: Callable[[int], None]) -> None:
        """A bracketed list, from its opening bracket: `one` steps over the n-th member."""
        self.index += 1
        self.skip()
        number = 0
        while not self.ahead(closing):
            one(number)
            number += 1
            self.skip()
            if self.ahead(","):
                self.index += 1
                self.skip()
            elif not self.ahead(closing):
                raise ValueError(f"unexpected text at {self.places.at(self.index)}")
        self.index += 1


class _Json(_Scanner):
    blank = _JSON_BLANK

    def scan(self) -> Places:
        self.skip()
        self.value(())
        return self.places

    def value(self, path: Path) -> None:
        if self.ahead("{"):
            self.several("}", lambda _: self.pair(path))
        elif self.ahead("["):
            self.several("]", lambda number: self.element((*path, number)))
        else:
            self.skip(_JSON_STRING if self.ahead('"') else _JSON_ATOM)

    def element(self, path: Path) -> None:
        self.places.note(path, self.index)
        self.value(path)

    def pair(self, path: Path) -> None:
        start = self.index
        inner = (*path, str(json.loads(self.skip(_JSON_STRING))))
        if inner in self.places.of:
            self.places.twice.append((inner, self.places.at(start)))
        self.places.note(inner, start)
        self.skip()
        self.index += 1  # the colon
        self.skip()
        self.value(inner)


_TOML_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_TOML_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_TOML_ATOM = re.compile(r"[^,\]}#\n]+")
_TOML_STRINGS = {
    # Up to two quotes may stand right before the closing three.
    '"""': re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""(?:"{1,2})?', re.DOTALL),
    "'''": re.compile(r"'''(?:[^']|'(?!''))*'''(?:'{1,2})?", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\]|\\.)*"'),
    "'": re.compile(r"'[^']*'"),
}


class _Toml(_Scanner):
    blank = _TOML_BLANK

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lengths: dict[Path, int] = {}
        """How many tables each `[[array]]` has so far."""

    def scan(self) -> Places:
        table: Path = ()
        self.skip()
        while self.index < len(self.text):
            if self.ahead("["):
                table = self.header()
            else:
                self.pair(table)
            self.skip()
        return self.places

    def header(self) -> Path:
        start = self.index
        array = self.ahead("[[")
        self.index += 2 if array else 1
        keys = self.keys()
        self.index += 2 if array else 1
        path = (*self.resolve((), keys[:-1], start), keys[-1])
        if array:
            self.places.note(path, start)
            self.lengths[path] = self.lengths.get(path, 0) + 1
            path = (*path, self.lengths[path] - 1)
        # `[a.b]` may have mentioned `a` before `[a]` itself comes.
        self.places.note(path, start, again=True)
        return path

    def pair(self, table: Path) -> None:
        start = self.index
        keys = self.keys()
        path = (*self.resolve(table, keys[:-1], start), keys[-1])
        self.places.note(path, start)
        self.index += 1  # the equals sign
        self.skip()
        self.value(path)

    def resolve(self, base: Path, keys: list[str], start: int) -> Path:
        path = base
        for key in keys:
            path = (*path, key)
            self.places.note(path, start)
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        return path

    def keys(self) -> list[str]:
        found = []
        while True:
            self.skip()
            key = self.skip(_TOML_KEY)
            found.append(str(tomllib.loads(f"key = {key}")["key"]) if key[0] in "\"'" else key)
            self.skip()
            if not self.ahead("."):
                return found
            self.index += 1

    def value(self, path: Path) -> None:
        if self.ahead("{"):
            self.several("}", lambda _: self.pair(path))
        elif self.ahead("["):
            self.several("]", lambda number: self.element((*path, number)))
        else:
            quotes = next((quotes for quotes in _TOML_STRINGS if self.ahead(quotes)), None)
            self.skip(_TOML_STRINGS[quotes] if quotes else _TOML_ATOM)

    def element(self, path: Path) -> None:
        self.places.note(path, self.index)
        self.value(path)
