"""Where the probe reads: the running machine, or anything that can stand in for one.

A root answers four kinds of question: what a file holds, what a folder lists, where a link leads, what udev knows;
and a few that no file answers (`ask`: ioctls, registers, names from pci.ids). Nothing here raises when something
is missing or unreadable: the answer is None, and `why` says why.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping

MEBIBYTE = 1 << 20
TEXT_LIMIT = 4 * MEBIBYTE
"""No file that the probe reads comes near this; a mistaken one must not fill the memory."""


class Root(ABC):
    """A machine as the probe sees it."""

    @abstractmethod
    def data(self, path: str) -> bytes | None:
        """Content of a file, None if it cannot be read."""

    @abstractmethod
    def names(self, path: str) -> tuple[str, ...]:
        """Sorted names in a folder, none if it cannot be read."""

    @abstractmethod
    def real(self, path: str) -> str | None:
        """The path without symbolic links, None if there is no such file."""

    @abstractmethod
    def udev(self, device: str) -> Mapping[str, str]:
        """udev's properties of the device with this real path below /sys; empty when udev knows nothing."""

    @abstractmethod
    def ask(self, kind: str, key: str) -> str | None:
        """What no file tells; kinds are listed in `installer.probe.questions`."""

    @abstractmethod
    def why(self, path: str) -> str:
        """Why the last read of a path gave nothing."""

    def silent(self, path: str) -> bool:
        """Whether this root cannot tell if a path exists, e.g. because a report does not cover it."""
        return not path

    def text(self, path: str) -> str | None:
        """Content of a text file without surrounding white space; what is not UTF-8 is replaced."""
        data = self.data(path)
        return None if data is None else data.decode("utf-8", "replace").strip("\0 \t\r\n")

    def number(self, path: str) -> int | None:
        """Content as a decimal number."""
        return number(self.text(path))

    def target(self, path: str) -> str | None:
        """Last component of where a link leads, e.g. the name of a driver."""
        real = self.real(path)
        return real.rpartition("/")[2] if real else None


def number(text: str | None, base: int = 10) -> int | None:
    """The number a text holds, None if it holds none."""
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


class LiveRoot(Root):
    """The running machine, or a folder with its `sys` and `proc` (`/` stands for the machine itself)."""

    def __init__(self, prefix: str = "/") -> None:
        self._prefix = prefix.rstrip("/")
        self._problems: dict[str, str] = {}

    def data(self, path: str) -> bytes | None:
        try:
            handle = os.open(self._prefix + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                chunks = []
                left = TEXT_LIMIT
                while left > 0 and (chunk := os.read(handle, min(left, 65536))):
                    chunks.append(chunk)
                    left -= len(chunk)
                return b"".join(chunks)
            finally:
                os.close(handle)
        except OSError as error:
            self._problems[path] = error.strerror or str(error)
            return None

    def names(self, path: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(self._prefix + path)))  # noqa: PTH208  (pathlib costs 10 ms to import)
        except OSError as error:
            self._problems[path] = error.strerror or str(error)
            return ()

    def real(self, path: str) -> str | None:
        try:
            real = os.path.realpath(self._prefix + path, strict=True)
        except OSError as error:
            self._problems[path] = error.strerror or str(error)
            return None
        return real[len(self._prefix) :] if real.startswith(self._prefix + "/") else real

    def target(self, path: str) -> str | None:
        # The same as by `real`, for the last component; resolving the whole path takes ten system calls more.
        try:
            return os.readlink(self._prefix + path).rpartition("/")[2]  # noqa: PTH115
        except OSError:
            return super().target(path)

    def udev(self, device: str) -> Mapping[str, str]:
        from installer.probe.udev import live_properties

        return live_properties(device) if not self._prefix else {}

    def ask(self, kind: str, key: str) -> str | None:
        from installer.probe.questions import QUESTIONS

        return QUESTIONS[kind](key) if not self._prefix else None

    def why(self, path: str) -> str:
        problem = self._problems.get(path, "nothing in it")
        return f"{path}: {problem}"
