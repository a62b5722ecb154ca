"""Runs the installer in the live system again and again: `python -m tests.trial.server FOLDER`.

What it is made of is imported once, which takes an emulated processor many seconds; each run is a process of its own,
forked off, that may be told to die. A request is a JSON object written to FOLDER/request, its answer is read from
FOLDER/answer.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hv.cli import main as hv
from installer.answers.load import load
from installer.commands import install as install_command
from installer.execute import abort, executor, headers, installation, nix_store
from installer.execute.journal import Journal
from installer.execute.live import LiveSystem
from installer.execute.unfinished import saved_plan
from installer.plan import planner
from installer.probe import probe
from installer.probe.root import LiveRoot
from tests.execute import deaths

IMPORTED = (load, install_command, abort, executor, headers, installation, nix_store, planner)
"""What `hv install` imports only when it needs it."""
KEPT = 60
"""Lines of a run's output that go into the answer."""


def main(folder: Path) -> None:
    """Serve for ever."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("request", "answer"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    probe(LiveRoot("/"))  # imports the rest
    print("ready", flush=True)
    while True:
        request = json.loads((folder / "request").read_text())
        answer = serve(request, folder / "output")
        (folder / "answer").write_text(json.dumps(answer) + "\n")


def serve(request: dict[str, Any], output: Path) -> dict[str, Any]:
    """One run of `hv` with its arguments, and what came of it."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        run(request, output)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    journal, plan = Journal(LiveSystem().journal), saved_plan(LiveSystem())
    return {
        "status": status,
        "seconds": round(time.monotonic() - began, 2),
        "text": "\n".join(output.read_text(errors="replace").splitlines()[-KEPT:]),
        "events": [[event.what, event.step] for event in journal.events],
        "finished": journal.finished,
        "steps": [[step.id, len(step.actions)] for step in plan.steps] if plan else [],
    }


def run(request: dict[str, Any], output: Path) -> None:
    """In the child: become the installer, and never come back."""
    os.setsid()
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    code = 70
    try:
        for way, given in request.get("die", {}).items():
            match way:
                case "records":
                    deaths.after_records(given)
                case "event":
                    deaths.at_event(*given)
                case "between":
                    deaths.between(*given)
                case "line":
                    deaths.at_line(given, signal.SIGKILL)
                case "inside":
                    deaths.inside(*given)
                case "later":
                    deaths.later(given)
        sys.argv = ["hv", *request["hv"]]
        code = hv()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
