"""`hv devices`: splits cards and shares devices as the host declares."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hv.devices import functions, mediated
from hv.devices.declared import DEVICES_FILE, Declared, read_declared
from hv.devices.sysfs import Sysfs
from hv.firstrun.world import Programs, require_root
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner

Say = Callable[[str], None]
EXAMPLES = {
    "apply": "sudo hv devices apply --dry-run; sudo hv devices apply",
    "status": "sudo hv devices status; sudo hv devices status --json",
}
"""By verb."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv devices",
        description="Make the virtual functions and mediated devices that the host declares.",
        epilog="Exit codes: 0 everything is as declared; 1 something is not; see docs.",
    )
    top.add_argument(
        "--config",
        type=Path,
        default=Path(DEVICES_FILE),
        metavar="FILE",
        help="what is declared (default: %(default)s)",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    apply = verbs.add_parser(
        "apply", help="make what is declared; the service hyper-nixos-devices does this"
    )
    apply.add_argument("--dry-run", action="store_true", help="only say what would be made")
    status = verbs.add_parser("status", help="show whether everything is as declared; changes nothing")
    for each in (apply, status):
        each.add_argument("--json", action="store_true", help="for programs")
    for name, examples in EXAMPLES.items():
        verbs.choices[name].epilog = f"Examples: {examples}"
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    declared = read_declared(options.config)
    require_root("Looking after devices")
    path = os.environ.get("PATH", "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    programs = Runner(NoLog(), path)
    standing: list[dict[str, Any]] = []
    say = (lambda _: None) if options.json else print
    change = options.verb == "apply" and not options.dry_run
    code = walk(declared, Sysfs(), programs, say, change=change, standing=standing)
    if options.verb == "apply" and options.dry_run:
        # What is not as declared yet is what `apply` is for.
        code = Exit.ok
        for each in standing:
            each["would_be_made"] = not each["as_declared"]
            say(f"{each['name']}: {'would be made' if each['would_be_made'] else 'stays'}")
    if options.json:
        print(json.dumps({"version": 1, "devices": standing}, indent=2))
    return code


def walk(
    declared: Declared,
    sysfs: Sysfs,
    programs: Programs,
    say: Say,
    *,
    change: bool,
    standing: list[dict[str, Any]] | None = None,
) -> int:
    """Each device in turn; one that cannot be had keeps no other from being made. The exit code.

    `standing` takes how each stands, for programs.
    """
    found: list[dict[str, Any]] = [] if standing is None else standing
    for card in declared.physical:
        try:
            if change:
                functions.split(card, sysfs, programs, say)
            else:
                functions.check(card, sysfs)
                say(f"{card.address}: {card.count} virtual functions, as declared")
            found.append(_standing(card.address, "virtual functions"))
        except HyperError as error:
            found.append(_standing(card.address, "virtual functions", error))
            print(error, file=sys.stderr)
    for device in declared.mediated:
        try:
            if change:
                mediated.create(device, sysfs, say)
            mediated.check(device, sysfs)
            say(f"{device.uuid}: {device.type} of {device.parent}, as declared")
            found.append(_standing(str(device.uuid), "mediated device"))
        except HyperError as error:
            found.append(_standing(str(device.uuid), "mediated device", error))
            print(error, file=sys.stderr)
    return Exit.ok if all(each["as_declared"] for each in found) else Exit.failed


def _standing(name: str, kind: str, error: HyperError | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "as_declared": error is None,
        "trouble": f"{error.what} {error.why}" if error else None,
    }
