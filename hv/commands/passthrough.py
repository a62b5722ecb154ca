"""`hv passthrough`: which devices guests can have; takes them from the host, and gives them back."""

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from installer.command_line import Parser
from installer.errors import Exit

if TYPE_CHECKING:
    from hv.passthrough import Handover
    from hv.passthrough.change import Host
    from hv.passthrough.placement import Placement
    from installer.facts import Facts

VERSION = 1
"""Of the JSON that is printed."""
WIDTH = 80


class Move(NamedTuple):
    """One function that changes hands."""

    address: str
    old: str | None
    """Driver that it had."""
    new: str | None
    """Driver that it has, or would have; None: none, or whichever of the host takes it."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv passthrough",
        description="Show which devices guests can have, take them from the host, and give them back.",
        epilog="What `bind` does lasts until the host restarts; to keep a device for guests for good, declare it in "
        "hypervisor.passthrough.devices. Exit codes: 0 done; 4 no such device; 5 a guest cannot have it; 6 in use.",
    )
    top.add_argument("--machine", metavar="DIR", help="a recorded machine instead of this one; to look only")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    listed = verbs.add_parser(
        "list",
        help="each device that is no part of the board, with its verdict",
        epilog="Examples: hv passthrough list; hv passthrough list --json",
    )
    listed.add_argument("--all", action="store_true", help="also bridges and parts of the platform")
    listed.add_argument("--json", action="store_true", help="for programs")
    planned = verbs.add_parser(
        "plan",
        help="what goes along, what the host loses, where the guest should run",
        epilog="Examples: hv passthrough plan 01:00.0; hv passthrough plan 01:00.0 --cpus 8 --memory 16GiB",
    )
    planned.add_argument(
        "address", metavar="ADDRESS", help="of the device, as `hv passthrough list` shows it"
    )
    planned.add_argument("--cpus", type=_count, default=4, metavar="N", help="the guest's (default: 4)")
    planned.add_argument(
        "--memory", type=_size, default="4GiB", metavar="SIZE", help="the guest's (default: 4GiB)"
    )
    planned.add_argument("--json", action="store_true", help="for programs")
    for verb, text in (
        ("bind", "take the device, and what goes along, from the host's drivers"),
        ("release", "give it back to the host's drivers"),
    ):
        changed = verbs.add_parser(
            verb,
            help=text,
            epilog=f"Examples: hv passthrough {verb} 01:00.0 --dry-run; sudo hv passthrough {verb} 01:00.0",
        )
        changed.add_argument("--json", action="store_true", help="for programs")
        changed.add_argument("address", metavar="ADDRESS", help="of the device")
        changed.add_argument(
            "--dry-run", action="store_true", help="say what would change, and change nothing"
        )
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    from hv.passthrough import plan
    from hv.passthrough.placement import place
    from hv.passthrough.topology import read_topology

    top = parser()
    options = top.parse_args(argv)
    if options.machine and options.verb in ("bind", "release") and not options.dry_run:
        top.error("a recorded machine can only be looked at: list, plan, or --dry-run")
    facts = _facts(options.machine)
    if options.verb == "list":
        print(_list_json(facts) if options.json else _list(facts, whole=options.all))
        return Exit.ok
    if options.verb == "release":
        return _release(facts, options)
    handover = plan(facts, options.address)
    if options.verb == "bind":
        return _bind(handover, options)
    placement = None
    if not options.machine:  # a record tells nothing of cores and pages
        nodes = read_topology(Path("/sys"))
        placement = place(nodes, near=handover.node, vcpus=options.cpus, memory=options.memory)
    if options.json:
        shown: dict[str, Any] = {"version": VERSION, **asdict(handover)}
        print(json.dumps(shown | {"placement": asdict(placement) if placement else None}, indent=2))
    else:
        print(_plan(handover, placement))
    return Exit.ok


def _facts(machine: str | None) -> "Facts":
    if machine:
        from installer.commands.answers import machine as recorded

        return recorded(Path(machine))
    from installer.probe import probe
    from installer.probe.root import LiveRoot

    return probe(LiveRoot())


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of processors: 1 or more")
    return number


def _size(text: str) -> int:
    from installer.answers.sizes import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _list(facts: "Facts", *, whole: bool) -> str:
    """A table in 80 columns, the reasons below each device."""
    from textwrap import wrap

    from hv.passthrough import judge
    from installer.probe.passthrough import platform_part

    lines = [f"{'ADDRESS':<13} {'GROUP':>5}  {'DRIVER':<12} {'GUEST':<6} DEVICE"]
    for device in facts.pci:
        if not whole and (device.is_bridge or platform_part(device) is not None):
            continue
        verdict = judge(facts, device.address)
        answer = "no" if not verdict.allowed else "with" if verdict.companions else "yes"
        group = "-" if device.iommu_group is None else str(device.iommu_group)
        head = f"{device.address:<13} {group:>5}  {(device.driver or '-')[:12]:<12} {answer:<6} "
        name = f"{device.vendor_name} {device.device_name}"
        rest = WIDTH - len(head)
        lines.append(head + (name if len(name) <= rest else name[: rest - 1] + "…"))
        about = verdict.reason if not verdict.allowed else ""
        if verdict.companions:
            about = "with " + ", ".join(verdict.companions)
        lines += [f"{'':<13} {line}" for line in wrap(about, WIDTH - 14)]
    if len(lines) == 1:
        return "No device of this machine can be told apart from its board: see `hv passthrough list --all`."
    return "\n".join(lines)


def _list_json(facts: "Facts") -> str:
    from hv.passthrough import judge

    devices = []
    for device in facts.pci:
        verdict = judge(facts, device.address)
        devices.append(
            {
                "address": device.address,
                "ids": f"{device.vendor_id}:{device.device_id}",
                "name": f"{device.vendor_name} {device.device_name}",
                "driver": device.driver,
                "group": device.iommu_group,
                "allowed": verdict.allowed,
                "reason": verdict.reason,
                "companions": list(verdict.companions),
                "cautions": list(device.passthrough.cautions),
            }
        )
    return json.dumps({"version": VERSION, "devices": devices}, indent=2)


def _plan(handover: "Handover", placement: "Placement | None") -> str:
    from textwrap import wrap

    def item(text: str) -> list[str]:
        return wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")

    lines = [f"To give {handover.address} to a guest, these leave the host together:"]
    for function in handover.functions:
        lines += item(f"{function.address} {function.name}, now with {function.driver or 'no driver'}")
    lines.append(
        "The host can then no longer use:" if handover.losses else "The host loses nothing it uses."
    )
    for loss in handover.losses:
        lines += item(loss)
    if handover.cautions:
        lines.append("What may still go wrong:")
        for caution in handover.cautions:
            lines += item(caution)
    if placement is not None:
        lines.append(f"Where the guest should run: memory of node {placement.node}")
        if placement.cpus:
            pairs = ", ".join(f"{number}→{cpu}" for number, cpu in enumerate(placement.cpus))
            lines += item(f"guest's processors on the host's: {pairs}; {placement.threads} threads a core")
        if placement.page_size:
            lines += item(f"huge pages of {placement.page_size >> 20} MiB")
        for note in placement.notes:
            lines += item(note)
    lines.append(f"Now, until the host restarts: sudo hv passthrough bind {handover.address}")
    lines.append("For good, in the host's configuration, then rebuild:")
    lines += [
        f'  hypervisor.passthrough.devices."{each.address}" = '
        f'{{ vendor = "{each.ids[:4]}"; device = "{each.ids[5:]}"; }};'
        for each in handover.functions
    ]
    return "\n".join(lines)


def _bind(handover: "Handover", options: argparse.Namespace) -> int:
    from hv.passthrough.change import take
    from hv.passthrough.verdict import VFIO

    if options.dry_run:
        return _moved([Move(each.address, each.driver, VFIO) for each in handover.functions], options)
    host = _host(quiet=options.json)
    take(handover, host)
    moves = [Move(each.address, each.driver, host.driver(each.address)) for each in handover.functions]
    return _moved(moves, options)


def _release(facts: "Facts", options: argparse.Namespace) -> int:
    from hv.passthrough.change import give_back
    from hv.passthrough.verdict import VFIO, set_of

    handover = set_of(facts, options.address)
    if options.dry_run:
        waiting = [function for function in handover.functions if function.driver == VFIO]
        return _moved([Move(each.address, VFIO, None) for each in waiting], options)
    host = _host(quiet=options.json)
    whole = give_back(handover, host)
    moves = [Move(each.address, each.driver, host.driver(each.address)) for each in handover.functions]
    return _moved(moves, options, whole=whole)


def _moved(moves: list[Move], options: argparse.Namespace, *, whole: bool = True) -> int:
    if options.json:
        functions = [{"address": each.address, "from": each.old, "to": each.new} for each in moves]
        print(json.dumps({"version": VERSION, "functions": functions}, indent=2))
    elif options.dry_run:  # what was done was said as it happened
        for each in moves:
            print(
                f"{each.address}: {each.old or 'no driver'} -> {each.new or 'whichever driver of the host takes it'}"
            )
    if not whole:
        print("hv: not every function has a driver of the host again; see above", file=sys.stderr)
        return Exit.failed
    return Exit.ok


def _host(*, quiet: bool) -> "Host":
    from hv.devices.sysfs import Sysfs
    from hv.firstrun.world import require_root
    from hv.passthrough.change import Host
    from installer.execute.log import NoLog
    from installer.execute.runner import Runner

    require_root("Moving devices between the host and guests")
    path = os.environ.get("PATH", "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    host = Host(Sysfs(), Runner(NoLog(), path))
    return replace(host, say=lambda _: None) if quiet else host
