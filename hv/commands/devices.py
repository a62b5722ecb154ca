"""`hv devices`: splits cards and shares devices as the host declares."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from hv.devices import functions, mediated
from hv.devices.declared import DEVICES_FILE, Declared, read_declared
from hv.devices.sysfs import Sysfs
from hv.firstrun.world import Programs, require_root
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner

Say = Callable[[str], None]


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
    verbs.add_parser("apply", help="make what is declared; the service hyper-nixos-devices does this")
    verbs.add_parser("status", help="show whether everything is as declared; changes nothing")
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    declared = read_declared(options.config)
    require_root("Looking after devices")
    path = os.environ.get("PATH", "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    programs = Runner(NoLog(), path)
    return walk(declared, Sysfs(), programs, print, change=options.verb == "apply")


def walk(declared: Declared, sysfs: Sysfs, programs: Programs, say: Say, *, change: bool) -> int:
    """Each device in turn; one that cannot be had keeps no other from being made. The exit code."""
    good = True
    for card in declared.physical:
        try:
            if change:
                functions.split(card, sysfs, programs, say)
            else:
                functions.check(card, sysfs)
                say(f"{card.address}: {card.count} virtual functions, as declared")
        except HyperError as error:
            good = False
            print(error, file=sys.stderr)
    for device in declared.mediated:
        try:
            if change:
                mediated.create(device, sysfs, say)
            mediated.check(device, sysfs)
            say(f"{device.uuid}: {device.type} of {device.parent}, as declared")
        except HyperError as error:
            good = False
            print(error, file=sys.stderr)
    return Exit.ok if good else Exit.failed
