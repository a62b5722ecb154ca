"""`hv vm`: what is there, and how it is."""

import argparse
import re
import sys

from hv.client import Client, quoted
from hv.commands.vm_asking import show_json, where_of
from hv.commands.vm_making import fetched
from hv.table import sized, table
from installer.errors import Exit, HyperError

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def list_(client: Client, options: argparse.Namespace) -> int:
    found = client.ask("GET", "/1/vms")
    rows = [
        row
        for row in found["vms"]
        if (options.state is None or row["state"] == options.state)
        and (options.tag is None or options.tag in row["tags"])
    ]
    if options.json:
        show_json({"version": found["version"], "vms": rows})
    elif options.names:
        print("".join(f"{row['name']}\n" for row in rows), end="")
    elif not rows:
        print("no VMs" if not found["vms"] else "no such VMs")
    else:
        table(
            ("NAME", "STATE", "CPUS", "MEMORY", "OWNER", "TAGS"),
            [
                (
                    row["name"],
                    row["state"],
                    str(row["vcpus"] or "-"),
                    sized(row["memory"]),
                    row["owner"] or "-",
                    ",".join(row["tags"]),
                )
                for row in rows
            ],
        )
    return 0


def show(client: Client, options: argparse.Namespace) -> int:
    row = client.ask("GET", where_of(options))
    if options.json:
        show_json(row)
        return 0
    lines = [
        ("name", row["name"]),
        ("state", row["state"] + (" (with saved memory)" if row["saved"] else "")),
        ("owner", row["owner"] or "nobody: hvd did not make it"),
        ("UUID", row["uuid"]),
        ("system", row["os"] or "-"),
        (
            "processors",
            f"{row['vcpus']}{_most(row['max_vcpus'], row['vcpus'])}{'' if row['accelerated'] else ', emulated'}",
        ),
        ("memory", f"{sized(row['memory'])}{_most(row['max_memory'], row['memory'], sized)}"),
        ("firmware", row["firmware"] + (", TPM" if row["tpm"] else "")),
        ("autostart", "on" if row["autostart"] else "off"),
    ]
    if row["ignition"]:
        lines.append(("first boot", "Ignition"))
    if row["placement"]:
        lines.append(("placed", _where(row["placement"])))
    if row["description"]:
        lines.append(("for", row["description"]))
    if row["tags"]:
        lines.append(("tags", ", ".join(row["tags"])))
    for disk in row["disks"]:
        volume = disk["volume"]
        what = (
            f"{volume['pool']}/{volume['name']}, {sized(volume['size'])}"
            if volume
            else disk["path"] or "empty"
        )
        if volume and volume["image"]:
            what += f", on image {volume['image']}"
        lines.append((f"{disk['device']} {disk['target']}", what))
    lines += [("network", f"{nic['network']}, {nic['mac']}, {nic['model']}") for nic in row["nics"]]
    lines += [
        ("device", " ".join(f"{key} {value}" for key, value in each.items())) for each in row["devices"]
    ]
    if row["snapshots"]:
        lines.append(("snapshots", str(row["snapshots"])))
    if row["changes_pending"]:
        lines.append(("note", "changes wait for the next start: `hv vm restart`"))
    print("\n".join(f"{name + ':':<13}{text}" for name, text in lines))
    return 0


def _most(most: int, now: int, show: "Callable[[int], str]" = str) -> str:
    return f" (up to {show(most)})" if most > now else ""


def _where(placement: "dict[str, Any]") -> str:
    parts = []
    if placement["cpus"]:
        parts.append(f"processors {', '.join(map(str, placement['cpus']))}")
    if placement["node"] is not None:
        parts.append(f"NUMA node {placement['node']}")
    if placement["page"]:
        parts.append(f"huge pages of {sized(placement['page'])}")
    return "; ".join(parts)


def logs(client: Client, options: argparse.Namespace) -> int:
    what = "qemu" if options.qemu else "console"
    found = client.ask("GET", where_of(options, f"/logs?lines={options.lines}&what={what}"))
    if options.json:
        show_json(found)
    elif not found["exists"]:
        print(f"{found['name']} has written nothing yet", file=sys.stderr)
    else:
        # What a guest writes must not steer the terminal of whoever reads it.
        print(
            "".join(char if char.isprintable() or char in "\n\t" else "" for char in _plain(found["text"]))
        )
    return 0


def _plain(text: str) -> str:
    """Without escape sequences (ECMA-48)."""
    return re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])", "", text)


