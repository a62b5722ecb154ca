"""Lines for people in the 80 columns of a serial console: paragraphs are told and folded, commands are neither."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

WIDTH = 80
"""Columns."""
Say = Callable[[str], str]
"""A sentence as people are told it: itself, or its translation."""


@dataclass(frozen=True)
class Paragraph:
    """A text that is folded once it is told."""

    text: str
    """The text."""
    first: str
    """Before its first line."""
    rest: str
    """Before the others."""


@dataclass(frozen=True)
class Command:
    """A line of a command or a drawing, which is no sentence."""

    text: str
    """The line."""


Line = str | Paragraph | Command


def folded(lines: Iterable[Line], say: Say) -> Iterator[str]:
    """Lines as they are shown.

    Args:
        lines: What is to be told.
        say: How each sentence is told.
    """
    for line in lines:
        if isinstance(line, Paragraph):
            # Never breaking words: a device path in two pieces could not be compared with anything.
            yield from wrap(
                say(line.text),
                WIDTH,
                initial_indent=line.first,
                subsequent_indent=line.rest,
                break_long_words=False,
                break_on_hyphens=False,
            )
        elif isinstance(line, Command):
            yield line.text
        else:
            text = line.lstrip()
            yield line[: len(line) - len(text)] + say(text)


def command_lines(argv: Sequence[str], indent: str) -> Iterator[str]:
    """A command as a shell would take it, broken between arguments, an option kept with its value."""
    line = f"{indent}$ {shlex.quote(argv[0])}"
    pieces = list(_pieces(argv[1:], WIDTH - len(indent) - 6))
    for position, piece in enumerate(pieces, start=1):
        room = WIDTH - (0 if position == len(pieces) else 2)
        if len(line) + 1 + len(piece) > room:
            yield line + " \\"
            line = f"{indent}    {piece}"
        else:
            line += " " + piece
    yield line


def _pieces(words: Sequence[str], room: int) -> Iterator[str]:
    quoted = [shlex.quote(word) for word in words]
    while quoted:
        word = quoted.pop(0)
        if word.startswith("-") and quoted and (quoted[0] == "-" or not quoted[0].startswith("-")):
            pair = f"{word} {quoted[0]}"
            if len(pair) <= room:
                word = pair
                quoted.pop(0)
        yield word
