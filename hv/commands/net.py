"""`hv net`: networks for VMs, and changes of the host's that take themselves back."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from hv.firstrun.world import Journal, World, to_json
from hv.guard import processes
from hv.guard.guard import Guard, When, unguarded
from hv.guard.state import FOLDER, Last, Pending, StateFolder
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import Log, NoLog, Redactor
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

    def add(name: str, summary: str, *examples: str, changes: bool = True) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name,
            help=summary,
            description=summary[:1].upper() + summary[1:] + ".",
            epilog="Examples: " + "; ".join(examples),
        )
        made.add_argument("--json", action="store_true", help="for programs")
        if changes:
            made.add_argument("--dry-run", action="store_true", help="only say what would be done")
        return made

    add("list", "networks that VMs can use, by the broker; needs no root", "hv net list", changes=False)
    add(
        "status",
        "show whether a change waits to be confirmed, and how the last one ended",
        "hv net status",
        "hv net status --json",
        changes=False,
    )
    add(
        "confirm",
        "keep the new network; from an SSH connection made since, or from a console",
        "sudo hv net confirm",
        "hv net confirm --dry-run",
    )
    guard = add(
        "guard",
        "for nixos-rebuild: arm the timer when a switch changes the network",
        "hv net guard --dry-run /nix/var/nix/profiles/system switch",
    )
    guard.add_argument("system", type=Path, metavar="SYSTEM", help="the system that takes over")
    guard.add_argument("action", metavar="ACTION", help="switch, test, boot or dry-activate")
    guard.add_argument(
        "--when", type=When, choices=list(When), default=When.remote, help="what has to be confirmed"
    )
    guard.add_argument("--seconds", type=int, default=600, metavar="SECONDS", help="how long a change has")
    applied = add(
        "applied",
        "for the unit hyper-nixos-guard: the new system is in force",
        "hv net applied --dry-run",
    )
    for below in (guard, applied):
        below.add_argument(
            "--program", default=sys.argv[0], metavar="FILE", help="the hv that the timer runs"
        )
    add("revert", "for the timer: go back now", "sudo hv net revert", "hv net revert --dry-run")
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
    dry: bool = options.dry_run
    said: list[str] = []
    if not (options.verb == "guard" and (unguarded() or options.action not in ("switch", "test"))):
        _change(options, root, said)
    elif dry:
        said.append("This switch needs no confirmation.")
    if options.json:
        print(to_json({**_standing(root), "verb": options.verb, "dry_run": dry, "said": said}), end="")
    elif dry:
        print("\n".join(said))
    return Exit.ok


def _change(options: argparse.Namespace, root: Path, said: list[str]) -> None:
    """What the verb does; with --dry-run it writes nothing, not even to the log. Raises HyperError."""
    dry: bool = options.dry_run
    if not dry and os.geteuid() != 0:
        raise HyperError(
            "This changes the host and needs root.",
            why=f"the effective user id is {os.geteuid()}",
            remedy="Run it with sudo; `hv net status`, and --dry-run, need no privilege.",
            code=Exit.privilege,
        )
    log = NoLog() if dry else Log(root / LOG_FILE.lstrip("/"), Redactor())

    def emit(text: str) -> None:
        said.append(text)
        if not dry and not options.json:
            print(text, flush=True)
        log.write(text)

    runner = Runner(log, os.environ.get("PATH", PATH))
    world = World(programs=runner, root=root, journal=Journal(emit=emit))
    guard = Guard(world, program=getattr(options, "program", sys.argv[0]))
    match options.verb:
        case "guard":
            here = processes.somebody_over_ssh(processes.read(root))
            guard.before(
                str(options.system), options.action, options.when, options.seconds, remote=here, dry=dry
            )
        case "applied":
            guard.applied(dry=dry)
        case "confirm":
            guard.confirm(processes.road(root, processes.read(root), os.getpid()), dry=dry)
        case "revert":
            guard.revert(dry=dry)


def _standing(root: Path) -> dict[str, Any]:
    """What waits, and how the last change ended; for programs."""
    states = StateFolder(root / FOLDER.lstrip("/"))
    pending, last = states.pending(), states.last()
    return {
        "version": 1,
        "waiting": pending and pending.model_dump(mode="json"),
        "last": last and last.model_dump(mode="json"),
    }


def _status(root: Path, *, as_json: bool) -> int:
    if as_json:
        print(to_json(_standing(root)), end="")
    else:
        states = StateFolder(root / FOLDER.lstrip("/"))
        print(_told(states.pending(), states.last()))
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
