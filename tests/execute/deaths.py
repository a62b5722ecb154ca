"""Ways for an installer to die: each changes the running process, so that it is killed at a chosen moment."""

import os
import re
import signal
import threading
import time
from typing import Any

from installer.execute import executor, journal, log, runner


def die(number: signal.Signals = signal.SIGKILL) -> None:
    """Now."""
    os.kill(os.getpid(), number)


def after_records(count: int) -> None:
    """SIGKILL right after so many events are in the journal."""
    left = count
    record = journal.Journal.record

    def counted(self: journal.Journal, *given: Any, **named: Any) -> None:
        nonlocal left
        record(self, *given, **named)
        left -= 1
        if left == 0:
            die()

    journal.Journal.record = counted  # type: ignore[method-assign]


def at_line(pattern: str, number: signal.Signals) -> None:
    """A signal as soon as a line of the log fits: in the middle of a step; it comes to the thread that writes the line."""
    write = log.Log.write

    def watched(self: log.Log, text: str) -> None:
        write(self, text)
        if re.search(pattern, text):
            signal.pthread_kill(threading.get_ident(), number)

    log.Log.write = watched  # type: ignore[method-assign]


def at_event(step: str, what: str) -> None:
    """SIGKILL right after this event of this step is in the journal."""
    record = journal.Journal.record

    def watched(self: journal.Journal, *given: Any, **named: Any) -> None:
        record(self, *given, **named)
        if given[:2] == (what, step):
            die()

    journal.Journal.record = watched  # type: ignore[method-assign]


def between(step: str, count: int) -> None:
    """SIGKILL in a step when so many of its actions were carried out, and others are to come."""
    current, left = threading.local(), count
    record, act = journal.Journal.record, executor.carry_out  # type: ignore[attr-defined]

    def watched(self: journal.Journal, *given: Any, **named: Any) -> None:
        record(self, *given, **named)
        if given[0] == "started":
            current.step = given[1]

    def counted(action: Any, context: Any) -> None:
        nonlocal left
        act(action, context)
        if getattr(current, "step", "") == step:
            left -= 1
            if left == 0:
                die()

    journal.Journal.record = watched  # type: ignore[method-assign]
    executor.carry_out = counted  # type: ignore[attr-defined]


def inside(step: str, seconds: float) -> None:
    """SIGKILL so long after a step started its first program, while that runs.

    A step that runs none is killed when all its actions were carried out, and the journal does not say so yet.
    """
    current = threading.local()  # steps of several disks go on side by side
    record, start = journal.Journal.record, runner.Runner._start

    def watched(self: journal.Journal, *given: Any, **named: Any) -> None:
        if given[:2] == ("done", step):
            die()
        record(self, *given, **named)
        if given[0] == "started":
            current.step = given[1]

    def started(self: runner.Runner, *given: Any) -> Any:
        process = start(self, *given)
        if getattr(current, "step", "") == step:
            time.sleep(seconds)
            die()
        return process

    journal.Journal.record = watched  # type: ignore[method-assign]
    runner.Runner._start = started  # type: ignore[method-assign, assignment]


def later(seconds: float) -> None:
    """SIGKILL so long after the first event."""
    record, timer = journal.Journal.record, threading.Timer(seconds, die)
    timer.daemon = True

    def watched(self: journal.Journal, *given: Any, **named: Any) -> None:
        record(self, *given, **named)
        if given[0] in ("begun", "resumed"):
            timer.start()

    journal.Journal.record = watched  # type: ignore[method-assign]
