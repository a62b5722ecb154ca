"""Keeps the record of a run as it happens, and tells a person at the terminal what is going on."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.lab import runrecord
from tests.lab.runrecord import Excerpt, Phase, Picture, Proof, RunRecord


class Recorder:
    """One run: phases, proofs, pictures and excerpts, in its folder."""

    def __init__(self, scenario: str, summary: str, folder: Path, *, quiet: bool = False) -> None:
        self.scenario, self.summary, self.folder, self.quiet = scenario, summary, folder, quiet
        self.files: dict[str, str] = {}
        self.phases: list[Phase] = []
        self.proofs: list[Proof] = []
        self.pictures: list[Picture] = []
        self.excerpts: list[Excerpt] = []
        self._began = time.monotonic()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._printing = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def now(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._began, 2)

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        if not self.quiet:
            with self._printing:
                print(f"{self.now():7.1f} s  {text}", flush=True)

    def detail(self, line: str) -> None:
        """A line of the installer's, below the phase it belongs to."""
        if not self.quiet and line.strip():
            width = 150 if sys.stdout.isatty() else 400
            with self._printing:
                print(f"           | {line[:width]}", flush=True)

    @contextmanager
    def phase(self, name: str, lane: str = "lab") -> Iterator[None]:
        """A stretch of the run. It is recorded even when it fails."""
        start = self.now()
        self.say(f"{name} ...")
        try:
            yield
        finally:
            end = self.now()
            self.phases.append(Phase(name=name, start=start, end=end, lane=lane))
            self.say(f"{name}: {end - start:.1f} s")

    def prove(self, claim: str, holds: bool, evidence: str) -> None:
        """Something was looked at. What does not hold ends the run, after it was recorded."""
        self.proofs.append(Proof(claim=claim, holds=holds, evidence=evidence.strip()[-1500:]))
        self.say(f"{'proved' if holds else 'NOT SO'}: {claim}")
        if not holds:
            raise AssertionError(f"{claim}: not so\n{evidence}")

    def picture(self, path: Path, caption: str) -> None:
        """A screenshot in the run's folder."""
        self.pictures.append(Picture(file=path.name, caption=caption, at=self.now()))

    def excerpt(self, title: str, text: str) -> None:
        """Part of a log."""
        self.excerpts.append(Excerpt(title=title, text=text))

    def write(self) -> RunRecord:
        """Keep the record in the folder."""
        record = RunRecord(
            scenario=self.scenario,
            summary=self.summary,
            started=self._started,
            seconds=self.now(),
            phases=tuple(sorted(self.phases, key=lambda phase: phase.start)),
            proofs=tuple(self.proofs),
            pictures=tuple(self.pictures),
            excerpts=tuple(self.excerpts),
            facts_before=self.files.get("facts_before"),
            facts_after=self.files.get("facts_after"),
            plan=self.files.get("plan"),
        )
        runrecord.write(record, self.folder)
        return record