def stats(client: Client, options: argparse.Namespace) -> int:
    found = client.ask("GET", where_of(options, "/stats"))
    if options.json:
        show_json(found)
        return 0
    values = found["values"]
    lines = []
    if "cpu.time" in values:
        lines.append(
            (
                "processor",
                f"{values['cpu.time'] / 1e9:.1f} s used, {values.get('vcpu.current', '?')} virtual",
            )
        )
    if "balloon.current" in values:
        lines.append(
            (
                "memory",
                f"{sized(values['balloon.current'] * 1024)} of {sized(values.get('balloon.maximum', 0) * 1024)}",
            )
        )
    for number in range(values.get("block.count", 0)):
        name = values.get(f"block.{number}.name", "?")
        read, written = values.get(f"block.{number}.rd.bytes"), values.get(f"block.{number}.wr.bytes")
        lines.append((f"disk {name}", f"{sized(read)} read, {sized(written)} written"))
    for number in range(values.get("net.count", 0)):
        name = values.get(f"net.{number}.name", "?")
        lines.append(
            (
                f"network {name}",
                f"{sized(values.get(f'net.{number}.rx.bytes'))} in, {sized(values.get(f'net.{number}.tx.bytes'))} out",
            )
        )
    if found["partly"]:
        lines.append(("note", "QEMU did not answer in time: only what is known without it"))
    print("\n".join(f"{name + ':':<16}{text}" for name, text in lines) or f"{found['name']} does not run")
    return 0


def _listing(
    options: argparse.Namespace,
    found: "dict[str, Any]",
    what: str,
    columns: tuple[str, ...],
    cells: "Callable[[dict[str, Any]], tuple[str, ...]]",
) -> int:
    """What the broker has of a kind, for people or programs; `what` is its name in the answer."""
    rows = found[what]
    if options.json:
        show_json(found)
    elif not rows:
        print(f"no {'disks' if what == 'volumes' else what}")
    else:
        table(columns, [cells(row) for row in rows])
    return 0


def disks(client: Client, options: argparse.Namespace) -> int:
    return _listing(
        options,
        client.ask("GET", "/1/volumes"),
        "volumes",
        ("DISK", "SIZE", "VM", "IMAGE", "OWNER"),
        lambda row: (
            f"{row['pool']}/{row['name']}",
            sized(row["size"]),
            row["vm"] or "-",
            row["image"] or "-",
            row["owner"],
        ),
    )


def _up(row: "dict[str, Any]") -> str:
    return "up" if row["running"] else "down"


def pools(client: Client, options: argparse.Namespace) -> int:
    return _listing(
        options,
        client.ask("GET", "/1/pools"),
        "pools",
        ("POOL", "KIND", "STATE", "SIZE", "FREE"),
        lambda row: (row["name"], row["kind"], _up(row), sized(row["capacity"]), sized(row["free"])),
    )


def networks(client: Client, options: argparse.Namespace) -> int:
    return _listing(
        options,
        client.ask("GET", "/1/networks"),
        "networks",
        ("NETWORK", "KIND", "STATE", "AUTOSTART"),
        lambda row: (row["name"], row["mode"], _up(row), "yes" if row["autostart"] else "no"),
    )


def operations(client: Client, options: argparse.Namespace) -> int:
    import time

    return _listing(
        options,
        client.ask("GET", "/1/operations"),
        "operations",
        ("BEGAN", "WHO", "WHAT", "NAME", "STATUS", "ID"),
        lambda row: (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["created"])),
            row["actor_name"],
            row["kind"],
            row["target"],
            row["status"],
            row["id"],
        ),
    )


def wait(client: Client, options: argparse.Namespace) -> int:
    operation = client.ask("GET", f"/1/operations/{quoted(options.operation)}")["operation"]
    result = client.wait(operation, quiet=options.json)
    if options.json:
        show_json({"version": 1, **result})
    else:
        print(f"{operation['kind']} of {operation['target']}: succeeded")
    return 0


def console(client: Client, options: argparse.Namespace) -> int:
    from hv.console import connect

    return connect(client, where_of(options, f"/console{'?take=1' if options.take else ''}"), options.name)


def screen(client: Client, options: argparse.Namespace) -> int:
    if options.kind:
        from hv.screen import Door, serve

        with Door(options.socket, options.port) as door:
            return serve(client, options.name, options.kind, door, as_json=options.json)
    if options.socket is not None or options.port is not None:
        raise HyperError(
            "Nothing was opened.",
            why="--socket and --port say where a viewer connects, and no screen for one was asked for",
            remedy=f"hv vm screen '{options.name}' --vnc",
            code=Exit.usage,
        )
    from io import BytesIO

    picture = BytesIO()
    fetched(client, where_of(options, "/screen"), picture)
    data = picture.getvalue()
    from hv.vm.picture import drawn, pixels, png

    wide, high, points = pixels(data)
    if options.output:
        with open(options.output, "wb") as file:  # noqa: PTH123 -- pathlib is slow to import
            file.write(png(wide, high, points))
    if options.json:
        show_json({"version": 1, "width": wide, "height": high, "file": options.output})
    elif options.output:
        print(f"{options.output}: {wide}x{high}")
    else:
        import shutil

        columns, rows = shutil.get_terminal_size()
        print(drawn(wide, high, points, columns, rows - 1))
    return 0
