"""A terminal of 80x24 with a program on it, as a person would see it: pyte has the screen."""

import re
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType

import pexpect
import pyte

SECONDS = 60
"""Long enough for a machine with much else to do; a screen that comes sooner is taken sooner."""
QUIET = 0.3
"""Seconds without anything new, after which a screen stands."""
DOWN, UP, ENTER, CONTROL_C = "\x1b[B", "\x1b[A", "\r", "\x03"


class _Answering(pyte.Screen):
    """A screen that says where its cursor stands, as a real one does."""

    def __init__(self, columns: int, rows: int, reply: Callable[[str], None]) -> None:
        super().__init__(columns, rows)
        self._reply = reply

    def write_process_input(self, data: str) -> None:
        self._reply(data)


class Display(ABC):
    """Types, and reads what stands on the screen."""

    def __init__(self, rows: int, columns: int, seconds: float = SECONDS, quiet: float = QUIET) -> None:
        self.screen = _Answering(columns, rows, self.send)
        self.seconds = seconds
        self.quiet = quiet
        self._stream = pyte.ByteStream(self.screen)

    @abstractmethod
    def take(self, seconds: float) -> bytes:
        """What comes within the time; nothing, if nothing does."""

    @abstractmethod
    def send(self, keys: str) -> None:
        """Press keys."""

    def lines(self) -> list[str]:
        """The screen, without blanks at the ends of lines."""
        return [line.rstrip() for line in self.screen.display]

    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines()).rstrip() + "\n"

    def read(self, seconds: float) -> bool:
        """Take what comes within the time; whether anything did."""
        data = self.take(seconds)
        self._stream.feed(data)
        return bool(data)

    def until(self, pattern: str, seconds: float | None = None) -> str:
        """Wait until the screen shows something, and then stands still; the screen."""
        deadline = time.monotonic() + (seconds or self.seconds)
        while True:
            shown = self.text()
            if re.search(pattern, shown) and not self.read(self.quiet):
                return self.text()
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} did not come; the screen shows:\n{shown}")
            self.read(0.1)

    def type(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.send(key)

    def choose(self, words: str) -> None:
        """Move to the entry with these words, and take it."""
        deadline = time.monotonic() + self.seconds
        while not self._pointed() and time.monotonic() < deadline:
            self.read(0.05)  # a page begins with its text; its entries come later
        for _ in range(60):
            pointed = self._pointed()
            if words in pointed:
                self.type(ENTER)
                return
            rows = self.lines()
            here = next((n for n, line in enumerate(rows) if line.lstrip().startswith(">")), 0)
            above = any(words in line for line in rows[:here])
            self.type(UP if above else DOWN)
            deadline = time.monotonic() + self.seconds
            # While a line is drawn anew, nothing is pointed at.
            while self._pointed() in (pointed, "") and time.monotonic() < deadline:
                self.read(0.05)
            while self.read(self.quiet / 5):
                pass
        raise AssertionError(f"no entry {words!r} on the screen:\n{self.text()}")

    def _pointed(self) -> str:
        return next((line for line in self.lines() if line.lstrip().startswith(">")), "")


class Terminal(Display):
    """A program on a pseudo-terminal of this machine (pexpect)."""

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        size: tuple[int, int] = (24, 80),
        *,
        latin: bool = False,
    ) -> None:
        super().__init__(*size)
        if latin:
            self._stream.select_other_charset("@")  # each byte is a letter, as on terminals without UTF-8
        self.process = pexpect.spawn(
            command[0],
            list(command[1:]),
            env=environment | {"TERM": "vt220", "LANG": "C.UTF-8"},
            dimensions=size,
            timeout=SECONDS,
        )

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Waited for: on a busy machine it may take a while to go.
        if self.process.isalive():
            self.process.kill(signal.SIGKILL)
            self.process.wait()
        self.process.close(force=True)

    def take(self, seconds: float) -> bytes:
        try:
            data: bytes = self.process.read_nonblocking(65536, timeout=seconds)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return b""
        return data

    def send(self, keys: str) -> None:
        self.process.send(keys)

    def resize(self, rows: int, columns: int) -> None:
        """Make the window larger or smaller."""
        self.screen.resize(rows, columns)
        self.process.setwinsize(rows, columns)

    def end(self) -> int:
        """Wait for the program's end; its exit status."""
        while self.read(0.5) or self.process.isalive():
            pass
        self.process.close()
        status: int = self.process.exitstatus
        return status
