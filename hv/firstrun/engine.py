"""Runs the jobs in order: each for itself, with a deadline, tried again where that may help, its state always on disk."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hv.firstrun.jobs import Job
from hv.firstrun.state import SETTLED, Failure, JobState, StateFolder, Status
from hv.firstrun.world import LOG_LINES, DeadlineError, Journal, LaterError, TransientError, World
from installer.errors import HyperError
from installer.handoff import Handoff

TRIES = 3
"""Attempts at a job within one run."""
PAUSES = (2.0, 6.0)
"""Seconds before the second and third attempt."""


@dataclass(frozen=True)
class Engine:
    """All jobs of a host, and where their states are kept."""

    jobs: Sequence[Job]
    """In an order that fits `requires`."""
    handoff: Handoff
    """What the installer left."""
    world: World
    """Where they work; its journal's `emit` gets every line."""
    states: StateFolder
    """Where they are remembered."""
    changed: Callable[[Sequence[JobState]], None] = lambda _: None
    """Told after every change of a state (the console's notice)."""

    def run(self) -> tuple[JobState, ...]:
        """Try every job that is not settled; the states afterwards, in order."""
        settled = {job.name for job in self.jobs if self.states.read(job.name).status in SETTLED}
        for job in self.jobs:
            if job.name not in settled and self._run_job(job, settled).status in SETTLED:
                settled.add(job.name)
        return self.all_states()

    def all_states(self) -> tuple[JobState, ...]:
        """The states on disk, in order."""
        return tuple(self.states.read(job.name) for job in self.jobs)

    def _run_job(self, job: Job, settled: set[str]) -> JobState:
        state = self.states.read(job.name)
        if state.status is Status.running:
            self._say(f"{job.name}: was cut off in attempt {state.attempts}, starting over")
        if (reason := job.applies(self.handoff)) is not None:
            self._say(f"{job.name}: skipped, {reason}")
            return self._keep(JobState(job=job.name, status=Status.skipped, reason=reason))
        if missing := [name for name in job.requires if name not in settled]:
            reason = f"needs {', '.join(missing)}"
            self._say(f"{job.name}: waiting, {reason}")
            return self._keep(
                JobState(job=job.name, status=Status.waiting, reason=reason, attempts=state.attempts)
            )
        for tried in range(TRIES):
            if tried:
                self._say(f"{job.name}: trying again in {PAUSES[tried - 1]:.0f} s")
                self.world.clock.sleep(PAUSES[tried - 1])
            state, again = self._attempt(job, state.attempts + 1)
            if not again:
                break
        return state

    def _attempt(self, job: Job, attempt: int) -> tuple[JobState, bool]:
        """One attempt; also whether another may help."""
        clock = self.world.clock
        journal = Journal(emit=lambda line: self._say(f"{job.name}: {line}"))
        running = JobState(job=job.name, status=Status.running, attempts=attempt, started=clock.now())
        self._keep(running)
        world = replace(self.world, journal=journal, deadline=clock.monotonic() + job.timeout)
        self._say(f"{job.name}: started")
        error = _within(job, world)
        later = isinstance(error, LaterError)
        result = running.model_copy(
            update={
                "finished": clock.now(),
                "status": Status.waiting if later else Status.failed if error else Status.done,
                "reason": f"{error.what} {error.why}" if isinstance(error, LaterError) else None,
                "error": _failure(job, error) if error and not later else None,
                "warnings": tuple(journal.warnings),
                "log": tuple(journal.lines[-LOG_LINES:]),
            }
        )
        self._keep(result)
        if later:
            self._say(f"{job.name}: waiting, {result.reason}")
        elif result.error:
            self._say(f"{job.name}: FAILED: {result.error.what} Why: {result.error.why}")
            self._say(f"{job.name}: what to do: {result.error.remedy}")
        else:
            self._say(f"{job.name}: done and checked, {result.seconds:.1f} s")
        # Our own plain errors are judgements that time does not change; the rest is the world's doing.
        return result, error is not None and (
            isinstance(error, TransientError) or not isinstance(error, HyperError)
        )

    def _keep(self, state: JobState) -> JobState:
        self.states.write(state)
        self.changed(self.all_states())
        return state

    def _say(self, line: str) -> None:
        self.world.journal.emit(line)


def _within(job: Job, world: World) -> Exception | None:
    """Run and verify in a thread that is given up at the deadline: a call into a hung libvirtd cannot be interrupted.

    Commands end by themselves, since `World.attempt` gives them no more time than the job has.
    """
    raised: list[Exception] = []

    def work() -> None:
        try:
            job.run(world)
            job.verify(world)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=work, name=job.name, daemon=True)
    thread.start()
    # A little longer than the deadline, so that a step which notices it can say where it was.
    thread.join(job.timeout + 5)
    if thread.is_alive():
        return DeadlineError(
            f"Job {job.name} hangs.",
            why=f"it did not end within {job.timeout:.0f} s; the last it said: "
            + (world.journal.lines[-1] if world.journal.lines else "nothing"),
            remedy=f"Look for the stuck service, then `hv firstrun retry {job.name}`.",
        )
    return raised[0] if raised else None


def _failure(job: Job, error: Exception) -> Failure:
    if isinstance(error, HyperError):
        return Failure(what=error.what, why=error.why, remedy=error.remedy)
    return Failure(
        what=f"Job {job.name} met an error it does not know.",
        why=f"{type(error).__name__}: {error}",
        remedy=f"Remove the cause if it is clear, then `hv firstrun retry {job.name}`; else report it with the log.",
    )
