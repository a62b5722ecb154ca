"""The one way programs are run: logged, timed, redacted, bounded in time, and gone when the installer is."""

import fcntl
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.log import Log

_CHUNK = 1 << 20
_GATHER = 0.05
"""Seconds for which a talkative program's output gathers in its pipe before it is read: Nix writes a line for every
few bytes that it copies, and waking up for each one costs more than the copying."""
_GRACE = 5.0
_KEPT_LINES = 200


class CommandError(HyperError):
    """A program failed, was not found, or took too long."""

    def __init__(self, argv: Sequence[str], why: str, status: int | None = None) -> None:
        super().__init__(
            f"`{shlex.join(argv)[:300]}` failed",
            why=why,
            remedy="mend what its output names, then run the same command again",
            code=Exit.step,
        )
        self.status = status


@dataclass(frozen=True)
class Finished:
    """A program that came to its end."""

    argv: tuple[str, ...]
    """What was run."""
    status: int
    """Exit status; negative: the signal that ended it."""
    stdout: bytes
    """Everything on standard output."""
    stderr: str
    """The last lines on standard error, redacted."""
    seconds: float
    """How long it took."""

    @property
    def text(self) -> str:
        """Standard output as text, without the last line break."""
        return self.stdout.decode(errors="replace").rstrip("\n")


def _ignore(line: bytes) -> None:
    """Takes nothing."""


