"""`hv net`: networks for VMs, and changes of the host's that take themselves back."""

import argparse
import os
import sys
from pathlib import Path

from hv.firstrun.world import Journal, World, to_json
from hv.guard import processes
from hv.guard.guard import Guard, When, unguarded
from hv.guard.state import FOLDER, Last, Pending, StateFolder
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner

LOG_FILE = "/var/log/hyper-nixos/network.log"
PATH = "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv net",
        description="List networks that VMs can use; see and confirm a change of this host's network. One made while "
        "somebody is logged in over SSH goes back by itself unless it is confirmed through the new network.",
    )
    top.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="look up the host's files below DIR"
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    listed = verbs.add_parser("list", help="networks that VMs can use, by the broker; needs no root")
    listed.add_argument("--json", action="store_true", help="for programs")
    status = verbs.add_parser(
        "status", help="show whether a change waits to be confirmed, and how the last one ended"
    )
    status.add_argument("--json", action="store_true", help="for programs")
    verbs.add_parser(
        "confirm", help="keep the new network; from an SSH connection made since, or from a console"
    )
    guard = verbs.add_parser(
        "guard", help="for nixos-rebuild: arm the timer when a switch changes the network"
    )
    guard.add_argument("system", type=Path, metavar="SYSTEM", help="the system that takes over")
    guard.add_argument("action", metavar="ACTION", help="switch, test, boot or dry-activate")
    guard.add_argument(
        "--when", type=When, choices=list(When), default=When.remote, help="what has to be confirmed"
    )
    guard.add_argument("--seconds", type=int, default=600, metavar="SECONDS", help="how long a change has")
    applied = verbs.add_parser("applied", help="for the unit hyper-nixos-guard: the new system is in force")
    for below in (guard, applied):
        below.add_argument(
            "--program", default=sys.argv[0], metavar="FILE", help="the hv that the timer runs"
        )
    verbs.add_parser("revert", help="for the timer: go back now")
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    root: Path = options.root.resolve()
    if options.verb == "list":
        from hv.client import Client
        from hv.commands import vm_looking

        return vm_looking.networks(Client(), options)
    if options.verb == "status":
        return _status(root, as_json=options.json)
    if options.verb == "guard" and (unguarded() or options.action not in ("switch", "test")):
        return Exit.ok
    if os.geteuid() != 0:
        raise HyperError(
            "This changes the host and needs root.",
            why=f"the effective user id is {os.geteuid()}",
            remedy="Run it with sudo; `hv net status` needs no privilege.",
            code=Exit.privilege,
        )
    log = Log(root / LOG_FILE.lstrip("/"), Redactor())

    def emit(text: str) -> None:
        print(text, flush=True)
        log.write(text)

    runner = Runner(log, os.environ.get("PATH", PATH))
    world = World(programs=runner, root=root, journal=Journal(emit=emit))
    guard = Guard(world, program=getattr(options, "program", sys.argv[0]))
    match options.verb:
        case "guard":
            here = processes.somebody_over_ssh(processes.read(root))
            guard.before(str(options.system), options.action, options.when, options.seconds, remote=here)
        case "applied":
            guard.applied()
        case "confirm":
            guard.confirm(processes.road(root, processes.read(root), os.getpid()))
        case "revert":
            guard.revert()
    return Exit.ok


def _status(root: Path, *, as_json: bool) -> int:
    states = StateFolder(root / FOLDER.lstrip("/"))
    pending, last = states.pending(), states.last()
    if as_json:
        document = {
            "waiting": pending and pending.model_dump(mode="json"),
            "last": last and last.model_dump(mode="json"),
        }
        print(to_json(document), end="")
    else:
        print(_told(pending, last))
    return Exit.ok


def _told(pending: Pending | None, last: Last | None) -> str:
    lines = []
    if pending is None:
        lines.append("Nothing waits to be confirmed.")
    elif pending.returning:
        lines.append(f"Going back to {pending.previous}.")
    else:
        lines += [
            f"A change waits. Unless it is confirmed, it goes back at {pending.until:%H:%M:%S} UTC",
            f"  from  {pending.incoming}",
            f"  to    {pending.previous}",
            "Confirm it in a new SSH connection, or at the console: sudo hv net confirm",
        ]
    if last:
        lines.append(f"The last change: {last.outcome} at {last.at:%Y-%m-%d %H:%M:%S} UTC")
        if last.why:
            lines.append(f"  {last.why}")
    return "\n".join(lines)
