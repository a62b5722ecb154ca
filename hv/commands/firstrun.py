"""`hv firstrun`: see and steer what an installed host does at its first boot."""

import argparse
import os
from pathlib import Path

from pydantic import ValidationError

from hv.firstrun import console
from hv.firstrun.catalogue import jobs_of
from hv.firstrun.engine import Engine
from hv.firstrun.jobs import Job, dependants, find
from hv.firstrun.state import SETTLED, STATE_FOLDER, JobState, StateFolder, Status
from hv.firstrun.status import LOG_FILE, document, exit_code, table
from hv.firstrun.world import LIBVIRT_URI, Journal, World, require_root, to_json
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import Log, NoLog, Redactor
from installer.execute.runner import Runner
from installer.facts import Facts
from installer.handoff import HANDOFF_PATH, Handoff, HandoffVm

PATH = "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv firstrun",
        description="See and steer what an installed host does at its first boot.",
        epilog="Exit codes: 0 every job is done or skipped; 9 at least one is not; 10 not root; see docs.",
    )
    top.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="look up the host's files below DIR"
    )
    top.add_argument(
        "--connect", default=LIBVIRT_URI, metavar="URI", help="libvirt to use (default: %(default)s)"
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser(
        "run", help="run every job that is not done; the service hyper-nixos-firstrun does this"
    )
    status = verbs.add_parser("status", help="show where each job stands, and why; needs no privilege")
    status.add_argument("--json", action="store_true", help="for programs")
    retry = verbs.add_parser("retry", help="run one job again, even a done one, and all that is not done")
    retry.add_argument("job", metavar="JOB")
    verbs.add_parser(
        "renew",
        help="make the host's certificate anew in its last year; the service hyper-nixos-certificate does this every week",
    )
    skip = verbs.add_parser("skip", help="go on without a job")
    skip.add_argument("job", metavar="JOB")
    skip.add_argument("--reason", required=True, metavar="TEXT", help="kept, and shown by status")
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    root: Path = options.root.resolve()
    states = StateFolder(root / STATE_FOLDER.lstrip("/"))
    handoff = read_handoff(root)
    jobs = jobs_of(handoff)
    if options.verb == "status":
        return _status(handoff, jobs, states, as_json=options.json)
    require_root("Changing the host", "Run it with sudo; `hv firstrun status` needs no privilege.")
    with states.lock():
        match options.verb:
            case "renew":
                return _renew(root, jobs, states)
            case "retry":
                _reset(jobs, states, options.job)
            case "skip":
                reason = f"passed over: {options.reason}"
                find(jobs, options.job)
                states.write(JobState(job=options.job, status=Status.skipped, reason=reason))
                _say(f"{options.job}: skipped")
                return Exit.ok
        return _run(root, options.connect, handoff, jobs, states)


def read_handoff(root: Path) -> Handoff:
    """What the installer left below this root."""
    path = root / HANDOFF_PATH.lstrip("/")
    remedy = f"A copy is in the installation's log, /var/log/hyper-nixos; put it back at {HANDOFF_PATH}."
    try:
        return Handoff.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise HyperError(
            "There is no first run on this host.",
            why=f"{path} does not exist: it was not installed by `hv install`",
            remedy="Nothing is to be done, unless the file was lost. " + remedy,
        ) from error
    except PermissionError as error:
        raise HyperError(
            "The hand-off cannot be read.", why=str(error), remedy="Use sudo.", code=Exit.privilege
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise HyperError(
            "The hand-off is damaged.", why=f"{path}: {place}: {first['msg']}", remedy=remedy
        ) from error


def _status(handoff: Handoff, jobs: tuple[Job, ...], states: StateFolder, *, as_json: bool) -> int:
    found = tuple(states.read(job.name) for job in jobs)
    print(
        to_json(document(handoff.hostname, found)) if as_json else table(handoff.hostname, found) + "\n",
        end="",
    )
    return exit_code(found)


def _reset(jobs: tuple[Job, ...], states: StateFolder, name: str) -> None:
    """Forget that the job, and whatever needs it and is not done, was tried."""
    job = find(jobs, name)
    waiting = [other for other in dependants(jobs, name) if states.read(other.name).status not in SETTLED]
    for each in (job, *waiting):
        states.write(JobState(job=each.name, attempts=states.read(each.name).attempts))


def _renew(root: Path, jobs: tuple[Job, ...], states: StateFolder) -> int:
    """The certificate alone: no other job is begun by it, and none that somebody has passed over."""
    job = find(jobs, "certificate")
    if (status := states.read(job.name).status) is not Status.done:
        _say(f"certificate: left alone, its job is {status}")
        return Exit.ok
    world = World(
        programs=Runner(NoLog(), os.environ.get("PATH", PATH)), root=root, journal=Journal(emit=_say)
    )
    job.run(world)
    job.verify(world)
    return Exit.ok


def _run(root: Path, uri: str, handoff: Handoff, jobs: tuple[Job, ...], states: StateFolder) -> int:
    log = Log(root / LOG_FILE.lstrip("/"), Redactor())

    def emit(line: str) -> None:
        _say(line)
        log.write(line)

    runner = Runner(log, os.environ.get("PATH", PATH))
    world = World(
        programs=runner,
        root=root,
        uri=uri,
        probe=_probe,
        image=_image,
        sign=_sign,
        journal=Journal(emit=emit),
    )
    engine = Engine(jobs, handoff, world, states, console.announce(world))
    if all(state.status in SETTLED for state in engine.all_states()):
        # A boot after the one that settled everything: the login prompt says who this is, and no more.
        console.settle(world)
        _say("first run: nothing left to do")
        return Exit.ok
    found = engine.run()
    emit(f"first run: {sum(state.status in SETTLED for state in found)} of {len(found)} jobs settled")
    log.close()
    return exit_code(found)


def _say(line: str) -> None:
    print(line, flush=True)


def _sign(world: World, hostname: str) -> tuple[str, ...]:
    from hv.secure_boot.host import first_signed

    return first_signed(world, hostname)


def _image(world: World, vm: HandoffVm) -> tuple[Path, str]:
    # Reaching servers costs imports too.
    from hv.images.wanted import fetch_for

    return fetch_for(world, vm)


def _probe(root: Path) -> Facts:
    # The probe loads udev and more, which status and skip do without.
    from installer.probe import probe
    from installer.probe.root import LiveRoot

    return probe(LiveRoot(str(root)))
