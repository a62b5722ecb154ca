"""`hv setup`: later changes of what the host is."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hv.firstrun.world import Journal, World, require_root, to_json
from installer.command_line import Parser
from installer.errors import Exit, HyperError

if TYPE_CHECKING:
    from hv.guard.state import Pending
    from hv.setup.change import Looked, Setup
    from hv.setup.proposal import Proposal
    from installer.facts import Facts
    from installer.guided.plain import Plain
    from installer.guided.screen import Screen

LOG_FILE = "/var/log/hyper-nixos/setup.log"
PATH = "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 600
PAGES = ("network", "users", "host", "ssh", "hypervisor", "limits", "security")
"""As `hv.setup.pages` has them; a test compares."""
VERBS = ("apply", "confirm", "cancel", "history", "revert", "status")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv setup",
        description="Change what this host is, page by page or by single fields. The change is shown, built and tried; unless "
        "it is confirmed in time, the host goes back by itself. What is declared is in /etc/nixos/host.toml.",
        epilog="Exit codes: 0 done, or nothing to do; 3 the declaration is not right; 8 somebody would be locked out; "
        "10 not root; 11 another change is going on; see docs.",
    )
    top.add_argument(
        "what",
        nargs="?",
        choices=(*PAGES, *VERBS),
        metavar="WHAT",
        help=f"a page to begin with: {', '.join(PAGES)}. Or `apply`: put what was changed in host.toml by hand into force; "
        "`confirm`: keep what is tried, from an SSH connection made since, or from a console; `cancel`: take it back now; "
        "`status`: what waits; `history`: all changes; `revert`: undo one of them",
    )
    top.add_argument("number", nargs="?", type=int, metavar="N", help="with `revert`: which change")
    top.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change one field without asking, `ssh.port=2222`, `users.alice.shell=zsh`; empty takes it out; may be repeated",
    )
    top.add_argument("--file", type=Path, metavar="FILE", help="take this as the whole declaration")
    top.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    top.add_argument(
        "--fast", action="store_true", help="with --dry-run: the files alone, without asking Nix"
    )
    top.add_argument("--json", action="store_true", help="for programs")
    top.add_argument("--plain", action="store_true", help="ask line by line, for screen readers")
    top.add_argument(
        "--seconds",
        type=int,
        default=SECONDS,
        metavar="SECONDS",
        help="how long a change has before it goes back (default: %(default)s)",
    )
    top.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="look up the host's files below DIR"
    )
    top.add_argument(
        "--machine", type=Path, metavar="RECORD", help="with --dry-run: ask as on this recorded machine"
    )
    return top


def main(argv: list[str]) -> int:
    """Run it; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    _require_fitting(options)
    with _setup(options) as setup:
        match options.what:
            case "status":
                return _status(setup, as_json=options.json)
            case "history":
                return _history(setup, as_json=options.json)
            case "confirm":
                from hv.guard import processes

                root = setup.world.root
                setup.guard.confirm(processes.road(root, processes.read(root), os.getpid()))
                return Exit.ok
            case "cancel":
                if setup.guard.states.pending() is None:
                    setup.world.say("Nothing waits to be confirmed.")
                setup.guard.revert()
                return Exit.ok
        if options.dry_run:
            with tempfile.TemporaryDirectory(prefix="hv-setup-") as folder:
                return _change(options, setup, Path(folder) / "candidate")
        from hv.setup.change import WORK

        with setup.alone():
            return _change(options, setup, setup.world.path(f"{WORK}/candidate"))


def _require_fitting(options: argparse.Namespace) -> None:
    asks = options.what is None or options.what in PAGES
    problem = None
    if options.what == "revert" and options.number is None:
        problem = "`revert` takes the number of a change"
    elif options.number is not None and options.what != "revert":
        problem = "a number belongs to `revert` alone"
    elif (options.set or options.file) and options.what is not None:
        problem = f"--set and --file are a change themselves, and `{options.what}` is another"
    elif options.fast and not options.dry_run:
        problem = "--fast belongs to --dry-run: what is tried is always evaluated first"
    elif options.machine and not options.dry_run:
        problem = "--machine belongs to --dry-run"
    elif options.json and asks and not (options.set or options.file):
        problem = "--json cannot ask: say the change with --set or --file, or use `apply`"
    if problem:
        raise HyperError(
            "hv setup: that does not go together",
            why=problem,
            remedy="see: hv setup --help",
            code=Exit.usage,
        )
    if not options.dry_run and options.what not in ("status", "history"):
        require_root(
            "Changing the host",
            "Run it with sudo; --dry-run, `status` and `history` need no privilege.",
        )


