"""`hv esp`: keeps every boot disk's EFI system partition able to start the host alone."""

import argparse
import json
import os
import sys
from pathlib import Path

from hv.esp.firmware import VARIABLES, ensure_entry, has_entry, place_of
from hv.esp.inventory import take
from hv.esp.notice import notify
from hv.esp.partition import opened
from hv.esp.settings import SETTINGS_FILE, EspSettings, read_settings
from hv.esp.status import Report, State, status
from hv.esp.sync import sync
from hv.esp.writing import Disk
from hv.firstrun.world import Programs, require_root
from installer.command_line import Parser
from installer.errors import Exit, HyperError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv esp",
        description="Keep the EFI system partitions of several boot disks alike, so that each starts the host alone.",
        epilog="Exit codes: 0 all of them boot and agree; 1 at least one does not, or is not mounted; see docs.",
    )
    top.add_argument(
        "--config",
        type=Path,
        default=Path(SETTINGS_FILE),
        metavar="FILE",
        help="which partitions there are (default: %(default)s)",
    )
    top.add_argument(
        "--source", metavar="DIR", help="the partition that NixOS writes, instead of the file's"
    )
    top.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="DIR",
        help="a mirror, instead of the file's; repeatable",
    )
    top.add_argument("--no-variables", action="store_true", help="leave the firmware's boot menu alone")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser(
        "sync", help="make each mirror hold what the source holds; NixOS does it at every generation"
    )
    shown = verbs.add_parser("status", help="compare them; changes nothing")
    shown.add_argument("--json", action="store_true", help="for programs")
    shown.add_argument(
        "--notice", action="store_true", help="also put a notice on the login prompts, or take it away"
    )
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    settings = _settings(options)
    source, mirrors = Path(settings.source), tuple(map(Path, settings.mirrors))
    programs = _programs()
    menu = settings.variables and any(Path(VARIABLES).glob("*"))
    require_root("Looking at boot partitions")
    if options.verb == "sync":
        return _sync(source, mirrors, programs if menu else None)
    report = status(source, mirrors)
    if menu:
        report = Report(tuple(_with_menu(state, programs) for state in report.states))
    if options.notice:
        notify(report)
    print(json.dumps(report.document(), indent=2) if options.json else report.text())
    return Exit.ok if report.good else Exit.failed


def _settings(options: argparse.Namespace) -> EspSettings:
    if options.source is None or not options.mirror:
        told = read_settings(options.config)
    else:
        told = EspSettings(source=options.source)
    return EspSettings(
        source=options.source or told.source,
        mirrors=tuple(options.mirror) or told.mirrors,
        variables=told.variables and not options.no_variables,
    )


def _sync(source: Path, mirrors: tuple[Path, ...], programs: Programs | None) -> int:
    done = sync(source, mirrors, Disk(), print)
    good = True
    for each in done:
        error = each.error
        if error is None and programs is not None:
            try:
                with opened(each.mount_point) as partition:
                    did = ensure_entry(place_of(partition, programs), take(partition.folder), programs)
                if did:
                    print(f"{each.mount_point}: {did}")
            except HyperError as refused:
                error = refused
        if error is not None:
            good = False
            print(f"{each.mount_point}: {error}", file=sys.stderr)
    return Exit.ok if good else Exit.failed


def _with_menu(state: State, programs: Programs) -> State:
    """The same, with what the firmware's boot menu lacks."""
    if state.entries == 0:
        return state
    try:
        with opened(Path(state.mount_point)) as partition:
            if has_entry(place_of(partition, programs), take(partition.folder), programs):
                return state
        lack = "the firmware's boot menu has no entry for it"
    except HyperError as error:
        lack = f"{error.what.rstrip('.')}: {error.why}"
    return State(state.mount_point, state.entries, state.default, (*state.trouble, lack))


def _programs() -> Programs:
    from installer.execute.log import NoLog
    from installer.execute.runner import Runner

    path = os.environ.get("PATH", "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return Runner(NoLog(), path)
