"""One installer process on a rig: `python -m tests.execute.child FOLDER [options]`. It may be told to die."""

import argparse
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

from installer.answers.load import load
from installer.errors import HyperError
from installer.execute import actions, shared_esp
from installer.execute.abort import Giving, abort
from installer.execute.installation import Request, install
from installer.facts import Facts
from installer.medium import Medium
from installer.plan import planner
from installer.plan.storage import filesystem
from tests.execute import deaths
from tests.execute.rig import Rig


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
        deaths.after_records(options.die_after)
    if options.die_at:
        deaths.at_line(options.die_at, signal.SIGKILL)
    if options.die_event:
        deaths.at_event(*options.die_event)
    if options.die_between:
        deaths.between(options.die_between[0], int(options.die_between[1]))
    if options.die_later is not None:
        deaths.later(options.die_later)
    if options.stop_at:
        deaths.at_line(options.stop_at, signal.SIGTERM)
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
