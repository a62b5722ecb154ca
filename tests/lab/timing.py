"""How much of an installation was spent in programs, by its log: what is left is the installer's own."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

_BEGUN = re.compile(r"^(\S+) (\[\S+\] )?\$ ")
_ENDED = re.compile(r"^(\S+) (\[\S+\] )?= -?\d+ after ")
WRITES = re.compile(r"\$ (wipefs|sfdisk --(?!dump|json)|cryptsetup luksFormat|mkfs|mount) ?")
"""The first of these in a log is the first write."""


class Timing(NamedTuple):
    """Seconds."""

    whole: float
    """From the first program that writes to the end of the last one."""
    programs: float
    """Of these, while at least one program ran; lanes that go side by side count once."""

    @property
    def ratio(self) -> float:
        """Whole to programs: 1 would be an installer that takes no time."""
        return self.whole / self.programs

    def __str__(self) -> str:
        return f"{self.whole:.0f} s from the first write to the last sync, {self.ratio:.2f} times what programs took"


def timing(log: str) -> Timing:
    """Of one installation that was not interrupted.

    Raises:
        ValueError: no program that writes is in it.
    """
    lines = log.splitlines()
    first = next((number for number, line in enumerate(lines) if WRITES.search(line)), None)
    if first is None:
        raise ValueError("no program that writes is in this log")
    spans = list(_merged(_spans(lines[first:])))
    return Timing(spans[-1][1] - spans[0][0], sum(end - start for start, end in spans))


def _spans(lines: Iterable[str]) -> Iterator[tuple[float, float]]:
    open_since: dict[str | None, float] = {}
    for line in lines:
        if begun := _BEGUN.match(line):
            open_since[begun[2]] = datetime.fromisoformat(begun[1]).timestamp()
        elif (ended := _ENDED.match(line)) and ended[2] in open_since:
            yield open_since.pop(ended[2]), datetime.fromisoformat(ended[1]).timestamp()


def _merged(spans: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Without overlaps, in order."""
    current: tuple[float, float] | None = None
    for start, end in sorted(spans):
        if current and start <= current[1]:
            current = current[0], max(current[1], end)
        else:
            if current:
                yield current
            current = start, end
    if current:
        yield current