@dataclass
class _Stream:
    """One output of a running program, cut into lines."""

    line: Callable[[bytes], None]
    rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Hand on every complete line; a terminal's `\\r` counts as a line break."""
        *lines, self.rest = (self.rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self.line(line)

    def end(self) -> None:
        """Hand on what had no line break."""
        if self.rest:
            self.line(self.rest)
            self.rest = b""


@dataclass
class _Talk:
    """What goes into a running program and comes out of it."""

    process: subprocess.Popen[bytes]
    streams: dict[int, _Stream]
    ticks: Sequence[Callable[[], None]]
    deadline: float | None
    rest: memoryview
    talkative: bool = False
    """Whether output is left to gather for a moment between two looks."""
    collected: list[bytes] = field(default_factory=list)

    def go_on(self) -> None:
        """Feed standard input and read both outputs until they close."""
        process = self.process
        assert process.stdout and process.stderr
        with selectors.DefaultSelector() as selector:
            for number, pipe in ((1, process.stdout), (2, process.stderr)):
                os.set_blocking(pipe.fileno(), False)
                if self.talkative:
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _CHUNK)
                selector.register(pipe, selectors.EVENT_READ, number)
            if process.stdin:
                os.set_blocking(process.stdin.fileno(), False)
                selector.register(process.stdin, selectors.EVENT_WRITE, 0)
            ticked = time.monotonic()
            while selector.get_map():
                now = time.monotonic()
                if self.deadline and now >= self.deadline:
                    raise subprocess.TimeoutExpired(process.args, 0)
                if now - ticked >= 1:
                    ticked = now
                    for tick in self.ticks:
                        tick()
                for key, _ in selector.select(
                    1.0 if self.deadline is None else min(1.0, self.deadline - now)
                ):
                    ended = self._feed() if key.data == 0 else self._take(key.data, key.fd)
                    if ended:
                        selector.unregister(key.fileobj)
                if self.talkative and process.poll() is None:
                    time.sleep(_GATHER)

    def _feed(self) -> bool:
        """Write what fits into the pipe; whether all is written and it is closed."""
        stdin = self.process.stdin
        assert stdin
        try:
            if self.rest:
                self.rest = self.rest[os.write(stdin.fileno(), self.rest) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:  # it ended without reading all: its exit status says whether that was right
            self.rest = memoryview(b"")
        if not self.rest:
            stdin.close()
        return not self.rest

    def _take(self, number: int, descriptor: int) -> bool:
        """Read what is there; whether that was the end."""
        data = os.read(descriptor, _CHUNK)
        stream = self.streams[number]
        if number == 1:
            self.collected.append(data)
        if not data:
            stream.end()
        elif stream.line is not _ignore:
            stream.feed(data)
        return not data


@dataclass
class Runner:
    """Runs programs of the field."""

    log: Log
    """Where commands and their output go."""
    search_path: str
    """PATH for every program."""
    tick: Callable[[], None] = lambda: None
    """Called about once a second while a program runs, so that people see that time passes."""
    keep_open: tuple[int, ...] = ()
    """Descriptors that programs inherit: the installation's lock stays held while any of them lives."""
    environment: dict[str, str] = field(default_factory=dict)
    """More variables for every program, e.g. the proxy."""
    folder: Path = Path("/")
    """Where programs run: it holds no file system busy. Where people name files, it is their own folder instead."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[bytes], str | None] | None = None,
        on_tick: Callable[[], None] | None = None,
        check: bool = True,
        quiet: bool = False,
    ) -> Finished:
        """Run to the end.

        Args:
            argv: Program and arguments. Secrets never go here but through `stdin`.
            stdin: Fed to standard input as it is; none: /dev/null.
            timeout: Seconds after which the program and all it started are ended.
            environment: Variables besides PATH, HOME and LC_ALL.
            on_line: Takes each line of standard error and gives what of it is for people; without it all is.
            on_tick: Called about once a second while it runs, besides the runner's own.
            check: Whether a status other than 0 is an error.
            quiet: Keep standard output out of the log (binary or long).

        Raises:
            CommandError: not found, timed out, or failed.
        """
        started = time.monotonic()
        self.log.write(f"$ {shlex.join(argv)}")
        tail: deque[str] = deque(maxlen=_KEPT_LINES)

        def standard_error(line: bytes) -> None:
            text = on_line(line) if on_line else line.decode(errors="replace")
            if text is not None:
                tail.append(self.log.redact(text))
                self.log.write(f"| {text}")

        def standard_output(line: bytes) -> None:
            self.log.write(f"> {line.decode(errors='replace')}")

        process = self._start(argv, stdin is not None, environment or {})
        try:
            talk = _Talk(
                process=process,
                streams={1: _Stream(_ignore if quiet else standard_output), 2: _Stream(standard_error)},
                ticks=(self.tick, on_tick) if on_tick else (self.tick,),
                deadline=started + timeout if timeout else None,
                rest=memoryview(stdin or b""),
                talkative=on_line is not None,
            )
            talk.go_on()
            status = process.wait(self._left(started, timeout))
        except subprocess.TimeoutExpired:
            self._end(process)
            why = f"it did not end within {timeout:.0f} seconds and was stopped"
            self.log.write(f"! {why}")
            raise CommandError(argv, why) from None
        except BaseException:
            self._end(process)
            raise
        finally:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe and not pipe.closed:
                    pipe.close()
        seconds = time.monotonic() - started
        self.log.write(f"= {status} after {seconds:.2f} s")
        finished = Finished(tuple(argv), status, b"".join(talk.collected), "\n".join(tail), seconds)
        if check and status != 0:
            raise CommandError(argv, self._reason(finished), status)
        return finished

    def _start(
        self, argv: Sequence[str], has_stdin: bool, more: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        environment = {"PATH": self.search_path, "HOME": "/root", "LC_ALL": "C.UTF-8"}
        try:
            # setpriv becomes the program itself and has the kernel kill it when the installer dies, so that
            # nothing goes on writing to a disk behind a second run's back.
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment, **self.environment, **more},
                cwd=self.folder,
                start_new_session=True,
                pass_fds=self.keep_open,
            )
        except OSError as error:
            raise CommandError(argv, str(error)) from error

    @staticmethod
    def _left(started: float, timeout: float | None) -> float | None:
        return None if timeout is None else max(0.0, started + timeout - time.monotonic())

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        """End the whole process group: asked first, then killed."""
        for number, patience in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        process.wait()

    def _reason(self, finished: Finished) -> str:
        ended = (
            f"exit status {finished.status}"
            if finished.status >= 0
            else f"killed by signal {-finished.status}"
        )
        said = finished.stderr.strip() or self.log.redact(finished.text).strip()
        last = "\n       ".join(said.splitlines()[-12:])
        return f"{ended}; it said:\n       {last}" if last else f"{ended}, without a word"


def find_program(name: str, search_path: str) -> Path | None:
    """Where a program is on a PATH; an absolute name stands for itself."""
    folders = [""] if name.startswith("/") else search_path.split(":")
    for folder in folders:
        path = Path(folder, name)
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None
