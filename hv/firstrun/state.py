"""State of the jobs: one JSON file each, so that a power cut at any moment loses at most the running attempt."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from hv.firstrun.world import to_json, write_atomically
from installer.errors import Exit, HyperError
from installer.frozen import Frozen

STATE_FOLDER = "/var/lib/hyper-nixos/firstrun"
"""On the installed host."""


class Status(StrEnum):
    """Where a job stands."""

    pending = "pending"
    """Not tried yet."""
    waiting = "waiting"
    """A job that it needs has failed, or the rest of it comes with the host's next start."""
    running = "running"
    """Being tried; found at start-up it means that the power went: the job is tried again."""
    done = "done"
    """Done, and verified by reading back."""
    failed = "failed"
    """Tried, without success; tried again at the next start or by `hv firstrun retry`."""
    skipped = "skipped"
    """Not needed, or passed over by an administrator."""


SETTLED = frozenset({Status.done, Status.skipped})
"""States that satisfy the jobs depending on it, and that no later run touches."""


class Failure(Frozen):
    """Why a job failed."""

    what: str
    """What happened."""
    why: str
    """Why."""
    remedy: str
    """What to do."""


class JobState(Frozen):
    """One job's state file."""

    version: Literal[1] = 1
    """Format."""
    job: str
    """Name of the job."""
    status: Status = Status.pending
    """Where it stands."""
    attempts: int = 0
    """How often it was tried, over all runs."""
    started: datetime | None = None
    """Start of the last attempt."""
    finished: datetime | None = None
    """End of the last attempt."""
    reason: str | None = None
    """Why it was skipped, or what it waits for."""
    warnings: tuple[str, ...] = ()
    """What a person should know although it is done."""
    error: Failure | None = None
    """Why it failed."""
    log: tuple[str, ...] = ()
    """Last lines of the last attempt."""

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took."""
        if self.started is None or self.finished is None:
            return None
        return (self.finished - self.started).total_seconds()


class StateFolder:
    """The state files of one host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, job: str) -> JobState:
        """State of a job; pending when there is none. A damaged file is put aside and counts as never tried."""
        path = self._path(job)
        try:
            return JobState.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return JobState(job=job)
        except PermissionError as error:
            raise HyperError(
                f"The state of job {job} cannot be read.",
                why=str(error),
                remedy=f"Make {self.folder} readable (mode 0755), or use sudo.",
                code=Exit.privilege,
            ) from error
        except ValidationError as error:
            # Every job is idempotent, so starting over is safe; guessing at damaged content is not.
            return JobState(
                job=job, reason=f"{path} is damaged ({error.error_count()} errors): counted as never tried"
            )

    def write(self, state: JobState) -> None:
        """Keep a state, for good."""
        write_atomically(self._path(state.job), to_json(state.model_dump(mode="json")))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one run at a time; the kernel drops the lock when its holder dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HyperError(
                    "A first run is going on already.",
                    why=f"another process holds {self.folder / '.lock'}",
                    remedy="Watch it with `hv firstrun status` or `journalctl -fu hyper-nixos-firstrun`.",
                    code=Exit.busy,
                ) from error
            yield

    def _path(self, job: str) -> Path:
        return self.folder / f"{job}.json"
