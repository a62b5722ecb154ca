"""`hv security`: the two phases of a host, and how well it is protected."""

import argparse
import os
import sys
from pathlib import Path

from hv.firstrun.world import Journal, World, require_root, to_json
from hv.guard import processes
from hv.guard.guard import Guard, span
from hv.guard.state import FOLDER, Pending, StateFolder
from hv.security import phases, switching, table
from hv.security.phases import Standing
from installer.answers.model import SECURITY_PROFILES
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import Log, NoLog, Redactor
from installer.execute.runner import Runner

LOG_FILE = "/var/log/hyper-nixos/security.log"
PATH = "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 600


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv security",
        description="See and change the phase of this host, and check how well it is protected.",
        epilog="Exit codes: 0 done; 1 failed; 8 somebody would be locked out; 10 not root; see docs.",
    )
    top.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="look up the host's files below DIR"
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    phase = verbs.add_parser("phase", help="show where the host stands, and what the other phase changes")
    phase.add_argument("--all", action="store_true", help="each difference, not only how many")
    phase.add_argument("--json", action="store_true", help="for programs")
    harden = verbs.add_parser(
        "harden", help="raise the phase to hardened; it goes back unless it is confirmed in time"
    )
    harden.add_argument(
        "--profile", choices=SECURITY_PROFILES, help="how far it goes; by default what the host declares"
    )
    harden.add_argument(
        "--seconds",
        type=int,
        default=SECONDS,
        metavar="SECONDS",
        help="how long it has before it goes back (default: %(default)s)",
    )
    verbs.add_parser(
        "confirm", help="keep what harden tried; from an SSH connection made since, or from a console"
    )
    verbs.add_parser("revert", help="go back at once to what ran before harden")
    verbs.add_parser("relax", help="go back to phase setup, at once and for good; it is recorded")
    verbs.add_parser(
        "recovery-key",
        help="make a new recovery key for the encrypted disks, and show it once; the one before opens nothing any more",
    )
    audit = verbs.add_parser(
        "audit", help="check how well the running host is protected; exit code 1 for faults"
    )
    audit.add_argument("--all", action="store_true", help="what passed too")
    forms = audit.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="for programs")
    forms.add_argument("--sarif", action="store_true", help="as SARIF 2.1.0, for what gathers findings")
    for below in verbs.choices.values():
        below.set_defaults(program=sys.argv[0])
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    root: Path = options.root.resolve()
    if options.verb == "phase":
        # Nothing is run and nothing kept: no log either.
        quiet = World(programs=Runner(NoLog(), PATH), root=root, journal=Journal())
        return _phase(quiet, everything=options.all, as_json=options.json)
    if options.verb == "audit":
        require_root("Looking everywhere")
        quiet = World(programs=Runner(NoLog(), os.environ.get("PATH", PATH)), root=root, journal=Journal())
        return _audit(quiet, everything=options.all, as_json=options.json, as_sarif=options.sarif)
    if options.verb == "recovery-key":
        require_root("Changing what opens the disks")
        return _recovery_key(root)
    require_root("Changing the host's phase", "Run it with sudo; `hv security phase` needs no privilege.")
    world = changing(root, LOG_FILE)
    guard = Guard(world, program=options.program)
    match options.verb:
        case "harden":
            if switching.harden(world, guard, options.profile, options.seconds):
                world.say(
                    f"Phase hardened is in force, for now. It goes back in {span(options.seconds)} unless somebody opens a NEW\n"
                    "SSH connection to this host, or logs in at its console, and runs there:\n"
                    "  sudo hv security confirm"
                )
        case "confirm":
            guard.confirm(processes.road(root, processes.read(root), os.getpid()))
        case "revert":
            if guard.states.pending() is None:
                world.say("Nothing waits to be confirmed.")
            guard.revert()
        case "relax":
            if switching.relax(world, guard):
                world.say(
                    "Phase setup runs, and boots next. What the kernel keeps until then: hv security phase"
                )
    return Exit.ok


