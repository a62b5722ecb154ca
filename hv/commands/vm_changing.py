"""`hv vm`: running VMs, and changing them."""

import argparse

from hv.client import Client, quoted
from hv.commands.vm_asking import act, operate, placement, show_json, where_of
from hv.table import table
from installer.errors import Exit, HyperError

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from typing import Any


def start(client: Client, options: argparse.Namespace) -> int:
    return act(client, options, "start", {})


def stop(client: Client, options: argparse.Namespace) -> int:
    return act(client, options, "stop", {"force": options.force, "wait": options.wait})


def restart(client: Client, options: argparse.Namespace) -> int:
    return act(client, options, "restart", {"force": options.force, "wait": options.wait})


def pause(client: Client, options: argparse.Namespace) -> int:
    return act(client, options, "pause", {})


def resume(client: Client, options: argparse.Namespace) -> int:
    return act(client, options, "resume", {})


def autostart(client: Client, options: argparse.Namespace) -> int:
    said = f"{options.name}: {'starts' if options.value == 'on' else 'does not start'} with the host"
    return act(client, options, "autostart", {"on": options.value == "on"}, said)


def rename(client: Client, options: argparse.Namespace) -> int:
    return act(
        client, options, "rename", {"name": options.new}, f"{options.name} is called {options.new} now"
    )


def tag(client: Client, options: argparse.Namespace) -> int:
    given = {
        "add": [tag.removeprefix("+") for tag in options.tags if not tag.startswith("~")],
        "remove": [tag[1:] for tag in options.tags if tag.startswith("~")],
    }
    result = operate(client, options, where_of(options, "/tag"), given)
    if result is not None:
        print(f"{result['name']}: {', '.join(result['tags']) or 'no tags'}")
    return 0


def edit(client: Client, options: argparse.Namespace) -> int:
    given = {
        key: value
        for key, value in (
            ("description", options.description),
            ("os", options.os),
            ("placement", placement(options)),
            ("unplaced", options.unplaced or None),
        )
        if value is not None
    }
    if not given:
        raise HyperError(
            "Nothing was changed.",
            why="no property was named",
            remedy="See `hv vm edit --help`.",
            code=Exit.usage,
        )
    return act(client, options, "edit", given, f"{options.name}: changed")


def resize(client: Client, options: argparse.Namespace) -> int:
    given = {
        "vcpus": options.cpus,
        "memory": options.memory,
        "max_vcpus": options.max_cpus,
        "max_memory": options.max_memory,
        "disk": options.disk,
        "size": options.size,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if not given.keys() - {"disk"}:
        raise HyperError(
            "Nothing was changed.",
            why="no size was named",
            remedy="Name one: --cpus, --memory, --size, --max-cpus or --max-memory.",
            code=Exit.usage,
        )
    result = operate(client, options, where_of(options, "/resize"), given)
    if result is not None:
        waits = " and ".join(result["waits_for_restart"])
        print(
            f"{result['name']}: resized"
            + (f"; {waits} from the next start on: `hv vm restart`" if waits else "")
        )
        for note in result["notes"]:
            print(f"note: {note}")
    return 0


def snapshot(client: Client, options: argparse.Namespace) -> int:
    if options.what == "list":
        found = client.ask("GET", where_of(options, "/snapshots"))
        if options.json:
            show_json(found)
        elif not found["snapshots"]:
            print("no snapshots")
        else:
            import time

            table(
                ("SNAPSHOT", "MADE", "MEMORY", "AFTER", "FOR"),
                [
                    (
                        row["name"] + (" *" if row["current"] else ""),
                        time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"])),
                        "yes" if row["memory"] else "no",
                        row["parent"] or "-",
                        row["description"],
                    )
                    for row in found["snapshots"]
                ],
            )
        return 0
    if not options.snapshot:
        raise HyperError(
            "Which snapshot?",
            why="none was named",
            remedy=f"hv vm snapshot {options.name} {options.what} SNAPSHOT",
            code=Exit.usage,
        )
    given: dict[str, Any] = {"name": options.snapshot}
    verb = {"create": "snapshot", "revert": "snapshot-revert", "delete": "snapshot-delete"}[options.what]
    if options.what == "create":
        given["description"] = options.description
    did = {"create": "made", "revert": "is how it was then", "delete": "deleted"}[options.what]
    result = operate(client, options, where_of(options, f"/{verb}"), given)
    if result is not None:
        print(f"{result['name']}: snapshot {result['snapshot']}: {did}")
    return 0


def attach(client: Client, options: argparse.Namespace) -> int:
    given: dict[str, Any] = {}
    if options.size or options.disk:
        given["disk"] = {"pool": options.pool}
        if options.size:
            given["disk"]["size"] = options.size
        if options.disk:
            pool, _, name = options.disk.rpartition("/")
            given["disk"] |= {"pool": pool or options.pool, "volume": name}
    if options.network:
        given["nic"] = {"network": options.network}
    given |= {key: value for key, value in (("pci", options.pci), ("usb", options.usb)) if value}
    _require_one(given, "plug in", "--size or --disk, --network, --pci, --usb")
    result = operate(client, options, where_of(options, "/attach"), given)
    if result is not None:
        print(
            f"{result['name']}: plugged in {', '.join(f'{key} {value}' for key, value in result['attached'].items())}"
        )
    return 0


def _require_one(given: "dict[str, Any]", doing: str, options: str) -> None:
    if len(given) != 1:
        raise HyperError(
            f"What to {doing}?",
            why="nothing was named" if not given else "one thing at a time",
            remedy=f"Name one of {options}.",
            code=Exit.usage,
        )


def detach(client: Client, options: argparse.Namespace) -> int:
    given = {key: value for key in ("disk", "mac", "pci", "usb") if (value := getattr(options, key))}
    _require_one(given, "unplug", "--disk, --mac, --pci, --usb")
    result = operate(client, options, where_of(options, "/detach"), given)
    if result is not None:
        print(
            f"{' '.join((result['name'] + ': unplugged', *result['unplugged']))}"
            + (f"; kept: {result['kept']}" if result["kept"] else "")
        )
    return 0


def cancel(client: Client, options: argparse.Namespace) -> int:
    where = f"/1/operations/{quoted(options.operation)}"
    if options.dry_run:
        return _uncancelled(client.ask("DELETE", f"{where}?dry_run=1")["operation"], options)
    operation = client.ask("DELETE", where)["operation"]
    if options.json:
        show_json({"version": 1, "operation": operation})
    else:
        print(f"{operation['kind']} of {operation['target']}: {operation['status']}")
    return 0


def _uncancelled(operation: "dict[str, Any]", options: argparse.Namespace) -> int:
    """What cancelling would do."""
    what = f"{operation['kind']} of {operation['target']}"
    over = operation["ended"] is not None
    line = f"{what} is over: {operation['status']}" if over else f"{what} would be cancelled"
    if options.json:
        show_json({"version": 1, "plan": [line], "operation": operation})
    else:
        print(line)
    return 0
