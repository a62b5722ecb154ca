"""The world as jobs see it: files below a root, commands, libvirt and a clock, all of which a test can replace."""

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from hv.libvirt_python import libvirt_module
from installer.errors import Exit, HyperError
from installer.execute.runner import Finished
from installer.facts import Facts
from installer.handoff import HandoffVm

LIBVIRT_URI = "qemu:///system"
"""The system instance of libvirt's QEMU driver (https://libvirt.org/drvqemu.html#connections-to-qemu-driver)."""
COMMAND_TIMEOUT = 120.0
"""Seconds for commands that should take a moment."""
UNGUARDED = "HV_NET_GUARD"
"""Set to `off` in the environment of a switch that answers for itself and need not be confirmed (hv/net): raising the
phase looks before and after whether administrators can log in."""
LOG_LINES = 40
"""Lines of a job's log that its state keeps."""


class TransientError(HyperError):
    """A failure that may pass by itself: the engine tries the job again after a pause."""


class LaterError(HyperError):
    """No failure: what is left to do comes by itself at the next start, and the job is tried again then."""


class DeadlineError(HyperError):
    """A job went past its deadline."""


class Programs(Protocol):
    """Runs one program, without a shell; `installer.execute.runner.Runner` is the real one."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,
        check: bool = True,
    ) -> Finished:
        """Run to the end, or raise CommandError: not found, out of time, or failed although `check`."""
        ...


@dataclass(frozen=True)
class Clock:
    """Time."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    """Wall clock, UTC."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds that never go back."""
    sleep: Callable[[float], None] = time.sleep
    """Wait so many seconds."""


@dataclass
class Journal:
    """What one attempt at a job has to tell."""

    emit: Callable[[str], None] = lambda _: None
    """Where lines go at once: console and log file."""
    lines: list[str] = field(default_factory=list)
    """Everything said."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know although the job succeeded."""

    def say(self, line: str) -> None:
        """One plain line."""
        self.lines.append(line)
        self.emit(line)

    def warn(self, text: str) -> None:
        """A warning; it stays in the job's state."""
        self.warnings.append(text)
        self.say(f"warning: {text}")


def _no_facts(_: Path) -> Facts:
    raise HyperError(
        "The hardware cannot be compared with the plan.",
        why="no probe was given to this run",
        remedy="Run `hv probe` and compare by hand.",
    )


def _no_images(_: "World", vm: HandoffVm) -> tuple[Path, str]:
    raise HyperError(
        f"The image of VM {vm.name} cannot be fetched.",
        why="nothing that fetches images was given to this run",
        remedy=f"Put it at {vm.image} by hand.",
    )


def _no_signatures(_: "World", hostname: str) -> tuple[str, ...]:
    raise HyperError(
        f"What {hostname} starts from cannot be signed.",
        why="nothing that signs was given to this run",
        remedy="Run `hv secure-boot sign --make-keys` by hand.",
    )


@dataclass(frozen=True)
class World:
    """Everything a job may touch."""

    programs: Programs
    """Runs programs."""
    root: Path = Path("/")
    """Absolute paths of the host are looked up below this folder."""
    uri: str = LIBVIRT_URI
    """Which libvirt."""
    clock: Clock = Clock()
    """Time."""
    probe: Callable[[Path], Facts] = _no_facts
    """Makes facts of the machine below a root."""
    image: Callable[["World", HandoffVm], tuple[Path, str]] = _no_images
    """Fetches and verifies the image of a guest; where it is, and its SHA-256. Raises HyperError, and TransientError where
    trying again may help."""
    sign: Callable[["World", str], tuple[str, ...]] = _no_signatures
    """Makes a host's keys for Secure Boot, signs what it starts from, and says what firmware would not start then. Takes the
    host's name. Raises HyperError."""
    journal: Journal = field(default_factory=Journal)
    """Takes what the running job says."""
    deadline: float | None = None
    """`clock.monotonic()` at which the running job's time is over."""

    def path(self, absolute: str) -> Path:
        """The host's absolute path, below the root."""
        return self.root / absolute.lstrip("/")

    def say(self, line: str) -> None:
        """One plain line of progress."""
        self.journal.say(line)

    def warn(self, text: str) -> None:
        """A warning."""
        self.journal.warn(text)

    def remaining(self) -> float:
        """Seconds until the deadline; raises DeadlineError when there are none."""
        if self.deadline is None:
            return float("inf")
        left = self.deadline - self.clock.monotonic()
        if left <= 0:
            raise DeadlineError(
                "The job ran out of time.",
                why="its deadline passed between two of its steps",
                remedy="Look at the log for the slow step, then `hv firstrun retry` the job.",
            )
        return left

    def attempt(self, argv: Sequence[str], *, timeout: float = COMMAND_TIMEOUT, stdin: str = "") -> Finished:
        """Run a program and hand back however it ended."""
        done = self.programs.run(
            argv,
            stdin=stdin.encode() if stdin else None,
            timeout=min(timeout, self.remaining()),
            check=False,
        )
        self.journal.lines.append(f"$ {shlex.join(argv)}  -> {done.status}")
        return done

    def run(
        self,
        argv: Sequence[str],
        *,
        purpose: str,
        remedy: str,
        timeout: float = COMMAND_TIMEOUT,
        stdin: str = "",
    ) -> str:
        """Run a program that must succeed, and return its standard output.

        `purpose` completes "Could not …", `remedy` says what to do when it fails.
        """
        done = self.attempt(argv, timeout=timeout, stdin=stdin)
        if done.status:
            said = done.stderr.strip() or done.text.strip() or "it said nothing"
            self.journal.lines.extend(f"| {line}" for line in said.splitlines())
            raise HyperError(
                f"Could not {purpose}.",
                why=f"`{shlex.join(argv)}` ended with {done.status}: {said}",
                remedy=remedy,
            )
        return done.text

    @contextmanager
    def libvirt(self) -> Iterator[Any]:
        """A connection to libvirt for one job, closed afterwards. Raises TransientError when nobody answers."""
        libvirt = libvirt_module()
        try:
            connection = libvirt.open(self.uri)
        except libvirt.libvirtError as error:
            raise TransientError(
                "libvirt does not answer.",
                why=f"{self.uri}: {error}",
                remedy="See `systemctl status libvirtd.socket libvirtd`, then `hv firstrun retry libvirt`.",
            ) from error
        try:
            yield connection
        finally:
            connection.close()


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file so that a power cut leaves the old or the new content, never a part (rename(2), fsync(2))."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(value: object) -> str:
    """JSON as every file of ours has it: sorted, indented, one newline at the end."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def require_root(doing: str, remedy: str = "Run it with sudo.") -> None:
    """Raise unless the effective user is root. `doing` begins the sentence "… needs root."."""
    if os.geteuid() != 0:
        raise HyperError(
            f"{doing} needs root.",
            why=f"the effective user id is {os.geteuid()}",
            remedy=remedy,
            code=Exit.privilege,
        )
