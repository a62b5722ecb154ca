"""Every console of the machine at once: whoever stands at it looks at one, and nobody knows at which."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import TextIO

from installer.execute.disclosure import page

ACTIVE = Path("/sys/class/tty/console/active")
"""Consoles of the kernel, `tty0 ttyS0` (Documentation/ABI/testing/sysfs-tty)."""


def open_consoles(active: Path = ACTIVE, devices: Path = Path("/dev")) -> tuple[TextIO, ...]:
    """The kernel's consoles, to write to; those that cannot be opened are left out."""
    try:
        names = active.read_text().split()
    except OSError:
        return ()
    found = []
    for name in names:
        try:
            # Without O_NOCTTY the installer would belong to the terminal, and without O_NONBLOCK it would hang on a
            # serial line that nobody listens to.
            descriptor = os.open(devices / name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode) or not os.isatty(descriptor):
            os.close(descriptor)
            continue
        found.append(os.fdopen(descriptor, "w", encoding="utf-8", errors="replace"))
    return tuple(found)


@dataclass(frozen=True)
class OnConsoles:
    """Shows a recovery key on the consoles themselves, where the service's output, which systemd keeps, never has it."""

    consoles: tuple[TextIO, ...]
    """Terminals."""

    def obstacle(self) -> str | None:
        """Whether there is any."""
        return None if self.consoles else "no console can be written to"

    def show(self, host: str, key: str) -> None:
        """It stands there until somebody looks."""
        for console in self.consoles:
            _try(lambda: console.write("\n".join(("", *page(host, key), ""))))  # noqa: B023 -- called at once
            _try(console.flush)


class Everywhere(TextIOBase):
    """Writes what it is given to several outputs; one that fails or is full never stops the others."""

    def __init__(self, main: TextIO, others: tuple[TextIO, ...]) -> None:
        self._main = main
        self._others = others

    def write(self, text: str) -> int:
        """Write everywhere."""
        self._main.write(text)
        for other in self._others:
            _try(lambda: other.write(text))  # noqa: B023 -- called at once
        return len(text)

    def flush(self) -> None:
        """Flush everywhere."""
        self._main.flush()
        for other in self._others:
            _try(other.flush)

    def isatty(self) -> bool:
        """Plain lines suit them all."""
        return False


def _try(do: Callable[[], object]) -> None:
    try:
        do()
    except (OSError, ValueError):  # gone, full, or closed
        return
