"""One installer process on a rig: `python -m tests.execute.child FOLDER [options]`. It may be told to die."""

import argparse
import os
import re
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from installer.answers.load import load
from installer.errors import HyperError
from installer.execute import actions, executor, journal, log, shared_esp
from installer.execute.abort import Giving, abort
from installer.execute.installation import Request, install
from installer.facts import Facts
from installer.medium import Medium
from installer.plan import planner
from installer.plan.storage import filesystem
from tests.execute.rig import Rig


def _die(number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def _die_after_records(count: int) -> None:
    """SIGKILL right after so many events are in the journal."""
    left = count
    record = journal.Journal.record

    def counted(self: journal.Journal, *given: Any, **named: Any) -> None:
        nonlocal left
        record(self, *given, **named)
        left -= 1
        if left == 0:
            _die()

    journal.Journal.record = counted  # type: ignore[method-assign]


def _die_at_line(pattern: str, number: signal.Signals) -> None:
    """A signal as soon as a line of the log fits: in the middle of a step."""
    write = log.Log.write

    def watched(self: log.Log, text: str) -> None:
        write(self, text)
        if re.search(pattern, text):
            _die(number)

    log.Log.write = watched  # type: ignore[method-assign]


def _die_at_event(step: str, what: str) -> None:
    """SIGKILL right after this event of this step is in the journal."""
    record = journal.Journal.record

    def watched(self: journal.Journal, *given: Any, **named: Any) -> None:
        record(self, *given, **named)
        if given[:2] == (what, step):
            _die()

    journal.Journal.record = watched  # type: ignore[method-assign]


def _die_between(step: str, count: int) -> None:
    """SIGKILL in a step when so many of its actions were carried out, and others are to come."""
    current, left = "", count
    record, act = journal.Journal.record, executor.carry_out  # type: ignore[attr-defined]

    def watched(self: journal.Journal, *given: Any, **named: Any) -> None:
        nonlocal current
        record(self, *given, **named)
        if given[0] == "started":
            current = given[1]

    def counted(action: Any, context: Any) -> None:
        nonlocal left
        act(action, context)
        if current == step:
            left -= 1
            if left == 0:
                _die()

    journal.Journal.record = watched  # type: ignore[method-assign]
    executor.carry_out = counted  # type: ignore[attr-defined]


def _die_later(seconds: float) -> None:
    """SIGKILL so long after the first event."""
    record, timer = journal.Journal.record, threading.Timer(seconds, _die)
    timer.daemon = True

    def watched(self: journal.Journal, *given: Any, **named: Any) -> None:
        record(self, *given, **named)
        if given[0] in ("begun", "resumed"):
            timer.start()

    journal.Journal.record = watched  # type: ignore[method-assign]


def fits_any_host() -> None:
    """Take a system for many hosts also where GRUB starts it: this machine's kernel may know no FAT, so no ESP."""
    planner.require_fitting = lambda *_: None  # type: ignore[attr-defined]


def fusefat() -> None:
    """Neither shows options of FAT nor says how much room there is."""
    filesystem.SHOWN -= {"fmask=0077", "dmask=0077"}
    shared_esp.shutil.disk_usage = lambda _: SimpleNamespace(free=1 << 40)  # type: ignore[attr-defined]


def main() -> int:
    """Install, and end as told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--confirm")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--die-after", type=int)
    parser.add_argument("--die-at")
    parser.add_argument("--stop-at")
    parser.add_argument("--die-event", nargs=2)
    parser.add_argument("--die-between", nargs=2)
    parser.add_argument("--die-later", type=float)
    parser.add_argument("--abort", action="store_true")
    parser.add_argument("--any-host", action="store_true")
    parser.add_argument("--fusefat", action="store_true")
    parser.add_argument("--no-put-back", action="store_true")
    parser.add_argument("--room", type=int)
    parser.add_argument("--progress", default="plain")
    options = parser.parse_args()
    if options.die_after:
        _die_after_records(options.die_after)
    if options.die_at:
        _die_at_line(options.die_at, signal.SIGKILL)
    if options.die_event:
        _die_at_event(*options.die_event)
    if options.die_between:
        _die_between(options.die_between[0], int(options.die_between[1]))
    if options.die_later is not None:
        _die_later(options.die_later)
    if options.stop_at:
        _die_at_line(options.stop_at, signal.SIGTERM)
    if options.any_host:
        fits_any_host()
    if options.fusefat:
        fusefat()
    if options.room:
        clear, room = actions.clear_target, options.room  # type: ignore[attr-defined]
        actions.clear_target = lambda live, root, keep, _: clear(live, root, keep, room)  # type: ignore[attr-defined, assignment]
    if options.no_put_back:
        actions.put_back_foreign = lambda *_: None  # type: ignore[attr-defined]
    folder: Path = options.folder
    try:
        if options.abort:
            return abort(Giving(confirm=options.confirm, live=Rig(folder, "").live))
        return install(
            Request(
                answers=load((folder / "answers.json").read_bytes(), "answers.json"),
                answers_file="answers.json",
                medium=Medium.model_validate_json((folder / "medium.json").read_bytes()),
                probe=lambda: Facts.model_validate_json((folder / "facts.json").read_bytes()),
                confirm=options.confirm,
                fresh=options.fresh,
                progress=options.progress,
                live=Rig(folder, "").live,
            )
        )
    except HyperError as error:
        print(f"{error.what}\n  why: {error.why}\n  do:  {error.remedy}", file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(main())
