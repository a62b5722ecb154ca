"""What a run in the lab leaves behind for the report: `run.json` in its folder, beside facts, plan and pictures."""

from pathlib import Path

from installer.frozen import Frozen


class Phase(Frozen):
    """A stretch of the run with a name of its own."""

    name: str
    """For a person, e.g. `install: realise the system`."""
    start: float
    """Seconds since the run began."""
    end: float
    """Seconds since the run began."""
    lane: str = "lab"
    """Who was at work: `lab` (building media), `firmware`, `installer`, `host`."""


class Proof(Frozen):
    """Something that was looked at, not assumed."""

    claim: str
    """E.g. `alice logs in over SSH with her key (phase setup)`."""
    holds: bool
    """Whether it was so."""
    evidence: str
    """What was read back, shortened to a few lines."""


class Picture(Frozen):
    """A screenshot of the machine."""

    file: str
    """PNG in the run's folder."""
    caption: str
    """What is to be seen."""
    at: float
    """Seconds since the run began."""


class Excerpt(Frozen):
    """Part of a log."""

    title: str
    """Which log."""
    text: str
    """The lines."""


class RunRecord(Frozen):
    """One run, from blank disks to the set-up host."""

    scenario: str
    """Name of the scenario."""
    summary: str
    """One sentence: what kind of machine, what layout."""
    started: str
    """Date and time, ISO 8601."""
    seconds: float
    """Length of the run."""
    phases: tuple[Phase, ...]
    """In order of start."""
    proofs: tuple[Proof, ...]
    """In the order they were looked at."""
    pictures: tuple[Picture, ...] = ()
    """In order of time."""
    excerpts: tuple[Excerpt, ...] = ()
    """In order of reading."""
    facts_before: str | None = None
    """File with the facts of the live system, before the installation."""
    facts_after: str | None = None
    """File with the facts of the installed host."""
    plan: str | None = None
    """File with the plan."""


def read(folder: Path) -> RunRecord:
    """The record of a run's folder."""
    return RunRecord.model_validate_json((folder / "run.json").read_bytes())


def write(record: RunRecord, folder: Path) -> None:
    """Keep the record in the run's folder."""
    (folder / "run.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
