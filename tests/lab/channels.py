"""Talking to a machine: its serial line, QEMU's monitor (QMP), and the agent in the live system."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.errors import HyperError
from tests.lab.patience import patience

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b\][^\x07]*\x07|\r")
"""Terminal control sequences, which firmware and systemd write a lot of."""


def connect(path: Path, alive: Callable[[], str | None], seconds: float) -> socket.socket:
    """Connect to a socket that QEMU is about to open. `alive` says why waiting is useless, if it is."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        channel = socket.socket(socket.AF_UNIX)
        try:
            channel.connect(str(path))
            return channel
        except OSError as error:
            channel.close()
            dead = alive()
            if dead or time.monotonic() > deadline:
                raise HyperError(
                    f"the machine's socket {path.name} cannot be reached",
                    why=dead or str(error),
                    remedy="read QEMU's output in the run's folder",
                ) from error
            pause.wait(0.02)


class Serial:
    """The serial line: a thread reads it all the time (a full pipe would stop the guest) and keeps it in a file."""

    def __init__(self, channel: socket.socket, log: Path, alive: Callable[[], str | None]) -> None:
        self._channel, self._alive = channel, alive
        self._text = ""
        self._position = 0
        self._grown = threading.Condition()
        self._closed = False
        self._log = log
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with self._log.open("ab") as log:
            while True:
                try:
                    data = self._channel.recv(65536)
                except OSError:
                    data = b""
                if data:
                    log.write(data)
                    log.flush()
                with self._grown:
                    self._text += data.decode("utf-8", "replace")
                    self._closed = self._closed or not data
                    self._grown.notify_all()
                if not data:
                    return

    def expect(self, pattern: str, measured: float) -> re.Match[str]:
        """Wait until the line shows `pattern` after what was matched before.

        Args:
            pattern: regular expression, searched in the text without control sequences.
            measured: seconds this took on a quiet machine.
        """
        deadline = time.monotonic() + patience(measured)
        with self._grown:
            while True:
                text = _CONTROL.sub("", self._text[self._position :])
                match = re.search(pattern, text)
                if match:
                    self._position = len(self._text)
                    return match
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    raise HyperError(
                        f"the serial line did not show {pattern!r}",
                        why=(
                            "the machine went away" if self._closed else f"{patience(measured):.0f} s passed"
                        )
                        + f"; the last it said:\n{text[-1500:]}",
                        remedy=f"read {self._log}",
                    )
                self._grown.wait(min(left, 5))

    def type(self, text: str) -> None:
        """Send keystrokes."""
        self._channel.sendall(text.encode())

    def since(self, position: int, seconds: float) -> tuple[str, int]:
        """What came after a place, with control sequences, and the new place; waits for it so long."""
        with self._grown:
            if len(self._text) == position and not self._closed:
                self._grown.wait(seconds)
            self._position = len(self._text)
            return self._text[position:], len(self._text)

    def text(self) -> str:
        """Everything so far, without control sequences."""
        with self._grown:
            return _CONTROL.sub("", self._text)


class Monitor:
    """QEMU's machine protocol (docs/interop/qmp-spec in QEMU)."""

    def __init__(self, channel: socket.socket) -> None:
        self._stream = channel.makefile("rwb")
        self._lock = threading.Lock()
        self._stream.readline()
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: Any) -> Any:
        """Run a command and return what it answers."""
        with self._lock:
            self._stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            self._stream.flush()
            while line := self._stream.readline():
                answer = json.loads(line)
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    break
            reason = answer["error"]["desc"] if line else "QEMU closed the connection"
        raise HyperError(
            f"QEMU refused {command}", why=reason, remedy="read QEMU's output in the run's folder"
        )


@dataclass
class Answer:
    """What a command in the live system came to."""

    code: int
    """Exit status."""
    text: str
    """Standard output and error."""
    seconds: float
    """How long it took, by the guest's clock."""


