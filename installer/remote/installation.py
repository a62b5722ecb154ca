"""One installation of another machine: the same answers, plan, confirmation and installer as at its own keyboard.

Everything is planned and done there, by the installer of its live system; here are only the answers, and the eyes. The
installation runs apart from the connection, so losing it does no harm.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from installer.answers.load import parse
from installer.errors import Exit, HyperError
from installer.execute.interrupts import ended_by_signals
from installer.execute.runner import Runner
from installer.remote.connection import LOST, Connection, connected
from installer.remote.host_key import pin
from installer.remote.kexec import start_kexec
from installer.remote.target import (
    ANSWERS,
    FOLDER,
    LOOK,
    Seen,
    hv,
    parse_look,
    parse_target,
    secret_files,
    sent_answers,
)

RECONNECTS = 60
"""How often a lost connection is tried again before it is left alone."""
PAUSE = 5.0


@dataclass(frozen=True)
class Remote:
    """What was asked for."""

    target: str
    """ssh://root@host."""
    answers: Path | None
    """Answer file here; none: only look at what runs there."""
    runner: Runner
    """Runs OpenSSH's tools."""
    host_key: str | None = None
    """Fingerprint of its key."""
    identity: str | None = None
    """Private key to log in with."""
    plan: bool = False
    """Show the plan alone."""
    json: bool = False
    """The plan for programs."""
    confirm: str | None = None
    """Token of the plan."""
    fresh: bool = False
    """Forget an interrupted installation there."""
    attach: bool = False
    """Look at the installation that is under way there."""
    kexec: Path | None = None
    """Our live system's kexec tree, to start on a machine that runs something else."""
    sleep: Callable[[float], None] = field(default=time.sleep)
    """Waits."""


def install_there(request: Remote) -> int:
    """Connect, send, plan, and install when the plan is confirmed. The exit code is the installer's there.

    Raises:
        HyperError: it cannot be reached, is not the right machine, or does not run our live system.
    """
    target = parse_target(request.target)
    with ended_by_signals(), TemporaryDirectory(prefix="hv-ssh-") as temporary:
        folder = Path(temporary)
        known = pin(request.runner, target, request.host_key, folder)
        connection = Connection(target, known, folder / "control", request.identity)
        with connected(connection):
            if request.attach:
                return _watch(request, connection)
            seen = parse_look(connection.output(LOOK))
            if not seen.medium:
                _take_over(request, connection, seen)
                connection.open()
            if request.answers is None:
                print("Nothing is installed yet: run it again with --answers FILE.")
                return Exit.ok
            return _install(request, connection, request.answers)


def _install(request: Remote, connection: Connection, answers: Path) -> int:
    _send(connection, answers)
    words = ["install", "--answers", ANSWERS]
    if request.plan or request.confirm is None:
        # Whether the answers consent by themselves is for the installer there to say.
        if request.plan:
            return connection.show(hv(*words, "--plan", *(["--json"] if request.json else [])))
        consents = parse(answers.read_bytes(), answers.name).get("storage", {}).get("destroy") == "matched"
        if not consents:
            status = connection.show(hv(*words, "--plan"))
            if status == 0:
                print("Nothing was written. Run it again with --confirm and the token to install.")
                return Exit.consent
            return status
    confirmed = ["--confirm", request.confirm] if request.confirm else []
    status = connection.show(hv(*words, *confirmed, *(["--fresh"] if request.fresh else []), "--apart"))
    if status:
        return status
    print("The installation runs apart from this connection: losing it does no harm.")
    sys.stdout.flush()
    return _watch(request, connection)


def _watch(request: Remote, connection: Connection) -> int:
    """Show it to its end, through as many connections as that takes."""
    command = hv("install", "--attach", *([] if sys.stdout.isatty() else ["--plain"]))
    for attempt in range(RECONNECTS):
        if attempt:
            request.sleep(PAUSE)
            print("The connection is lost; the installation goes on. Trying again …", flush=True)
            connection.close()
        status = connection.show(command, terminal=sys.stdout.isatty())
        if status != LOST:
            return status
    raise HyperError(
        f"the connection to {connection.target.host} is lost",
        why="it did not come back; the installation does not need it",
        remedy=f"look again later: `hv install --target {request.target} --attach`",
        code=Exit.failed,
    )


def _send(connection: Connection, answers: Path) -> None:
    """Answers and secrets, into the target's memory, readable for root alone."""
    raw = parse(answers.read_bytes(), answers.name)
    connection.output(f"umask 077 && rm -rf {FOLDER} && mkdir -p {FOLDER}")
    places = {}
    for number, name in enumerate(secret_files(raw)):
        # What is not here is expected to be there.
        if Path(name).is_file():
            places[name] = f"{FOLDER}/secret-{number}"
            connection.output(f"umask 077 && cat > {places[name]}", Path(name).read_bytes())
    connection.output(f"umask 077 && cat > {ANSWERS}", sent_answers(raw, places))


def _take_over(request: Remote, connection: Connection, seen: Seen) -> None:
    if request.kexec is not None:
        answers = parse(request.answers.read_bytes(), request.answers.name) if request.answers else {}
        start_kexec(connection, seen, request.kexec, network="network" in answers)
        return
    raise HyperError(
        f"our live system does not run on {connection.target.host}",
        why=f"it runs {seen.system} on {seen.processor}",
        remedy="start it from our medium; or, when nothing that runs there is needed any more, have our live system "
        "take its place in memory: build it with `nix build .#kexec`, and add `--kexec result`",
        code=Exit.unsuitable,
    )
