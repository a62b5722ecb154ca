"""Nix's machine-readable log (`--log-format internal-json`): how far it is, and what it says to people.

One line an event, `@nix {"action": …}`; activity and result numbers from `logging.hh` of Nix.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_COPY_PATH, _COPY_PATHS, _BUILDS, _BUILD = 100, 103, 104, 105
_BUILD_LOG_LINE, _PROGRESS, _SET_EXPECTED = 101, 105, 106
_LEAST_LEVEL = 3
"""Levels: 0 error, 1 warning, 2 notice, 3 info."""
_PREFIX = b"@nix "


@dataclass
class NixLog:
    """Follows one run of Nix."""

    say: Callable[[str], None]
    """Takes lines for people."""
    progress: Callable[[float, str], None]
    """Takes how far it is, from 0 to 1, with words."""
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

    def line(self, line: bytes) -> None:
        """Take one line of standard error."""
        if not line.startswith(_PREFIX):
            self.say(line.decode(errors="replace"))
            return
        try:
            event = json.loads(line[len(_PREFIX) :])
        except ValueError:
            self.say(line.decode(errors="replace"))
            return
        match event:
            case {"action": "msg", "msg": str(text), "level": int(level)} if level <= _LEAST_LEVEL:
                self.say(text)
            case {"action": "start", "id": int(number), "type": int(kind)}:
                self.kinds[number] = kind
                if event.get("text") and event.get("level", 9) <= _LEAST_LEVEL:
                    self.say(str(event["text"]))
            case {"action": "stop", "id": int(number)}:
                self._stop(number)
            case {"action": "result", "id": int(number), "type": int(kind), "fields": list(fields)}:
                self._result(number, kind, fields)
            case _:
                pass

    def _stop(self, number: int) -> None:
        if self.kinds.pop(number, None) == _COPY_PATH:
            self.copied += self.sizes.pop(number, 0)
            self.done.pop(number, None)
            self._report()

    def _result(self, number: int, kind: int, fields: list[Any]) -> None:
        activity = self.kinds.get(number)
        match kind, fields:
            case 101, [str(text), *_] if activity == _BUILD:
                self.say(f"  {text}")
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

    def _report(self) -> None:
        # What is announced may come late or never (substitution of a single path): what runs counts too.
        announced = sum(self.expected.get(_COPY_PATH, {}).values())
        total = max(announced, self.copied + sum(self.sizes.values()))
        copied = self.copied + sum(self.done.values())
        shares = []
        words = []
        if total:
            shares.append(copied / total)
            words.append(f"{copied >> 20} of {total >> 20} MiB copied")
        built, to_build = self.builds
        if to_build:
            shares.append(built / to_build)
            words.append(f"{built} of {to_build} built")
        if shares:
            self.progress(sum(shares) / len(shares), ", ".join(words))
