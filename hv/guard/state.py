"""What is remembered of a change that nobody has confirmed yet, and how the last one ended."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from hv.firstrun.world import sync_folder, to_json, write_atomically
from installer.errors import Exit, HyperError
from installer.frozen import Frozen

FOLDER = "/var/lib/hyper-nixos/guard"
"""On the host."""


class Kind(StrEnum):
    """What a change is of."""

    network = "network"
    """A switch, by whatever means, to a system with another network."""
    phase = "phase"
    """The phase, by `hv security harden`."""
    declaration = "declaration"
    """What the host is declared to be, by `hv setup`."""


class Staged(Frozen):
    """A file of the declaration that is put in place when the change is confirmed."""

    path: str
    """Below /etc/nixos."""
    text: str
    """What it becomes."""
    base: str | None
    """SHA-256 of the file as the change found it; None: there was none. A file that somebody changed since is left alone."""


class Pending(Frozen):
    """A change that waits. The file is on disk before the change begins, and gone when it is settled."""

    version: Literal[1] = 1
    """Format."""
    kind: Kind = Kind.network
    """What it is of."""
    previous: str
    """Toplevel to go back to: the last one that somebody had come through."""
    incoming: str
    """Toplevel that took over."""
    made: tuple[str, ...] = ()
    """Interfaces that it, or a change before it that nobody confirmed either, makes: networkd never removes any."""
    permanent: bool
    """Whether the boot loader was told too (`switch`, not `test`)."""
    seconds: int
    """How long the change has."""
    boot: str
    """The kernel's boot_id while it waits."""
    applied: float | None = None
    """When the new system was in force, seconds since boot; before that nothing can be confirmed."""
    until: datetime
    """When it goes back."""
    returning: bool = False
    """Whether going back has begun: there is no confirming any more."""
    keeping: bool = False
    """Whether it is confirmed and being made permanent: there is no going back any more."""
    staged: tuple[Staged, ...] = ()
    """What the declaration becomes."""
    who: str | None = None
    """Who made it."""
    what: str | None = None
    """In words, for people and for the history."""


class Outcome(StrEnum):
    """How a change ended."""

    confirmed = "confirmed"
    """Somebody came through the new system and said so."""
    reverted = "reverted"
    """Time was up, or somebody asked: the previous system runs again."""
    rebooted = "rebooted"
    """The machine was started anew, into the previous system."""
    same = "same"
    """When time was up, the previous network was in force already."""
    failed = "failed"
    """Going back did not work."""


class Last(Frozen):
    """The change before."""

    version: Literal[1] = 1
    """Format."""
    kind: Kind = Kind.network
    """What it was of."""
    outcome: Outcome
    """How it ended."""
    at: datetime
    """When."""
    previous: str
    """The toplevel from before it."""
    incoming: str
    """The toplevel that took over."""
    why: str | None = None
    """What went wrong."""


class StateFolder:
    """The two files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pending_file = folder / "pending.json"
        self.last_file = folder / "last.json"

    def pending(self) -> Pending | None:
        """The change that waits. Raises HyperError for a damaged file: guessing is no way back."""
        try:
            return Pending.model_validate_json(self.pending_file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise HyperError(
                "The record of the change that waits is damaged.",
                why=f"{self.pending_file}: {error.error_count()} errors",
                remedy=f"If the host is as you want it, remove {self.pending_file}.",
            ) from error

    def last(self) -> Last | None:
        """How the last change ended."""
        try:
            return Last.model_validate_json(self.last_file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def wait(self, pending: Pending) -> None:
        """Keep it, for good."""
        write_atomically(self.pending_file, to_json(pending.model_dump(mode="json")))

    def settle(self, last: Last) -> None:
        """Nothing waits any more. The order matters: a power cut in between leaves the change waiting."""
        write_atomically(self.last_file, to_json(last.model_dump(mode="json")))
        self.pending_file.unlink(missing_ok=True)
        sync_folder(self.folder)

    @contextmanager
    def lock(self, patience: float = 0) -> Iterator[None]:
        """One at a time; the kernel drops the lock when its holder dies. `patience`: seconds to wait for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + patience
        with (self.folder / ".lock").open("w") as stream:
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise HyperError(
                            "The host is being changed right now.",
                            why=f"another process holds {self.folder / '.lock'}: it is probably going back",
                            remedy="Look with `hv net status` in a moment.",
                            code=Exit.busy,
                        ) from error
                    time.sleep(0.5)
            yield
