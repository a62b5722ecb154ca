"""`hv migrate`: makes a running NixOS a Hyper-NixOS host, in place."""

import argparse
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from installer.command_line import Parser
from installer.errors import Exit, HyperError

if TYPE_CHECKING:
    from installer.migrate.execute import Executor
    from installer.migrate.findings import Findings
    from installer.migrate.probe import Looking

LOG = Path("/var/log/hyper-nixos/migrate.log")
SOURCE = "HYPER_NIXOS_SOURCE"
"""Set by the package: the flake that it was built from."""
OWN = "/etc/hyper-nixos/flake"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv migrate",
        description="Make this NixOS a Hyper-NixOS host without moving data: look, show what would change, build, and "
        "have the next boot try it. Users, keys and the network stay as they are, and the old system stays in the "
        "boot menu. Nothing is switched to while the machine runs.",
        epilog="Exit codes: 5 something stands against it; 9 a step failed, and the host is as it was.",
    )
    top.add_argument("--check", action="store_true", help="look and report, change nothing")
    top.add_argument(
        "--json", action="store_true", help="with --check: print everything that was found as JSON"
    )
    top.add_argument(
        "--flake", metavar="DIR[#HOST]", help="the flake that this host is built from (default: /etc/nixos)"
    )
    top.add_argument(
        "--file", metavar="FILE", help="the configuration.nix that this host is built from, without a flake"
    )
    top.add_argument(
        "--source",
        metavar="FLAKE",
        help="where the modules of Hyper-NixOS come from (default: the flake that this program was built from)",
    )
    top.add_argument(
        "--no-fallback",
        action="store_true",
        help="go on although a first boot that fails would not go back by itself: somebody is at the console",
    )
    top.add_argument("--yes", action="store_true", help="do not ask before building")
    top.add_argument(
        "--undo",
        action="store_true",
        help="take a migration back: the files, the system profile and the boot menu as they were before",
    )
    return top


def main(argv: list[str]) -> int:
    """Run the command. Raises HyperError."""
    top = parser()
    options = top.parse_args(argv)
    if options.undo and {name for name, value in vars(options).items() if value} - {"undo"}:
        top.error("--undo takes nothing beside it")
    if options.json and not options.check:
        top.error("--json goes with --check")
    if options.flake and options.file:
        top.error("a host is built from a flake or from a file: name one")
    if os.geteuid() != 0:
        raise HyperError(
            "hv migrate needs root",
            why="it reads who can log in, and writes the boot menu",
            remedy="run it with sudo",
            code=Exit.privilege,
        )
    looking, executor = _tools()
    if options.undo:
        return _undo(executor)
    return _migrate(options, looking, executor)


def _tools() -> "tuple[Looking, Executor]":
    from installer.execute.live import LiveSystem
    from installer.execute.log import Log, Redactor
    from installer.execute.runner import Runner
    from installer.migrate.evaluation import Evaluator
    from installer.migrate.execute import Executor
    from installer.migrate.probe import Looking, nix_path
    from installer.probe.root import LiveRoot

    # git trusts a folder of the user who called sudo.
    kept = {
        name: os.environ[name] for name in ("SUDO_UID", "SSL_CERT_FILE", "https_proxy") if name in os.environ
    }
    path = f"{LiveSystem().search_path}:{os.environ.get('PATH', '')}"
    runner = Runner(Log(LOG, Redactor()), path, environment=kept)
    evaluator = Evaluator(runner, {"NIX_PATH": os.environ.get("NIX_PATH") or nix_path(LiveRoot("/"))})
    return Looking("/", runner, evaluator), Executor("/", runner, evaluator, _say)


def _say(line: str) -> None:
    """What is done is done in order when nobody reads any more."""
    with suppress(OSError):
        print(line, flush=True)


