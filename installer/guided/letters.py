"""Whether a terminal shows letters beyond ASCII: a serial line does not say which character set its other end speaks."""

import os
import re
import select
import sys
import termios
import time
import tty
from typing import TextIO

WAIT = 0.3
"""Seconds for the terminal's reply; none comes from some, and then it is taken for one of today, with UTF-8."""
_PROBE = b"\r%b\x1b[6n"
"""A letter, and the question where the cursor stands now (DSR 6, ECMA-48 8.3.35)."""
_REPLY = re.compile(rb"\x1b\[\d+;(\d+)R")
_SECOND_COLUMN = 2


def are_shown(output: TextIO) -> bool:
    """Whether `ä` takes one column there, as it does where the terminal's character set is that of the output."""
    try:
        letter = "ä".encode(output.encoding or "utf-8")  # text in memory has no encoding
    except (UnicodeEncodeError, LookupError):
        return False
    if not (output.isatty() and sys.stdin.isatty()) or os.environ.get("TERM", "dumb") in (
        "",
        "dumb",
        "unknown",
    ):
        return True
    column = _column_after(letter, sys.stdin.fileno(), output)
    return column in (None, _SECOND_COLUMN)


def _column_after(letter: bytes, source: int, output: TextIO) -> int | None:
    """Where the cursor stands after the letter; none: the terminal does not say."""
    output.flush()
    before = termios.tcgetattr(source)
    try:
        tty.setcbreak(source, termios.TCSADRAIN)  # what was typed already stays
        os.write(output.fileno(), _PROBE % letter)
        reply, until = b"", time.monotonic() + WAIT
        while not (found := _REPLY.search(reply)):
            ready, *_others = select.select([source], [], [], max(0.0, until - time.monotonic()))
            if not ready or not (more := os.read(source, 64)):
                return None
            reply += more
        return int(found[1])
    finally:
        os.write(output.fileno(), b"\r\x1b[K")
        termios.tcsetattr(source, termios.TCSADRAIN, before)
