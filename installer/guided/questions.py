"""What can be asked. A question says what was found, what is recommended and why, and what it costs."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from installer.answers.problems import Path

Answers = Mapping[Path, Any]
"""Changes to the answer file: where, and what; `None` takes a field or table out."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that a topic yields."""

    title: str
    """What it is about; the head of the page."""


@dataclass(frozen=True, kw_only=True)
class Question(Item):
    """Something that a person is asked."""

    prompt: str
    """The question itself, in one line."""
    lines: tuple[str, ...] = ()
    """What was found, what is recommended and why, what it costs or risks: a paragraph each."""
    more: tuple[str, ...] = ()
    """For those who meet it for the first time: what this is at all."""
    field: Path = ()
    """The field of the answer file that it decides; the field's own description belongs to the explanation."""


@dataclass(frozen=True)
class Option:
    """One thing to choose."""

    value: Any
    """What the choice means."""
    title: str
    """In a few words."""
    refused: str | None = None
    """Why it cannot be chosen here; it is shown all the same, and says so when it is tried."""


@dataclass(frozen=True, kw_only=True)
class One(Question):
    """Choose one."""

    options: tuple[Option, ...]
    """At least one of them not refused."""
    default: Any = None
    """Value of the recommended one."""


@dataclass(frozen=True, kw_only=True)
class Many(Question):
    """Choose any number."""

    options: tuple[Option, ...]
    """What there is."""
    default: tuple[Any, ...] = ()
    """Values chosen at first."""
    check: Callable[[tuple[Any, ...]], str | None] = field(default=lambda _: None, compare=False)
    """Why this choice is not possible; none: it is."""


@dataclass(frozen=True, kw_only=True)
class Line(Question):
    """Type a line."""

    default: str = ""
    """What stands there at first."""
    check: Callable[[str], str | None] = field(default=lambda _: None, compare=False)
    """Why this cannot be taken; none: it can."""


@dataclass(frozen=True, kw_only=True)
class Secret(Question):
    """Type a secret; nobody sees it."""

    twice: bool = True
    """Whether it is new, so that a slip of the finger must be noticed."""
    check: Callable[[str], str | None] = field(default=lambda _: None, compare=False)
    """Why this cannot be taken; none: it can."""


@dataclass(frozen=True, kw_only=True)
class Notice(Question):
    """Read something, and go on."""


@dataclass(frozen=True, kw_only=True)
class Work(Item):
    """Something that the world is asked to do or to look up; the title says what is going on meanwhile."""

    task: str
    """Name of a method of `World`."""
    arguments: tuple[Any, ...] = ()
    """Its arguments."""


@dataclass(frozen=True)
class Failed:
    """What a `Work` comes to when it cannot be done."""

    reason: str
    """For people: what happened, and what to do."""


Dialogue = Generator[Item, Any, Answers]
"""A topic: yields items, gets each one's answer, returns what it decided. Asked the same again with the same answers it
yields the same: going back is starting over with one answer less.
"""
