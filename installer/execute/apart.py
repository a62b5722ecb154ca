"""An installation that runs apart from the screen that it was begun on: losing the terminal does not end it.

A supervisor of its own session (and, where systemd runs, of its own unit) starts the installer, keeps what it says in a
file, and adds how it ended. Any number of screens can follow that file.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from installer.errors import Exit, HyperError
from installer.execute.disclosure import EVENT, Disclosure, waiting_key
from installer.execute.live import LiveSystem
from installer.execute.progress import Moment, Screen
from installer.plan.model import Plan, Step

UNIT = "hyper-nixos-install"
_POLL = 0.2
_NOT_BEGUN = Step(id="starting", summary="Starting", actions=(), checks=())


def said(live: LiveSystem) -> Path:
    """File with what the installation says, one JSON object a line."""
    return live.runtime / "said.jsonl"


def _mine(live: LiveSystem) -> Path:
    return live.runtime / "apart.pid"


def start(live: LiveSystem, arguments: Sequence[str]) -> None:
    """Begin an installation with `hv install ARGUMENTS`, and return at once.

    Raises:
        HyperError: one runs already (Exit.busy), or none can be started.
    """
    if running(live):
        raise HyperError(
            "an installation is under way already",
            why=f"process {_mine(live).read_text().strip()} carries it out",
            remedy="look at it with `hv install --attach`",
            code=Exit.busy,
        )
    live.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    said(live).write_text("")
    said(live).chmod(0o600)
    supervisor = [sys.executable, "-m", __name__, str(live.runtime), *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if Path("/run/systemd/system").is_dir():
        # The unit of the screen that it was begun on may be stopped, and all its processes with it.
        kept = [
            f"--setenv={name}={environment[name]}"
            for name in ("PATH", "PYTHONPATH", "LANG")
            if name in environment
        ]
        command = ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", *kept, "--", *supervisor]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HyperError(
                "the installation could not be started",
                why=f"systemd-run: {done.stderr.strip()}",
                remedy=f"see `systemctl status {UNIT}`; or run it by hand: hv install {' '.join(arguments)}",
            )
    else:
        subprocess.Popen(
            supervisor,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def running(live: LiveSystem) -> bool:
    """Whether a supervisor is at work: it holds a lock, which the kernel drops when it ends, however it ends."""
    try:
        with _mine(live).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def supervised(live: LiveSystem) -> bool:
    """Whether this process was started by the supervisor of an installation that runs apart."""
    try:
        return int(_mine(live).read_text()) == os.getppid()
    except (OSError, ValueError):
        return False


def follow(
    live: LiveSystem,
    screen: Callable[[Callable[[], int]], Screen],
    patience: float = 30.0,
    disclosure: Disclosure | None = None,
) -> int:
    """Show an installation that runs apart, from its beginning to its end; its exit code.

    Args:
        live: Where it runs.
        screen: Makes the screen.
        patience: Seconds to wait for a supervisor.
        disclosure: Where a recovery key is shown; none: it is left for another screen.

    Raises:
        HyperError: there is none, or it vanished without saying how it ended.
        KeyboardInterrupt: the person looks away; it goes on.
    """
    if not said(live).exists():
        raise HyperError(
            "no installation was begun here",
            why=f"{said(live)} does not exist",
            remedy="begin one: `hv install`",
        )
    steps: tuple[Step, ...] = ()
    shown = screen(lambda: len(steps))
    events = _events(live, patience)
    while True:
        with shown.shown():
            for event in events:
                if event["event"] == "ended":
                    if event["error"]:
                        shown.say(event["error"])
                    return int(event["code"])
                if event["event"] == EVENT:
                    break
                steps = steps or _steps(live)
                _show(shown, event, steps)
            else:
                break
        _disclose(live, shown, disclosure)
    raise HyperError(
        "the installation vanished",
        why="its supervisor is gone and did not say how it ended; the machine may have been short of memory",
        remedy="run the same installation again: it goes on after the last step that was verified",
    )


def _disclose(live: LiveSystem, screen: Screen, disclosure: Disclosure | None) -> None:
    """Show the recovery key that waits, and take it away once somebody has it."""
    place = waiting_key(live)
    try:
        host, key = place.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        screen.say("The recovery key was shown on another screen.")
        return
    if disclosure is None or (reason := disclosure.obstacle()):
        reason = "it cannot be shown here" if disclosure is None else reason
        screen.say(f"The recovery key waits for a terminal: {reason}. See it with: hv install --attach")
        return
    disclosure.show(host, key)
    place.unlink(missing_ok=True)


def _steps(live: LiveSystem) -> tuple[Step, ...]:
    try:
        return Plan.model_validate_json(live.plan.read_bytes()).steps
    except (OSError, ValueError):
        return ()


def _show(screen: Screen, event: dict[str, Any], steps: tuple[Step, ...]) -> None:
    number = event.get("number", 0)
    step = steps[number - 1] if 0 < number <= len(steps) else _NOT_BEGUN
    at = Moment(number, step, event.get("percent", 0.0))
    match event["event"]:
        case "step":
            screen.step(at, event["state"])
        case "progress":
            screen.inside(at, event["fraction"], event["text"])
        case "alive":
            screen.tick(event["percent"])
        case "message":
            screen.say(event["text"])


def _events(live: LiveSystem, patience: float) -> Iterator[dict[str, Any]]:
    """What is said, as it is said; ends when nothing more can come."""
    began = time.monotonic()
    alive = False
    with said(live).open(encoding="utf-8") as lines:
        rest = ""
        while True:
            rest += lines.readline()
            if rest.endswith("\n"):
                yield json.loads(rest)
                rest = ""
                continue
            now = running(live)
            if not now and (alive or time.monotonic() - began > patience):
                # What it said last may have come between the two looks.
                rest += lines.read()
                for line in rest.splitlines():
                    yield json.loads(line)
                return
            alive = alive or now
            time.sleep(_POLL)


def supervise(live: LiveSystem, command: Sequence[str]) -> int:
    """Run the installer to its end, and write down how it ended."""
    with _mine(live).open("a+") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        mine.truncate(0)
        mine.write(str(os.getpid()))
        mine.flush()
        with said(live).open("ab", buffering=0) as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, check=False
            )
            error = done.stderr.decode("utf-8", "replace").strip()
            output.write(
                json.dumps({"event": "ended", "code": done.returncode, "error": error}).encode() + b"\n"
            )
        _mine(live).unlink(missing_ok=True)
    return done.returncode


if __name__ == "__main__":
    runtime, *arguments = sys.argv[1:]
    sys.exit(
        supervise(
            LiveSystem(runtime=Path(runtime)),
            [sys.executable, "-m", "hv", "install", *arguments, "--progress", "json"],
        )
    )
