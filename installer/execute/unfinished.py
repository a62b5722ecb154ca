"""Installations of before: one that was interrupted is gone on with, one that ended is put aside."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from installer.errors import Exit, HyperError
from installer.execute.journal import Journal
from installer.execute.live import LiveSystem
from installer.facts import Facts
from installer.plan.model import Plan


@dataclass(frozen=True)
class Unfinished:
    """An installation that was begun on this live system and did not come to its end."""

    facts: Facts
    """The machine as it was when the plan was made: by now its disk looks different."""
    token: str
    """Of its plan."""


def unfinished(live: LiveSystem, journal: Journal) -> Unfinished | None:
    """What was interrupted; none: nothing was.

    Raises:
        HyperError: it cannot be gone on with.
    """
    if journal.token is None or journal.finished:
        return None
    try:
        return Unfinished(Facts.model_validate_json(live.facts.read_bytes()), journal.token)
    except (OSError, ValidationError) as error:
        raise HyperError(
            "the interrupted installation cannot be gone on with",
            why=f"{live.facts}: {error}",
            remedy="add `--fresh` to forget it and plan anew",
            code=Exit.step,
        ) from error


def saved_plan(live: LiveSystem) -> Plan | None:
    """The plan of the last installation here, as far as it can still be read."""
    try:
        return Plan.model_validate_json(live.plan.read_bytes())
    except (OSError, ValidationError):
        return None


def put_aside(live: LiveSystem) -> Path | None:
    """Move journal, log, plan and saved headers into a folder of their own; none: there was nothing."""
    kept = [path for path in (live.journal, live.log, live.plan, live.facts, live.headers) if path.exists()]
    if not kept:
        return None
    number = 1 + sum(1 for _ in live.runtime.glob("earlier-*"))
    folder = live.runtime / f"earlier-{number}"
    folder.mkdir(mode=0o700)
    for path in kept:
        path.rename(folder / path.name)
    return folder