def _recovery_key(root: Path) -> int:
    from getpass import getpass

    from hv.security import recovery_key
    from installer.guided.recovery_screen import OnTerminal

    screen = OnTerminal()
    if reason := screen.obstacle():
        raise HyperError(
            "The recovery key could not be shown to anybody.",
            why=f"{reason}, and it is written nowhere",
            remedy="Log in at the console, or with `ssh -t`, and run it there. Nothing was changed.",
            code=Exit.usage,
        )
    # No log: what opens the disks is in none.
    runner = Runner(NoLog(), os.environ.get("PATH", PATH))
    world = World(programs=runner, root=root, journal=Journal(emit=print))
    count = len(recovery_key.disks(world))
    passphrase = getpass(f"Passphrase, or recovery key, of {count} encrypted disk{'s' * (count > 1)}: ")
    dead = recovery_key.renew(world, runner, passphrase.encode(), screen.taken_down)
    print("The new recovery key opens the disks; the one before opens nothing any more.")
    if dead:
        print(f"Nor does what was sealed when the host was installed; remove it: {', '.join(dead)}")
    return Exit.ok


def _audit(world: World, *, everything: bool, as_json: bool, as_sarif: bool) -> int:
    from hv.security.audit import report
    from hv.security.audit.view import View
    from installer import VERSION

    name = world.path("/proc/sys/kernel/hostname")
    hostname = name.read_text(encoding="utf-8").strip() if name.is_file() else "host"
    results = report.audit(View(world))
    if as_json:
        print(to_json(report.document(results, hostname)), end="")
    elif as_sarif:
        print(to_json(report.sarif(results, hostname, VERSION)), end="")
    else:
        print(report.text(results, hostname, everything=everything), end="")
    return Exit.failed if any(each.verdict is report.Verdict.failed for each in results) else Exit.ok


def changing(root: Path, log_file: str) -> World:
    """A world whose journal goes to the terminal and to a log."""
    log = Log(root / log_file.lstrip("/"), Redactor())

    def emit(text: str) -> None:
        print(text, flush=True)
        log.write(text)

    return World(programs=Runner(log, os.environ.get("PATH", PATH)), root=root, journal=Journal(emit=emit))


def _phase(world: World, *, everything: bool, as_json: bool) -> int:
    standing = phases.stand(world)
    waiting = StateFolder(world.path(FOLDER)).pending()
    if as_json:
        print(to_json(_document(standing, waiting)), end="")
    else:
        print("\n".join(_told(standing, waiting, everything=everything)))
    return Exit.ok


def _difference(standing: Standing) -> dict[str, dict[str, object]]:
    now, other = standing.running, standing.other
    if not (now and other and now.description and other.description):
        return {}
    return table.changed(now.description.table, other.description.table)


def _document(standing: Standing, waiting: Pending | None) -> dict[str, object]:
    def plain(system: phases.System | None) -> dict[str, object] | None:
        if system is None:
            return None
        return {"phase": system.phase, "profile": system.profile, "system": str(system.toplevel)}

    return {
        "version": 1,
        "running": plain(standing.running),
        "built": [plain(each) for each in standing.systems],
        "boots": plain(standing.boots),
        "declared": standing.declared,
        "not_in_force": list(standing.missing),
        "waiting": waiting and waiting.model_dump(mode="json"),
        "other_changes": _difference(standing),
    }


def _told(standing: Standing, waiting: Pending | None, *, everything: bool) -> list[str]:
    now, other = standing.running, standing.other
    lines = [
        f"Phase:     {now.title if now else 'unknown: the running system does not say'}",
        f"Next boot: {standing.boots.title if standing.boots else 'unknown: the boot loader does not say'}",
        f"Declared:  {standing.declared or 'unknown: /etc/nixos/phase.nix is not as we write it'}",
    ]
    if waiting:
        lines += [
            f"Waiting:   {waiting.what or waiting.kind}, until {waiting.until:%H:%M:%S} UTC; then it goes back",
            "           Confirm it from a new SSH connection: sudo hv security confirm",
        ]
    if standing.missing:
        lines += ["", "Not in force (a kernel keeps some things until the next boot):"]
        lines += [f"  {each}" for each in standing.missing]
    changes = _difference(standing)
    if other and now and now.description and changes:
        assert other.description is not None
        lines += ["", f"What {other.title} has otherwise:", ""]
        if everything:
            lines += table.lines(now.description.table, other.description.table)
        else:
            for kind, names in changes.items():
                title = table.KINDS.get(kind, (kind, ""))[0]
                lines.append(f"  {title:<45}{len(names):>4}")
            lines += ["", "Each of them: hv security phase --all"]
    elif other is None:
        lines += ["", "No other phase is built on this host."]
    if now and other:
        lines.append(
            "Raise it: sudo hv security harden"
            if now.phase == "setup"
            else "Lower it: sudo hv security relax"
        )
    return lines
