"""Progress for people and for tools: live on a terminal, plain lines on a serial console, JSON lines for programs."""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Literal, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from installer.execute.log import Redactor
from installer.plan.model import Step

Mode = Literal["auto", "plain", "json"]
State = Literal["started", "verified", "skipped", "failed"]

_SERIAL = re.compile(r"^/dev/(tty(S|AMA|USB|O)|hvc|xvc)[0-9]+$")
_HEARTBEAT = 15.0
_COLUMNS = 80
"""Of a serial console, which tells nobody its size."""
_EVERY_PERCENT = 10


@dataclass(frozen=True)
class Moment:
    """Where the installation is."""

    number: int
    """The current step's number, from 1."""
    step: Step
    """The current step."""
    percent: float
    """Share of the whole that is done."""


class Screen(Protocol):
    """Where progress is shown."""

    def step(self, at: Moment, state: State) -> None:
        """A step changed its state."""

    def inside(self, at: Moment, fraction: float, text: str) -> None:
        """The current step came further."""

    def tick(self, percent: float) -> None:
        """Time passed."""

    def say(self, text: str) -> None:
        """One line for people."""

    def shown(self) -> AbstractContextManager[object]:
        """Shows progress while it is entered, and leaves the terminal as it was."""


@dataclass
class Progress:
    """Knows how much of the whole is done; the screen only draws it. Steps may go on side by side."""

    screen: Screen
    redact: Redactor
    steps: Sequence[Step] = ()
    _finished: float = 0.0
    _numbers: dict[str, int] = field(default_factory=dict)
    _running: dict[str, float] = field(default_factory=dict)
    """How far each is, by id, in the order in which they began."""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self, steps: Sequence[Step]) -> None:
        """The steps that are to come, verified ones of an earlier run among them."""
        self.steps, self._finished, self._running = steps, 0.0, {}
        self._numbers = {step.id: number for number, step in enumerate(steps, start=1)}

    @property
    def percent(self) -> float:
        """Share of the steps' weight that is done, with the running steps' own progress."""
        total = sum(step.weight for step in self.steps)
        if not total:
            return 0.0
        running = sum(self._step(key).weight * fraction for key, fraction in self._running.items())
        return 100 * (self._finished + running) / total

    def _step(self, key: str) -> Step:
        return self.steps[self._numbers[key] - 1]

    def _moment(self, step: Step) -> Moment:
        return Moment(self._numbers[step.id], step, self.percent)

    def start(self, step: Step) -> None:
        """A step begins."""
        with self._lock:
            self._running[step.id] = 0.0
            self.screen.step(self._moment(step), "started")

    def end(self, step: Step, state: State) -> None:
        """A step ended so."""
        with self._lock:
            if state != "failed":
                self._finished += step.weight
                del self._running[step.id]
            self.screen.step(self._moment(step), state)

    def inside(self, fraction: float, text: str) -> None:
        """The step that began last is so far (0 to 1); it never goes back. Only of steps that have no other beside them."""
        with self._lock:
            last = next(reversed(self._running))
            self._running[last] = max(self._running[last], min(1.0, fraction))
            self.screen.inside(self._moment(self._step(last)), self._running[last], self.redact(text))

    def tick(self) -> None:
        """Time passed; called about once a second."""
        with self._lock:
            self.screen.tick(self.percent)

    def say(self, text: str) -> None:
        """One line for people."""
        with self._lock:
            self.screen.say(self.redact(text))


