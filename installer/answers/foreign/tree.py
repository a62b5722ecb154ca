"""A file's values, of which each is either taken over or told as left: nothing disappears."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from installer.answers.problems import shown

Path = tuple[str | int, ...]
NOTHING_LIKE_IT = "answers have nothing like it"
_SECRET = re.compile(r"pass|secret|hash|\bpw\b|key$|keyfile", re.IGNORECASE)
"""Names whose values are never repeated."""


@dataclass(frozen=True)
class Left:
    """One value that was not taken over."""

    path: str
    """Where it stands."""
    value: str
    """What it is, unless it may be a secret."""
    why: str
    """Why not."""

    def __str__(self) -> str:
        return f"{self.path} = {self.value}: {self.why}"


@dataclass(frozen=True)
class Imported:
    """What a file comes to."""

    answers: dict[str, Any]
    """As an answer file has it; not whole."""
    left: tuple[Left, ...]
    """Everything in the file that is not in the answers."""


@dataclass
class Tree:
    """Values by path, with a memory of what was read."""

    value: Any
    """The whole."""
    taken: set[Path] = field(default_factory=set)
    """Paths that are taken over, with everything below."""
    reasons: dict[Path, str] = field(default_factory=dict)
    """Why what is at a path or below was left."""

    def look(self, *path: str | int) -> Any:
        """The value at a path; none: there is none. It does not count as taken over."""
        value = self.value
        for part in path:
            listed = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if not listed and not (isinstance(value, dict) and part in value):
                return None
            value = value[part]
        return value

    def take(self, *path: str | int) -> Any:
        """The same, taken over."""
        value = self.look(*path)
        if value is not None:
            self.reasons.pop(path, None)
            self.taken.add(path)
        return value

    def leave(self, path: Path, why: str) -> None:
        """Say why something is not taken over."""
        self.taken.discard(path)
        self.reasons.setdefault(path, why)

    def left(self) -> tuple[Left, ...]:
        """Every value that was not taken over, in order of the file."""
        return tuple(self._left((), self.value))

    def _left(self, path: Path, value: Any) -> Iterator[Left]:
        if path in self.taken:
            return
        inner = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        apart = path not in self.reasons or any(each[: len(path)] == path for each in self.taken)
        if isinstance(value, dict | list) and (not value or apart):
            for key, below in inner:  # an empty one says nothing
                yield from self._left((*path, key), below)
            return
        why = next(
            (self.reasons[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.reasons),
            NOTHING_LIKE_IT,
        )
        yield Left(_words(path), _shown(path, value), why)


def _words(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the whole file"


def _shown(path: Path, value: Any) -> str:
    secret = any(isinstance(part, str) and _SECRET.search(part) for part in path)
    return "(not repeated)" if secret or _holds_secret(value) else shown(value, 60)


def _holds_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_SECRET.search(str(key)) or _holds_secret(inner) for key, inner in value.items())
    return isinstance(value, list) and any(map(_holds_secret, value))
