"""Nix's machine-readable log (`--log-format internal-json`): how far it is, and what it says to people.

One line an event, `@nix {"action": …}`; activity and result numbers from `logging.hh` of Nix.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from installer.answers.sizes import format_size

_COPY_PATH, _COPY_PATHS, _BUILDS, _BUILD = 100, 103, 104, 105
_LEAST_LEVEL = 3
"""Levels: 0 error, 1 warning, 2 notice, 3 info."""
_PREFIX = b"@nix "
_AMOUNTS = b'"type":105}'
"""Ends every line that says how far something is: hundreds of thousands of them in one installation."""
_PROGRESS = b',"type":105}'
_PAUSE = 0.1
"""Seconds between two looks at how far a copy is: Nix says so thousands of times a second."""


@dataclass
class NixLog:
    """Follows one run of Nix."""

    progress: Callable[[float, str], None]
    """Takes how far it is, from 0 to 1, with words."""
    least: int = 0
    """Bytes that will be copied at least; Nix itself learns of them bit by bit."""
    every: float = 0.0
    """Seconds between amounts that are looked at; reading all of them takes longer than what they tell of."""
    due: float = 0.0
    """When the next amount is looked at (time.monotonic)."""
    kinds: dict[int, int] = field(default_factory=dict)
    """Running activities and their type."""
    expected: dict[int, dict[int, int]] = field(default_factory=dict)
    """Amounts that activities announced, by announced type, by activity."""
    done: dict[int, int] = field(default_factory=dict)
    """Bytes copied by each running copy."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Bytes each running copy will have."""
    copied: int = 0
    """Bytes of copies that ended."""
    builds: tuple[int, int] = (0, 0)
    """Builds done and expected."""
    looked: float = 0.0
    """When a copy's progress was last taken, in seconds of the monotonic clock."""

    def line(self, line: bytes) -> str | None:
        """Take one line of standard error; gives what it says to people."""
        if not line.startswith(_PREFIX):
            return line.decode(errors="replace")
        if line.endswith(_PROGRESS) and self._may_pass(line):
            return None
        try:
            event = json.loads(line[len(_PREFIX) :])
        except ValueError:
            return line.decode(errors="replace")
        match event:
            case {"action": "msg", "msg": str(text), "level": int(level)} if level <= _LEAST_LEVEL:
                return text
            case {"action": "start", "id": int(number), "type": int(kind)}:
                self.kinds[number] = kind
                return (
                    str(event.get("text") or "") or None if event.get("level", 9) <= _LEAST_LEVEL else None
                )
            case {"action": "stop", "id": int(number)}:
                self._stop(number)
            case {"action": "result", "id": int(number), "type": int(kind), "fields": list(fields)}:
                return self._result(number, kind, fields)
            case _:
                pass
        return None

    def _may_pass(self, line: bytes) -> bool:
        """Whether it says once more how far a copy is whose size is known; its end is told by other lines."""
        number = line[: -len(_PROGRESS)].rpartition(b'"id":')[2]
        if not number.isdigit() or int(number) not in self.done:
            return False
        now = time.monotonic()
        if now - self.looked < _PAUSE:
            return True
        self.looked = now
        return False

    def _stop(self, number: int) -> None:
        if self.kinds.pop(number, None) == _COPY_PATH:
            self.copied += self.sizes.pop(number, 0)
            self.done.pop(number, None)
            self._report()

    def _result(self, number: int, kind: int, fields: list[Any]) -> str | None:
        activity = self.kinds.get(number)
        match kind, fields:
            case 101, [str(text), *_] if activity == _BUILD:
                return f"  {text}"
            case 106, [int(of), int(amount)]:
                self.expected.setdefault(of, {})[number] = amount
            case 105, [int(done), int(expected), *_] if activity == _COPY_PATH:
                self.done[number], self.sizes[number] = done, expected
                self._report()
            case 105, [int(done), int(expected), *_] if activity == _BUILDS:
                self.builds = done, expected
                self._report()
            case _:
                pass
        return None

    def _report(self) -> None:
        # What is announced may come late or never: what runs counts too.
        announced = sum(self.expected.get(_COPY_PATH, {}).values())
        total = max(self.least, announced, self.copied + sum(self.sizes.values()))
        copied = self.copied + sum(self.done.values())
        shares = []
        words = []
        if total:
            shares.append(copied / total)
            words.append(f"{format_size(copied)} of {format_size(total)} copied")
        built, to_build = self.builds
        if to_build:
            shares.append(built / to_build)
            words.append(f"{built} of {to_build} built")
        if shares:
            self.progress(sum(shares) / len(shares), ", ".join(words))
