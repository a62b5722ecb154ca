"""`hv vm export`: VMs and their disks as files, for other hypervisors and for keeping."""

import argparse
import os
import re

from hv.client import Client, quoted
from hv.commands.vm_asking import show_json, where_of
from hv.commands.vm_making import fetched
from hv.table import sized
from installer.errors import Exit, HyperError

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any


def export(client: Client, options: argparse.Namespace) -> int:
    row = client.ask("GET", where_of(options))
    kind = options.format or ("ova" if options.output.lower().endswith(".ova") else "qcow2")
    left = _left(row) if kind == "ova" else []
    if kind == "ova":
        disks = [disk for disk in row["disks"] if disk["volume"] is None or disk["volume"]["kind"] == "disk"]
    else:
        disks = [disk for disk in row["disks"] if disk["target"] == options.disk] or [None]
    volumes = [_whole(row, disk, str(disk["target"]) if disk else options.disk) for disk in disks]
    if options.dry_run:
        return _planned(row, kind, volumes, left, options)
    if kind == "ova":
        count = _written(options.output, lambda partial: _ova(client, row, disks, partial))
    else:
        count = _written(options.output, lambda partial: _disk(client, volumes[0], partial))
    if options.json:
        show_json({"version": 1, "file": options.output, "bytes": count, "format": kind, "left": left})
    else:
        print(f"{options.output}: {sized(count)}")
        for each in left:
            print(f"  not in it: {each}")
    return 0


def _planned(
    row: "dict[str, Any]",
    kind: str,
    volumes: "list[dict[str, Any]]",
    left: "list[str]",
    options: argparse.Namespace,
) -> int:
    """What would be written. Raises HyperError where it would be refused."""
    _require_free(options.output)
    if row["state"] not in ("stopped", "crashed"):
        raise HyperError(
            f"{row['name']} is {row['state']}.",
            why="what it writes meanwhile would be half in the file",
            remedy=f"Stop it first: `hv vm stop '{row['name']}'`.",
            code=Exit.busy,
        )
    lines = [
        f"{options.output} is written ({kind}): {', '.join(each['name'] for each in volumes) or 'no disk'}"
    ]
    lines += [f"not in it: {each}" for each in left]
    if options.json:
        show_json({"version": 1, "plan": lines})
    else:
        print("\n".join(lines))
    return 0


def _require_free(output: str) -> None:
    if os.path.exists(output):  # noqa: PTH110 -- pathlib is slow to import
        raise HyperError(
            f"{output} cannot be written.",
            why="it is there already",
            remedy="Name another file, or make room.",
        )


def _whole(row: "dict[str, Any]", disk: "dict[str, Any] | None", target: str) -> "dict[str, Any]":
    """The disk's volume. Raises HyperError unless it is hvd's and stands alone."""
    if disk is None or not disk["volume"]:
        raise HyperError(
            f"{row['name']} has no disk {target!r} of hvd's.",
            why=f"it has: {', '.join(str(each['target']) for each in row['disks']) or 'none'}",
            remedy="Name one of these with --disk.",
            code=Exit.selection,
        )
    volume: dict[str, Any] = disk["volume"]
    if volume["image"]:
        raise HyperError(
            f"The disk {target} of {row['name']} does not stand alone.",
            why=f"it stands on the image {volume['image']}, and alone it is nothing",
            remedy=f"Make a copy, whose disks are whole, and export that: `hv vm clone '{row['name']}' NAME`.",
            code=Exit.unsuitable,
        )
    return volume


def _written(output: str, write: "Callable[[str], None]") -> int:
    """Bytes of a file that is there whole or not at all. Raises HyperError."""
    partial = f"{output}.partial"
    try:
        _require_free(output)
        try:
            write(partial)
            with open(partial, "rb+") as file:  # noqa: PTH123 -- see above
                os.fsync(file.fileno())
                count = file.seek(0, os.SEEK_END)
            os.rename(partial, output)  # noqa: PTH104 -- see above
        except (HyperError, KeyboardInterrupt):
            if os.path.exists(partial):  # noqa: PTH110 -- see above
                os.unlink(partial)  # noqa: PTH108 -- see above
            raise
    except OSError as error:
        raise HyperError(
            f"{output} cannot be written.",
            why=error.strerror or str(error),
            remedy="Name another file, or make room.",
        ) from error
    return count


def _disk(client: Client, volume: "dict[str, Any]", into: str) -> None:
    where = f"/1/volumes/{quoted(volume['pool'])}/{quoted(volume['name'])}/content"
    with open(into, "xb") as file:  # noqa: PTH123 -- pathlib is slow to import
        fetched(client, where, file)


def _ova(client: Client, row: "dict[str, Any]", disks: "list[dict[str, Any]]", into: str) -> None:
    import tempfile
    from pathlib import Path

    from hv.images.ovf import Disk, Machine, pack
    from installer.execute.interrupts import ended_by_signals

    label = re.sub(r"[^A-Za-z0-9._-]+", "-", row["name"]).strip("-.") or "vm"
    beside = Path(into).absolute().parent
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix=".hv-export-", dir=beside) as folder:
        made = []
        for number, disk in enumerate(disks, 1):
            got = Path(folder, f"{number}.qcow2")
            _disk(client, disk["volume"], str(got))
            file = Path(folder, f"{label}-disk{number}.vmdk")
            capacity = _converted(got, file)
            got.unlink()
            made.append(Disk(file.name, file.stat().st_size, capacity))
        networks = tuple(str(nic["network"] or "default") for nic in row["nics"])
        machine = Machine(
            row["name"], row["os"] or "generic", row["description"], row["vcpus"], row["memory"], row["firmware"],
            tuple(made), networks,
        )  # fmt: skip
        pack(Path(into), label, machine, Path(folder))


def _converted(disk: "Path", into: "Path") -> int:
    """A VMDK of a disk of ours; the bytes that its guest sees. Raises HyperError."""
    from hv.commands.image import _programs
    from hv.images.convert import LONGEST, inspect

    programs = _programs()
    found = inspect(disk, "qcow2", programs)
    options = ("-O", "vmdk", "-o", "subformat=streamOptimized")
    done = programs.run(
        ("qemu-img", "convert", "-f", "qcow2", *options, str(disk), str(into)), timeout=LONGEST, check=False
    )
    if done.status:
        raise HyperError(
            "A disk cannot be converted for other hypervisors.",
            why=done.stderr.strip() or f"qemu-img ended with {done.status}",
            remedy="See whether there is room where the file is to be, then do it again.",
        )
    return found.size


def _left(row: "dict[str, Any]") -> "list[str]":
    """What other hypervisors get nothing of."""
    left = []
    if row["tpm"]:
        left.append("its TPM, with the keys in it")
    if row["firmware"] == "uefi":
        left.append("variables of its firmware, such as the order that it boots in")
    left += [f"a device of the host: {' '.join(each.values())}" for each in row["devices"]]
    if row["snapshots"]:
        left.append("its snapshots")
    if row["ignition"]:
        left.append("what Ignition reads at the first boot")
    left += [
        f"{disk['target']}: what cloud-init reads at the first boot"
        for disk in row["disks"]
        if disk["volume"] and disk["volume"]["kind"] == "seed"
    ]
    return left
