"""Whether the ESPs agree, and whether each of them boots alone."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hv.esp.difference import difference
from hv.esp.inventory import Inventory, take
from hv.esp.partition import Partition, opened
from hv.esp.writing import content
from installer.errors import HyperError

SHOWN = 5
"""Of a long list of differences."""


@dataclass(frozen=True)
class State:
    """Of one ESP."""

    mount_point: str
    """Where it should be mounted."""
    entries: int = 0
    """Boot entries that are whole."""
    default: str | None = None
    """Which one starts by itself."""
    trouble: tuple[str, ...] = ()
    """What is wrong; empty: nothing."""


@dataclass(frozen=True)
class Report:
    """Of all."""

    states: tuple[State, ...]
    """The source, then its mirrors."""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong anywhere."""
        return not any(state.trouble for state in self.states)

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {"good": self.good, "partitions": [asdict(state) for state in self.states]}

    def text(self) -> str:
        """For people."""
        lines = []
        for number, state in enumerate(self.states):
            word = "FAILED" if state.trouble else "good"
            kind = "source" if number == 0 else "mirror"
            lines.append(
                f"{state.mount_point}  {kind}  {word}  {state.entries} entries, default {state.default}"
            )
            lines += [f"  {line}" for line in state.trouble[:SHOWN]]
            if len(state.trouble) > SHOWN:
                lines.append(f"  and {len(state.trouble) - SHOWN} more")
        return "\n".join(lines)


def status(source: Path, mirrors: tuple[Path, ...]) -> Report:
    """Look at every ESP and read all that they hold."""
    try:
        with opened(source) as good:
            found = take(good.folder)
            first = _state(source, found, found.complaints())
            return Report((first, *(_compare(good, found, mirror) for mirror in mirrors)))
    except HyperError as error:
        return Report((State(str(source), trouble=(_line(error),)), *(_alone(mirror) for mirror in mirrors)))


def _compare(good: Partition, found: Inventory, mirror: Path) -> State:
    try:
        with opened(mirror) as other:
            held = take(other.folder)
            wanted = difference(
                found, held, lambda left, right: content(good.folder / left) == content(other.folder / right)
            )
            # A count of tries is each disk's own: it says how often it was started from.
            counted = {entry.identifier: entry.path for entry in held.entries}
            ours = {entry.path: entry.identifier for entry in found.entries}
            renamed = {path for path, name in ours.items() if counted.get(name, path) != path}
            drift = [
                f"{put.path} {'differs' if put.replaces else 'is missing'}"
                for put in wanted.puts
                if put.path not in renamed
            ]
            excused = {counted[ours[path]] for path in renamed}
            drift += [f"{path} is not on the source" for path in wanted.drops if path not in excused]
            drift += [f"{path} was left half written" for path in held.partial]
            return _state(mirror, held, (*held.complaints(), *drift))
    except (HyperError, OSError) as error:
        return State(str(mirror), trouble=(_line(error),))


def _alone(mirror: Path) -> State:
    try:
        with opened(mirror) as other:
            held = take(other.folder)
            return _state(mirror, held, held.complaints())
    except (HyperError, OSError) as error:
        return State(str(mirror), trouble=(_line(error),))


def _state(mount_point: Path, found: Inventory, trouble: tuple[str, ...]) -> State:
    default = found.default()
    return State(
        str(mount_point),
        len(found.whole),
        default.identifier if default else None,
        tuple(dict.fromkeys(trouble)),
    )


def _line(error: HyperError | OSError) -> str:
    return f"{error.what.rstrip('.')}: {error.why}" if isinstance(error, HyperError) else str(error)
