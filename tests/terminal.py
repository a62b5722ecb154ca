"""A terminal of 80x24 with a program on it, as a person would see it: pexpect has the line, pyte the screen."""

import re
import time
from collections.abc import Sequence
from types import TracebackType

import pexpect
import pyte

SECONDS = 60
"""Long enough for a machine with much else to do; a screen that comes sooner is taken sooner."""
DOWN, UP, ENTER, CONTROL_C = "\x1b[B", "\x1b[A", "\r", "\x03"


class Terminal:
    """Types, and reads what stands on the screen."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], size: tuple[int, int] = (24, 80)
    ) -> None:
        rows, columns = size
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
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
        self.process.close(force=True)

    def lines(self) -> list[str]:
        """The screen, without blanks at the ends of lines."""
        return [line.rstrip() for line in self.screen.display]

    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines()).rstrip() + "\n"

    def until(self, pattern: str, seconds: float = SECONDS) -> str:
        """Wait until the screen shows something, and then stands still; the screen."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.text()
            if re.search(pattern, shown) and not self._read(0.3):
                return self.text()
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} did not come; the screen shows:\n{shown}")
            self._read(0.1)

    def _read(self, seconds: float) -> bool:
        """Take what comes within the time; whether anything did."""
        try:
            data = self.process.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return False
        except pexpect.EOF:
            return False
        self._stream.feed(data)
        return True

    def type(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.process.send(key)

    def resize(self, rows: int, columns: int) -> None:
        """Make the window larger or smaller."""
        self.screen.resize(rows, columns)
        self.process.setwinsize(rows, columns)

    def choose(self, words: str) -> None:
        """Move to the entry with these words, and take it."""
        for _ in range(60):
            pointed = next((line for line in self.lines() if line.lstrip().startswith(">")), "")
            if words in pointed:
                self.type(ENTER)
                return
            rows = self.lines()
            here = next((n for n, line in enumerate(rows) if line.lstrip().startswith(">")), 0)
            above = any(words in line for line in rows[:here])
            self.type(UP if above else DOWN)
            self._settle(pointed)
        raise AssertionError(f"no entry {words!r} on the screen:\n{self.text()}")

    def _settle(self, before: str) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            self._read(0.05)
            if next((line for line in self.lines() if line.lstrip().startswith(">")), "") != before:
                return

    def end(self) -> int:
        """Wait for the program's end; its exit status."""
        while self._read(0.5) or self.process.isalive():
            pass
        self.process.close()
        status: int = self.process.exitstatus
        return status
