"""The journal: what was begun, done and verified, on disk before the next thing happens.

One JSON object a line, appended with one write and fsync, so that a kill at any point leaves whole lines and at
most one torn last line, which is dropped. A second run reads it to go on where the first one stopped.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from installer.errors import Exit, HyperError
from installer.frozen import Frozen

Happening = Literal[
    "begun", "resumed", "started", "done", "verified", "failed", "lost", "undone", "learned", "finished"
]


class Event(Frozen):
    """One line of the journal."""

    version: Literal[1] = 1
    """Format."""
    time: datetime
    """When, in UTC."""
    what: Happening
    """What happened."""
    token: str | None = None
    """With `begun`: the plan's confirm token."""
    step: str | None = None
    """Which step; with `learned` the name of what was learned."""
    seconds: float | None = None
    """How long it took."""
    details: tuple[str, ...] = ()
    """Evidence of a check, reason of a failure, value of what was learned."""


class Journal:
    """The journal of one installation."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mirror: Path | None = None
        """A second copy, on the target once that is mounted."""
        self.events = list(_read(path))
        self._recording = threading.Lock()

    @property
    def token(self) -> str | None:
        """Token of the plan that this journal belongs to; none: a blank journal."""
        return next((event.token for event in self.events if event.what == "begun"), None)

    @property
    def finished(self) -> bool:
        """Whether the installation came to its end."""
        return any(event.what == "finished" for event in self.events)

    def started(self, step: str) -> bool:
        """Whether the step was begun and not taken back since."""
        return self._last(step) not in (None, "undone")

    def begun(self, step: str) -> bool:
        """Whether the step was ever begun, even if an undo came after it: what it wrote may be there still."""
        return any(event.step == step and event.what == "started" for event in self.events)

    def verified(self, step: str) -> bool:
        """Whether the step was done and verified, and nothing happened to it since."""
        return self._last(step) == "verified"

    @property
    def lost(self) -> str | None:
        """Why writes of earlier steps are not on the disk, whatever these steps' checks found in memory."""
        return next((event.details[0] for event in self.events if event.what == "lost"), None)

    def evidence(self, step: str) -> tuple[str, ...]:
        """What the step's checks found when it was verified last."""
        found = [event.details for event in self.events if event.step == step and event.what == "verified"]
        return found[-1] if found else ()

    def learned(self, name: str) -> str | None:
        """Something an earlier step found out, e.g. the store path of the realised system."""
        found = [event for event in self.events if event.what == "learned" and event.step == name]
        return found[-1].details[0] if found else None

    def _last(self, step: str) -> Happening | None:
        about = [event.what for event in self.events if event.step == step and event.what != "learned"]
        return about[-1] if about else None

    def record(
        self,
        what: Happening,
        step: str | None = None,
        *,
        token: str | None = None,
        seconds: float | None = None,
        details: tuple[str, ...] = (),
    ) -> None:
        """Append one event; on return it is on disk."""
        event = Event(
            time=datetime.now(UTC), what=what, step=step, token=token, seconds=seconds, details=details
        )
        line = event.model_dump_json(exclude_none=True).encode() + b"\n"
        with self._recording:
            _append(self.path, line, sync=True)
            self.events.append(event)
            try:
                if self.mirror and self.mirror.parent.is_dir():
                    _append(self.mirror, line, sync=False)
            except (
                OSError
            ):  # the target's disk is gone: what fails there says so, and the journal must tell it
                self.mirror = None

    def mirror_to(self, path: Path) -> None:
        """Keep a second copy from now on, beginning with everything so far."""
        with self._recording:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.path.read_bytes())
            path.chmod(0o600)
            self.mirror = path


def _read(path: Path) -> Iterator[Event]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    whole, newline, torn = content.rpartition(b"\n")
    if torn:
        os.truncate(path, len(whole) + len(newline))
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            yield Event.model_validate_json(line)
        except ValidationError as error:
            raise HyperError(
                "the journal of an earlier installation cannot be read",
                why=f"{path}, line {number}, is not an event of format 1",
                remedy="start over with `--fresh`; the disk is planned and confirmed again",
                code=Exit.step,
            ) from error


def _append(path: Path, line: bytes, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def only_installer(runtime: Path, patience: float) -> Iterator[int]:
    """Hold the lock that keeps a second installer out; yields its descriptor, for programs to inherit.

    A killed installer's programs die with it, but not at once: their copies of the descriptor keep the lock until
    they are gone, and that is waited for.

    Args:
        runtime: Folder of the lock.
        patience: Seconds to wait.

    Raises:
        HyperError: another installer runs.
    """
    try:
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(runtime / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HyperError(
            "the installer cannot keep its journal",
            why=f"{runtime}: {error.strerror}",
            remedy="run as root, on a live system with a writable /run",
            code=Exit.privilege,
        ) from error
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
                    raise HyperError(
                        "another installer is running",
                        why=f"process {holder} holds {runtime / 'lock'}",
                        remedy="wait for it to end, or stop it, then run the same command again",
                        code=Exit.busy,
                    ) from None
                time.sleep(0.05)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)