@contextmanager
def _setup(options: argparse.Namespace) -> "Iterator[Setup]":
    from hv.guard.guard import Guard
    from hv.setup.change import Setup
    from installer.execute.log import Log, NoLog, Redactor
    from installer.execute.runner import Runner
    from installer.migrate.evaluation import Evaluator

    root: Path = options.root.resolve()
    quiet = options.dry_run or options.what in ("status", "history")
    log = NoLog() if quiet else Log(root / LOG_FILE.lstrip("/"), Redactor())

    def emit(text: str) -> None:
        # What programs read is alone on standard output.
        print(text, flush=True, file=sys.stderr if options.json else sys.stdout)
        log.write(text)

    runner = Runner(log, os.environ.get("PATH", PATH))
    world = World(programs=runner, root=root, journal=Journal(emit=emit))
    try:
        yield Setup(world, Guard(world, program=sys.argv[0]), Evaluator(runner))
    finally:
        log.close()


# A change ----------------------------------------------------------------------------------------------------------


def _change(options: argparse.Namespace, setup: "Setup", folder: Path) -> int:
    from hv.setup.proposal import read_applied
    from installer.render.host import APPLIED, DECLARATION

    files = setup.files()
    read_applied(files)
    now = files.get(DECLARATION) or files[APPLIED]
    asked = _asked(options, setup, now, folder)
    if asked is None:
        return Exit.ok
    text, setup = asked
    proposal = setup.propose(text)
    if not proposal.staged:
        return _told(options, proposal, None, "nothing")
    looked = None
    if not options.fast:
        setup.world.say("Evaluating what is there, and what would be; this takes a while …")
        looked = setup.look(proposal, folder)
    if options.dry_run:
        return _told(options, proposal, looked, "dry-run")
    if not options.json:
        print(describe(proposal, looked), end="", flush=True)
    setup.world.say("Building …")
    system = setup.build(proposal, folder)
    pending = setup.apply(proposal, system, options.seconds, files.get(APPLIED, now))
    if options.json:
        return _told(options, proposal, looked, "waits" if pending else "written", pending)
    if pending is None:
        print("The system stays the same: only files were written.")
        return Exit.ok
    from hv.guard.guard import span

    print(
        f"In force, for now. It goes back in {span(options.seconds)} unless somebody opens a NEW SSH connection to this host,\n"
        "or logs in at its console, and runs there:\n"
        "  sudo hv setup confirm"
    )
    return Exit.ok


def _asked(
    options: argparse.Namespace, setup: "Setup", now: str, folder: Path
) -> "tuple[str, Setup] | None":
    """host.toml as it is wanted; None: the person left."""
    import tomllib

    from hv.setup.edit import rewritten, set_field
    from hv.setup.record import find, undone
    from installer.answers.load import parse

    if options.file:
        try:
            text = options.file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HyperError(
                f"{options.file} cannot be read.",
                why=str(error),
                remedy="Name a declaration, as `/etc/nixos/host.toml` is one.",
                code=Exit.usage,
            ) from error
        parse(text.encode(), str(options.file))
        now = text
    if options.set:
        raw = tomllib.loads(now)
        for assignment in options.set:
            raw = set_field(raw, assignment)
        return rewritten(now, raw), setup
    if options.file or options.what == "apply":
        return now, setup
    if options.what == "revert":
        wanted = undone(now, find(setup.world, options.number))
        return rewritten(now, wanted), setup
    return _conversation(options, setup, now, folder)


def _conversation(
    options: argparse.Namespace, setup: "Setup", now: str, folder: Path
) -> "tuple[str, Setup] | None":
    from dataclasses import replace

    from hv.firstrun.world import write_atomically
    from hv.setup.change import WORK
    from hv.setup.wizard import HostWorld, Wizard
    from installer.execute.runner import Runner
    from installer.render.host import APPLIED

    def difference(text: str, front: "Plain | Screen") -> str:
        proposal = setup.propose(text)
        looked = None
        if not options.fast:
            front.working("evaluating what is there, and what would be; this takes a while")
            looked = setup.look(proposal, folder)
        return describe(proposal, looked)

    runner = setup.world.programs
    assert isinstance(runner, Runner)
    wizard = Wizard(
        now,
        setup.files().get(APPLIED, now),
        HostWorld(runner, Path("/run/hyper-nixos/secrets"), lambda _: None),
        lambda: _facts(options.machine or setup.world.root, recorded=options.machine is not None),
        release="",
        difference=difference,
        plain=options.plain,
    )
    try:
        asked = wizard.run(options.what)
    except (KeyboardInterrupt, EOFError):
        print("\nLeft. Nothing of the host was changed.")
        return None
    if not asked.go:
        print("\nNothing of the host was changed.")
        if asked.text != now and not options.dry_run:
            draft = f"{WORK}/draft.toml"
            write_atomically(setup.world.path(draft), asked.text, 0o600)
            print(f"What you changed is in {draft}; go on with: sudo hv setup --file {draft}")
        return None
    return asked.text, replace(setup, hashes=asked.hashes)