class Job:
    """A command that runs in the live system."""

    def __init__(self, what: str, listen: Callable[[str], None] | None) -> None:
        self.what = what
        self.lines: list[str] = []
        self._listen = listen
        self._done = threading.Event()
        self._changed = threading.Condition()
        self._code = 0
        self._seconds = 0.0
        self._lost = False

    def take(self, message: dict[str, Any]) -> None:
        """One message of the agent's."""
        if "line" in message:
            with self._changed:
                self.lines.append(message["line"])
                self._changed.notify_all()
            if self._listen:
                self._listen(message["line"])
        else:
            self._code, self._seconds = message["code"], message["seconds"]
            self.end()

    def end(self, *, lost: bool = False) -> None:
        """The last message came, or the machine went away."""
        self._lost = lost
        self._done.set()
        with self._changed:
            self._changed.notify_all()

    def until(self, pattern: str, measured: float, otherwise: Callable[[], bool] = lambda: False) -> str:
        """Wait for a line of output and return it; nothing, when `otherwise` tells that none will come any more."""
        deadline = time.monotonic() + patience(measured)
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if re.search(pattern, line):
                        return line
                seen = len(self.lines)
                if otherwise():
                    return ""
                left = deadline - time.monotonic()
                if left <= 0 or self._done.is_set():
                    raise HyperError(
                        f"{self.what} did not print {pattern!r}",
                        why="\n".join(self.lines[-20:]) or "it printed nothing",
                        remedy="read the run's folder",
                    )
                self._changed.wait(min(left, 5))

    def wait(self, measured: float) -> Answer:
        """Wait for the end."""
        if not self._done.wait(patience(measured)) or self._lost:
            raise HyperError(
                f"{self.what} did not come to an end",
                why="the machine went away" if self._lost else f"{patience(measured):.0f} s passed",
                remedy="\n".join(["its last lines:", *self.lines[-20:]]),
            )
        return Answer(self._code, "\n".join(self.lines), self._seconds)


class Agent:
    """The live system's agent (tests/lab/live/agent.py)."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._jobs: dict[int, Job] = {}
        self._next = 1
        self._lock = threading.Lock()
        self.ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        pending = b""
        while True:
            try:
                data = self._channel.recv(65536)
            except OSError:
                data = b""
            if not data:
                for job in list(self._jobs.values()):
                    job.end(lost=True)
                return
            pending += data
            *lines, pending = pending.split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message.get("ready"):
                    self.ready.set()
                elif message["id"] in self._jobs:
                    self._jobs[message["id"]].take(message)

    def start(
        self,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        screen: bool = False,
        merge: bool = True,
        listen: Callable[[str], None] | None = None,
    ) -> Job:
        """Start a command; `screen` shows its lines on the machine's own screen, `merge` keeps standard error."""
        request = {"argv": list(argv), "input": stdin, "screen": screen, "merge": merge}
        return self._send(" ".join(argv), request, listen)

    def run(self, *argv: str, measured: float = 2, stdin: str | None = None, merge: bool = True) -> Answer:
        """Run a command to its end."""
        return self.start(argv, stdin=stdin, merge=merge).wait(measured)

    def shell(self, script: str, *, measured: float = 2) -> Answer:
        """Run a shell script that stops at the first failure."""
        return self.start(["bash", "-euo", "pipefail", "-c", script]).wait(measured)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file."""
        answer = self._send(f"write {path}", {"write": path, "text": text, "mode": mode}, None).wait(2)
        if answer.code != 0:
            raise HyperError(
                f"cannot write {path} in the live system", why=answer.text, remedy="look at the path"
            )

    def _send(self, what: str, request: dict[str, Any], listen: Callable[[str], None] | None) -> Job:
        job = Job(what, listen)
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._jobs[number] = job
            self._channel.sendall(json.dumps({"id": number, **request}).encode() + b"\n")
        return job