def _migrate(options: argparse.Namespace, looking: "Looking", executor: "Executor") -> int:
    from installer.migrate.conflicts import conflicts_of
    from installer.migrate.probe import Asked, look
    from installer.migrate.report import report

    print("looking at this system; the configuration is evaluated, which takes a while", file=sys.stderr)
    findings = look(looking, Asked(options.flake, options.file))
    conflicts = conflicts_of(findings, no_fallback=options.no_fallback)
    stops = [each for each in conflicts if each.stops]
    if options.json:
        found = {
            "version": 1,
            "migrates": not stops,
            "conflicts": [each.model_dump(mode="json") for each in conflicts],
            "findings": findings.model_dump(mode="json"),
        }
        print(json.dumps(found, indent=1))
    else:
        print(report(findings, conflicts), end="")
    if options.check:
        return Exit.unsuitable if stops else Exit.ok
    if stops:
        raise HyperError(
            "this system is not migrated: nothing was changed",
            why="; ".join(each.what for each in stops),
            remedy="see above for each; then run it again",
            code=Exit.unsuitable,
        )
    return _change(options, findings, executor)


def _change(options: argparse.Namespace, findings: "Findings", executor: "Executor") -> int:
    from installer.execute.interrupts import ended_by_signals
    from installer.migrate.difference import compare, describe
    from installer.migrate.plan import make_plan, two_lines
    from installer.migrate.trial import PROGRAM

    source = executor.evaluator.source(options.source or own_source())
    plan = make_plan(findings, source, no_fallback=options.no_fallback)
    configuration = findings.configuration
    if not plan.certain:
        target = Path(configuration.root, plan.module.path)
        target.write_text(plan.module.text, encoding="utf-8")
        raise HyperError(
            "where the import belongs is not certain, so nothing of yours was changed",
            why="; ".join(plan.place.doubts),
            remedy=f"{target} was written, and nothing imports it yet. Add these lines, then run `hv migrate` again:\n"
            + two_lines(plan, configuration),
            code=Exit.unsuitable,
        )
    print("\nWhat changes, evaluated and not built yet:")
    assert configuration.summary is not None
    after = executor.preview(findings, plan)
    if after.assertions:
        raise HyperError(
            "the migrated configuration would refuse itself; nothing was changed",
            why=" ".join(" ".join(after.assertions).split()),
            remedy="change what the message names, then run it again",
            code=Exit.unsuitable,
        )
    difference = compare(configuration.summary, after)
    print(describe(difference), end="")
    if difference.lost:
        raise HyperError(
            "something that must stay would change; nothing was touched",
            why="; ".join(difference.lost),
            remedy="declare it plainly in your own files, so that no default of ours replaces it",
            code=Exit.lockout,
        )
    print("\nWhat will be done:")
    for number, step in enumerate(plan.steps, 1):
        print(f"{number}. {step.summary}")
    if not options.yes and not _agreed():
        print("nothing was changed")
        return Exit.ok
    with ended_by_signals():
        executor.carry_out(findings, plan, source)
    print(
        "\nDone. The running system is untouched; the next boot tries the new one:\n"
        "  systemctl reboot         when it suits you\n"
        "  hv health status         after it: whether it was well\n"
        "  hv migrate --undo        at any time: back to what was\n"
        f"The system from before has no hv of its own: there it is {PROGRAM}."
    )
    return Exit.ok


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise HyperError(
            "nobody can be asked here",
            why="standard input is no terminal",
            remedy="say --yes when you mean it",
            code=Exit.consent,
        )
    return input("\nGo on? Type yes: ").strip().lower() == "yes"


def own_source() -> str:
    """The flake that holds our modules. Raises HyperError."""
    if told := os.environ.get(SOURCE):
        return told
    if Path(OWN, "flake.nix").exists():
        return f"path:{Path(OWN).resolve()}"
    raise HyperError(
        "where the modules of Hyper-NixOS are is not known",
        why=f"this program was not built from a flake, and {OWN} is not here",
        remedy="name the flake: `hv migrate --source github:OWNER/hyper-nixos`, or a folder with it",
        code=Exit.usage,
    )


def _undo(executor: "Executor") -> int:
    trial = executor.undo()
    running = Path("/run/current-system").resolve()
    print(f"The next boot starts {trial.before}, as before the migration.")
    if str(running) != trial.before:
        print("The migrated system still runs: `systemctl reboot` ends it.")
    return Exit.ok