def _facts(root: Path, *, recorded: bool) -> "Facts":
    if recorded:
        from installer.commands.answers import machine

        return machine(root)
    from installer.probe import probe
    from installer.probe.root import LiveRoot

    return probe(LiveRoot(str(root)))


# What is told ------------------------------------------------------------------------------------------------------


def describe(proposal: "Proposal", looked: "Looked | None") -> str:
    """A change for people: the declaration, the files, the system, the risk."""
    lines = ["Declaration:"]
    lines += [f"  {change.line()}" for change in proposal.changes] or ["  no field differs"]
    lines += ["", "Files in /etc/nixos:", *(f"  {each.path}" for each in proposal.staged)]
    lines += [f"  your own lines in {path} stay" for path in proposal.kept]
    if looked:
        lines += ["", "System:"]
        for name in ("packages", "units", "ports", "users"):
            change = getattr(looked.difference, name)
            if not change:
                lines.append(f"  {name}: the same")
                continue
            lines.append(f"  {name}: {len(change.added)} more, {len(change.removed)} fewer")
            lines += [f"    + {each}" for each in change.added]
            lines += [f"    - {each}" for each in change.removed]
        if looked.difference.lost:
            lines.append("  who gets in, network, mounts:")
            lines += [f"    {each}" for each in looked.difference.lost]
        if looked.toplevel == looked.before:
            lines.append("  the very same system: only files change")
    lines += ["", "Risk:", *(f"  {each}" for each in proposal.risks or ("nothing known",))]
    return "\n".join(lines) + "\n"


def _told(
    options: argparse.Namespace,
    proposal: "Proposal",
    looked: "Looked | None",
    state: str,
    pending: "Pending | None" = None,
) -> int:
    if options.json:
        print(to_json(_document(proposal, looked, state, pending)), end="")
    elif state == "nothing":
        print("Nothing to change: the declaration and the files beside it agree.")
    else:
        print(describe(proposal, looked), end="")
        print("\nA dry run: nothing was changed.")
    return Exit.ok


def _document(
    proposal: "Proposal", looked: "Looked | None", state: str, pending: "Pending | None"
) -> dict[str, Any]:
    return {
        "version": 1,
        "state": state,
        "changes": [
            {"field": each.field, "before": each.before, "after": each.after} for each in proposal.changes
        ],
        "files": [each.path for each in proposal.staged],
        "kept": list(proposal.kept),
        "system": looked and looked.difference.model_dump(mode="json"),
        "risks": list(proposal.risks),
        "waiting": pending and {"until": pending.until.isoformat(), "confirm": "hv setup confirm"},
    }


def _status(setup: "Setup", *, as_json: bool) -> int:
    from hv.setup.proposal import read_applied

    pending: Pending | None = setup.guard.states.pending()
    files = setup.files()
    before = read_applied(files)
    from hv.setup.edit import field_changes
    from installer.answers.declaration import load_declaration
    from installer.render.host import DECLARATION

    text = files.get(DECLARATION)
    by_hand = field_changes(before, load_declaration(text.encode(), DECLARATION)) if text else ()
    if as_json:
        document = {
            "version": 1,
            "waiting": pending and pending.model_dump(mode="json", exclude={"staged"}),
            "not_applied": [
                {"field": each.field, "before": each.before, "after": each.after} for each in by_hand
            ],
        }
        print(to_json(document), end="")
        return Exit.ok
    if pending:
        print(f"Waits to be confirmed: {pending.what or pending.kind}, until {pending.until:%H:%M:%S} UTC")
        print("Confirm it from a new SSH connection, or at the console: sudo hv setup confirm")
    else:
        print("Nothing waits to be confirmed.")
    if by_hand and not pending:
        print("Changed in host.toml by hand, and not in force (`sudo hv setup apply`):")
        print("\n".join(f"  {each.line()}" for each in by_hand))
    return Exit.ok


def _history(setup: "Setup", *, as_json: bool) -> int:
    from hv.setup.record import outcomes, records

    found = records(setup.world)
    ended = outcomes(setup.world, found)
    if as_json:
        rows = [
            {**each.model_dump(mode="json", exclude={"version"}), "outcome": ended[each.number]}
            for each in found
        ]
        print(to_json({"version": 1, "changes": rows}), end="")
    elif not found:
        print("Nothing was changed with hv setup yet.")
    for each in () if as_json else found:
        print(
            f"{each.number:>4}  {each.at:%Y-%m-%d %H:%M}  {each.who:<12} {ended[each.number]:<22} {each.summary}"
        )
    return Exit.ok
