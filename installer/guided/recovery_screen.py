"""The last page: the recovery key, which nothing but this screen and the person's paper ever holds."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from installer.execute.disclosure import framed
from installer.guided.words import _

_CLEAR = "\033[H\033[2J\033[3J"
"""Cursor home, erase the screen, erase what scrolled away (console_codes(4))."""


def _ask(prompt: str) -> str:
    return input(prompt)


@dataclass(frozen=True)
class OnTerminal:
    """Shows the key on a terminal, and takes it off once its last letters were typed: so it stands on paper."""

    output: TextIO = field(default_factory=lambda: sys.stdout)
    """The terminal."""
    keyboard: TextIO = field(default_factory=lambda: sys.stdin)
    """What is typed there."""
    ask: Callable[[str], str] = _ask
    """Shows a prompt and returns a line."""

    def obstacle(self) -> str | None:
        """Whether both are a terminal."""
        if self.output.isatty() and self.keyboard.isatty():
            return None
        return _("this is no terminal that a person types on")

    def show(self, host: str, key: str) -> None:
        """Until the last letters come back."""
        self.taken_down(host, key)

    def taken_down(self, host: str, key: str) -> bool:
        """The same; False: the terminal went away before."""
        for line in _page(host, key):
            self.output.write(line + "\n")
        self.output.flush()
        ending = key.rpartition("-")[2]
        while True:
            try:
                typed = self.ask(
                    _("Its last {count} letters, as you have them now: ").format(count=len(ending))
                )
            except KeyboardInterrupt:
                self.output.write("\n")
                continue
            except EOFError:  # the terminal is gone: nobody has typed them, whoever watched
                return False
            if typed.strip().lower() == ending:
                break
            self.output.write(_("These are not its last letters; the key stands above.") + "\n")
        if os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown"):
            self.output.write(_CLEAR)
        self.output.flush()
        return True


def _page(host: str, key: str) -> list[str]:
    return framed(
        _("Recovery key of {host}").format(host=host),
        key,
        _(
            "It opens every encrypted disk of this host when the passphrase is lost: type it at the prompt for the "
            "passphrase. Write it down now and keep it where the host is not. It is shown this once, and is kept in no "
            "file and no log."
        ),
    )
