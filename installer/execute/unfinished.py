"""Installations of before: one that was interrupted is gone on with, one that ended is put aside."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from installer.errors import Exit, HyperError
from installer.execute.journal import Journal
from installer.execute.live import LiveSystem
from installer.facts import Facts
from installer.plan.actions import ChangePartitionTable
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


def require_forgettable(live: LiveSystem, journal: Journal) -> None:
    """HyperError (Exit.consent) if what was interrupted changed a table beside what stays: it would be found again as a host
    of this name, and only its own record can put the table back.
    """
    plan = saved_plan(live)
    if plan is None or journal.token is None or journal.finished:
        return
    changed = [
        action.disk
        for step in plan.steps
        for action in step.actions
        if isinstance(action, ChangePartitionTable) and journal.begun(step.id)
    ]
    if changed:
        names = " and ".join(disk.name for disk in plan.disks if disk.key in changed)
        raise HyperError(
            "the interrupted installation is not forgotten yet",
            why=f"it put partitions of {plan.hostname} into the table of {names}, beside what stays there; planned anew, they "
            "would be taken for another host of that name",
            remedy="`hv install --abort` puts the table back as it was; then begin anew, without `--fresh`",
            code=Exit.consent,
        )


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
