"""What a first-run job is."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from hv.firstrun.world import World
from installer.errors import Exit, HyperError
from installer.handoff import Handoff


class Job(Protocol):
    """Something the host does once. Running it again after success, or after a power cut at any point, is harmless."""

    @property
    def name(self) -> str:
        """Name of the job and of its state file."""
        ...

    @property
    def requires(self) -> tuple[str, ...]:
        """Jobs that must be done or skipped before."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds for one attempt."""
        ...

    def applies(self, handoff: Handoff) -> str | None:
        """Why the job is not needed; none when it is."""
        ...

    def run(self, world: World) -> None:
        """Do it. Raises HyperError; TransientError when trying again may help."""
        ...

    def verify(self, world: World) -> None:
        """Look at the effect, not at what `run` believes. Raises HyperError."""
        ...


def find(jobs: Iterable[Job], name: str) -> Job:
    """The job of that name."""
    known = {job.name: job for job in jobs}
    if name in known:
        return known[name]
    raise HyperError(
        f"There is no first-run job {name!r}.",
        why=f"this host has {', '.join(known)}",
        remedy="Take a name from `hv firstrun status`.",
        code=Exit.usage,
    )


def dependants(jobs: Sequence[Job], name: str) -> tuple[Job, ...]:
    """Every job that needs `name`, directly or through another, in order."""
    reached = {name}
    for job in jobs:
        if reached.intersection(job.requires):
            reached.add(job.name)
    return tuple(job for job in jobs if job.name in reached and job.name != name)
