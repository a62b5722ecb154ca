"""What Nix says while it realises or copies a system: how far it is, and words for people.

Nix's `--log-format internal-json` has exact amounts, and writes a line for every few bytes copied: on a slow processor
that doubles the time of copying. Its plain lines tell what will be done and which path begins; how much of that is on
the disk, the disk tells.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from installer.answers.sizes import format_size

_COPYING = re.compile(r"^copying path '(/nix/store/[^']+)'")
_TO_BUILD = re.compile(r"^(?:this derivation|these (\d+) derivations) will be built:")
_TO_FETCH = re.compile(
    r"^(?:this path|these (\d+) paths) will be fetched \(.*download, ([0-9.]+) ([KMGT])iB unpacked\):"
)
_BUILDING = re.compile(r"^building '/nix/store/")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def used_since_now(folder: str) -> Callable[[], int]:
    """Bytes by which the file system of a folder has filled since this call; never less than 0."""
    free = shutil.disk_usage(folder).free
    return lambda: max(0, free - shutil.disk_usage(folder).free)


@dataclass
class NixLog:
    """Follows one run of Nix by its plain lines."""

    progress: Callable[[float, str], None]
    """Takes how far it is, from 0 to 1, with words."""
    used: Callable[[], int]
    """Bytes that the target has taken up since Nix was started; fewer than copied where it compresses."""
    least: int = 0
    """Bytes that will be copied at least; Nix itself learns of them bit by bit."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Size of each path in bytes, where that is known beforehand."""
    unpacked: int = 0
    """Bytes that Nix announced it will copy."""
    to_copy: int = 0
    """Paths that it announced."""
    to_build: int = 0
    """Derivations that it announced."""
    copies: int = 0
    """Copies begun."""
    builds: int = 0
    """Builds begun."""
    before: int = 0
    """Bytes of the paths whose copying has ended, of those whose size is known."""
    current: int = 0
    """Bytes of the path that is being copied, if known."""

    def line(self, line: bytes) -> str:
        """Take one line of standard error; gives what it says to people."""
        text = line.decode(errors="replace")
        if match := _COPYING.match(text):
            self.copies += 1
            self.before += self.current
            self.current = self.sizes.get(match.group(1), 0)
            self.tick()
        elif match := _TO_FETCH.match(text):
            self.to_copy += int(match.group(1) or 1)
            self.unpacked += int(float(match.group(2)) * _UNITS[match.group(3)])
        elif match := _TO_BUILD.match(text):
            self.to_build += int(match.group(1) or 1)
        elif _BUILDING.match(text):
            self.builds += 1
            self.tick()
        return text

    def tick(self) -> None:
        """Say how far it is; to be called about once a second, and when something new begins."""
        shares, words = [], []
        for share, text in filter(None, (self._copied(), self._built())):
            shares.append(share)
            words.append(text)
        if shares:
            self.progress(min(1.0, sum(shares) / len(shares)), ", ".join(words))

    def _copied(self) -> tuple[float, str] | None:
        used = self.used()
        if self.sizes:
            # Within a path, the space that it takes tells how far it is.
            copied, total = (
                min(max(used, self.before), self.before + self.current),
                sum(self.sizes.values()) or 1,
            )
            return copied / total, f"{format_size(copied)} of {format_size(total)} copied"
        total = max(self.least, self.unpacked)
        if not total:
            return None
        paths = (self.copies - 1) / self.to_copy if self.copies and self.to_copy else 0.0
        begun, done, whole = min(self.copies, self.to_copy), format_size(used), format_size(total)
        words = (
            f"{done} on the disk, {begun} of {self.to_copy} paths ({whole})"
            if self.to_copy
            else f"{done} on the disk ({whole})"
        )
        return min(1.0, max(paths, used / total)), words

    def _built(self) -> tuple[float, str] | None:
        if not self.to_build:
            return None
        begun = min(self.builds, self.to_build)
        return max(0, begun - 1) / self.to_build, f"build {begun} of {self.to_build}"