def clock(seconds: float) -> str:
    """Minutes and seconds, `3:07`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


@dataclass
class Plain:
    """Lines with elapsed time and percent, for serial consoles and pipes; a sign of life in long silence."""

    stream: TextIO
    total: Callable[[], int]
    now: Callable[[], float] = time.monotonic
    heartbeat: float = _HEARTBEAT
    columns: int | None = None
    """Where lines are folded, between words; none: never, for files and pipes."""
    told: Callable[[str], str] = str
    """What the screen itself says, as people are told it."""
    _began: float = field(init=False)
    _spoke: float = field(init=False)
    _said: int = -1
    _doing: dict[int, str] = field(default_factory=dict)
    """What goes on, by number of the step."""

    def __post_init__(self) -> None:
        self._began = self._spoke = self.now()

    def _write(self, percent: float, text: str) -> None:
        self._spoke = self.now()
        head = f"[{clock(self._spoke - self._began):>6} {percent:3.0f} %] "
        text = self.told(text)
        lines = [head + text]
        if self.columns:
            lines = wrap(
                text,
                self.columns - 1,
                initial_indent=head,
                subsequent_indent=" " * len(head),
                break_on_hyphens=False,
            )
        self.stream.write("".join(f"{line}\n" for line in lines))
        self.stream.flush()

    def step(self, at: Moment, state: State) -> None:
        """One line when it begins; how it ended only where that is not plain from the next one."""
        self._said = -1
        if state == "started":
            self._doing[at.number] = at.step.summary
        else:
            self._doing.pop(at.number, None)
        if state == "started":
            self._write(at.percent, f"{at.number}/{self.total()} {at.step.summary}")
        elif state == "skipped":
            self._write(at.percent, f"{at.number}/{self.total()} already done, checked again")
        elif state == "failed":
            self._write(at.percent, f"{at.number}/{self.total()} failed")

    def inside(self, at: Moment, fraction: float, text: str) -> None:
        """A line for every tenth of the step."""
        tenth = int(fraction * 100) // _EVERY_PERCENT
        if tenth > self._said:
            self._said = tenth
            self._write(
                at.percent, f"{at.number}/{self.total()} {fraction * 100:.0f} % of this step: {text}"
            )

    def tick(self, percent: float) -> None:
        """A line when nothing was said for long."""
        if self.now() - self._spoke >= self.heartbeat:
            self._write(percent, f"still busy: {'; '.join(self._doing.values()) or 'starting'}")

    def say(self, text: str) -> None:
        """A line as it is."""
        self.stream.write(text + "\n")
        self.stream.flush()

    def shown(self) -> AbstractContextManager[object]:
        """Nothing to leave."""
        return nullcontext()


@dataclass
class JsonLines:
    """One JSON object a line, for programs."""

    stream: TextIO
    now: Callable[[], float] = time.monotonic
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.now()

    def _write(self, event: str, at: Moment | None = None, **values: object) -> None:
        elapsed = round(self.now() - self._began, 3)
        where = {"number": at.number, "step": at.step.id, "percent": round(at.percent, 2)} if at else {}
        self.stream.write(json.dumps({"event": event, "elapsed": elapsed, **where, **values}) + "\n")
        self.stream.flush()

    def step(self, at: Moment, state: State) -> None:
        """A step changed its state."""
        self._write("step", at, summary=at.step.summary, state=state)

    def inside(self, at: Moment, fraction: float, text: str) -> None:
        """The current step came further."""
        self._write("progress", at, fraction=fraction, text=text)

    def tick(self, percent: float) -> None:
        """A sign of life."""
        self._write("alive", percent=percent)

    def say(self, text: str) -> None:
        """A line for people."""
        self._write("message", text=text)

    def shown(self) -> AbstractContextManager[object]:
        """Nothing to leave."""
        return nullcontext()


class Terminal:
    """A live display: finished steps scroll by, the current one and the whole stay at the bottom; fits 80x24."""

    def __init__(
        self,
        console: Console,
        total: Callable[[], int],
        now: Callable[[], float] = time.monotonic,
        told: Callable[[str], str] = str,
    ) -> None:
        self._console = console
        self._total = total
        self._now = now
        self._told = told
        self._began = now()
        self._running: dict[int, tuple[str, float]] = {}
        """Summary and beginning of what goes on, by number of the step."""
        self._shown = (0, told("starting"), self._began)
        """Number, summary and beginning of the step that is shown."""
        self._fraction: float | None = None
        self._text = ""
        self._percent = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True, get_renderable=self._draw)

    def _draw(self) -> Table:
        now = self._now()
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=7, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(width=7, justify="right", no_wrap=True)
        share = "" if self._fraction is None else f"{self._fraction * 100:.0f} %"
        number, summary, began = self._shown
        table.add_row(f"{number}/{self._total()}", Text(summary, style="bold"), clock(now - began))
        others = len(self._running) - 1
        text = self._told(f"and {others} more beside it") if others > 0 else self._text
        table.add_row("", Text(text, style="dim"), share)
        table.add_row(
            self._told("all"), ProgressBar(total=100, completed=self._percent), f"{self._percent:.0f} %"
        )
        table.add_row("", "", clock(now - self._began))
        return table

    def step(self, at: Moment, state: State) -> None:
        """Show the step, or let its line scroll by with how it ended."""
        now = self._now()
        self._percent = at.percent
        _, began = self._running.pop(at.number, (at.step.summary, now))
        if state == "started":
            self._running[at.number] = (at.step.summary, now)
        if self._running:
            number = next(reversed(self._running))
            if number != self._shown[0]:
                self._fraction, self._text = None, ""
            self._shown = (number, *self._running[number])
        if state != "started":
            mark, style = {
                "verified": ("done", "green"),
                "skipped": ("was done", "cyan"),
                "failed": ("FAILED", "red"),
            }[state]
            line = Text(f"{clock(now - began):>6} ", end="")
            line.append(f"{self._told(mark):<9}", style=style)
            line.append(at.step.summary)
            self._console.print(line, no_wrap=True, overflow="ellipsis")
        self._live.refresh()

    def inside(self, at: Moment, fraction: float, text: str) -> None:
        """Show how far the current step is."""
        self._fraction, self._text, self._percent = fraction, text, at.percent
        self._live.refresh()

    def tick(self, percent: float) -> None:
        """Let the clocks go on."""
        self._percent = percent
        self._live.refresh()

    def say(self, text: str) -> None:
        """A line above the display."""
        self._console.print(Text(text))

    def shown(self) -> AbstractContextManager[object]:
        """The display; what scrolled by stays when it ends."""
        return self._live


def wants_plain(stream: TextIO, environment: dict[str, str]) -> bool:
    """Whether a live display would be noise: no terminal, a dumb one, or a serial line."""
    if not stream.isatty() or environment.get("TERM", "dumb") in ("dumb", "unknown"):
        return True
    try:
        return bool(_SERIAL.match(os.ttyname(stream.fileno())))
    except OSError:
        return True


def make_progress(mode: Mode, redact: Redactor, stream: TextIO | None = None) -> Progress:
    """The progress display that fits where the output goes."""
    output = stream or sys.stdout
    progress = Progress(screen=JsonLines(output), redact=redact)
    progress.screen = make_screen(mode, output, lambda: len(progress.steps))
    return progress


def make_screen(
    mode: Mode, output: TextIO, total: Callable[[], int], told: Callable[[str], str] = str
) -> Screen:
    """The screen that fits where the output goes; `total` tells how many steps there are, `told` how words are said."""
    if mode == "plain" or (mode == "auto" and wants_plain(output, dict(os.environ))):
        return Plain(output, total, columns=_COLUMNS if output.isatty() else None, told=told)
    if mode == "auto":
        return Terminal(Console(file=output, highlight=False), total, told=told)
    return JsonLines(output)
