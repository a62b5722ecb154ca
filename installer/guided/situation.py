"""What a topic may look at: the machine, the medium, and what was answered so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from installer.answers.problems import Path
from installer.facts import Facts
from installer.guided.questions import Answers
from installer.medium import Medium


class Level(StrEnum):
    """How much is explained."""

    beginner = "beginner"
    intermediate = "intermediate"
    expert = "expert"


@dataclass(frozen=True)
class Situation:
    """Where the conversation stands."""

    facts: Facts
    """The machine."""
    medium: Medium
    """What is installed from."""
    raw: Mapping[str, Any]
    """The answer file so far, as TOML has it."""
    secrets: str
    """Folder of the live system where secrets that were typed are kept, in memory."""
    level: Level = Level.intermediate
    """How much is explained, and how much is asked: experts are asked about finer points too."""

    def said(self, *path: str | int, default: Any = None) -> Any:
        """What was answered for a field; `default` where nothing was."""
        return said(self.raw, path, default)


def said(raw: Any, path: Path, default: Any = None) -> Any:
    """The value at a path of nested tables and lists."""
    for part in path:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return default
    return raw


def changed(raw: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    """The answer file with changes; tables left empty vanish."""
    result = dict(raw)
    for path, value in answers.items():
        result = _set(result, path, value)
    return result


def _set(table: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    name, *below = path
    result = dict(table)
    if below:
        value = _set(result.get(str(name), {}), tuple(below), value)
    if value is None or value == {}:
        result.pop(str(name), None)
    else:
        result[str(name)] = value
    return result
