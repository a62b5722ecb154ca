"""Block devices: from the names a plan uses to what the kernel knows about them now."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.live import LiveSystem
from installer.execute.runner import Runner
from installer.plan.model import DiskIdentity

_SECTOR = 512
"""Unit of sysfs sizes, whatever the disk's own sector (kernel doc block/stat, ABI sysfs-block)."""
_SETTLE = 60.0
_OURS = 300.0
"""Seconds that udev may take for events of our own, behind all that came before them."""
_POLL = 0.05
_CONTROL = re.compile(r"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True)
class BlockDevice:
    """What the kernel and udev say about a disk now."""

    name: str
    """Kernel name now."""
    size: int
    """Bytes."""
    read_only: bool
    """Whether the kernel refuses writes."""
    serials: frozenset[str]
    """Serial numbers, from every place one is given."""
    wwns: frozenset[str]
    """World-wide names, likewise."""
    partitions: tuple[str, ...]
    """Kernel names of its partitions."""


def kernel_name(path: str) -> str | None:
    """Kernel name of the block device that a path leads to now; none: there is none."""
    # Strict: else a link that comes between this and the next call would be taken for the name of what it leads to.
    try:
        resolved = Path(path).resolve(strict=True)
    except OSError:
        return None
    return resolved.name if resolved.is_block_device() else None


def _attribute(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="replace").strip() or None
    except OSError:
        return None


def udev_properties(live: LiveSystem, number: str) -> dict[str, str]:
    """udev's properties of a block device, by `major:minor`."""
    try:
        lines = (live.udev / f"b{number}").read_bytes().decode(errors="replace").splitlines()
    except OSError:
        return {}
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("E:") and "=" in line)


def read_device(live: LiveSystem, name: str) -> BlockDevice:
    """Read it from sysfs and udev again; nothing is remembered."""
    folder = live.sysfs / "class/block" / name
    properties = udev_properties(live, (folder / "dev").read_text().strip())
    serials = (
        _attribute(folder / "serial"),
        _attribute(folder / "device/serial"),
        properties.get("ID_SCSI_SERIAL"),
        properties.get("ID_SERIAL_SHORT"),
        properties.get("ID_SERIAL"),
    )
    wwns = (
        _attribute(folder / "wwid"),
        _attribute(folder / "device/wwid"),
        properties.get("ID_WWN_WITH_EXTENSION"),
        properties.get("ID_WWN"),
    )
    return BlockDevice(
        name=name,
        size=int((folder / "size").read_text()) * _SECTOR,
        read_only=(folder / "ro").read_text().strip() == "1",
        serials=frozenset(map(_plain, filter(None, serials))),
        wwns=frozenset(map(_world_wide_name, filter(None, wwns))),
        partitions=tuple(sorted(path.parent.name for path in folder.glob("*/partition"))),
    )


def _plain(text: str) -> str:
    return _CONTROL.sub(lambda match: chr(int(match.group(1), 16)), text).strip()


def _world_wide_name(text: str) -> str:
    """One spelling: the kernel writes `naa.5000…` where udev writes `0x5000…`."""
    return "0x" + text.removeprefix("naa.").lower() if text.startswith("naa.") else text.lower()


def identity_problem(disk: DiskIdentity, device: BlockDevice) -> str | None:
    """Why this is not the disk of the plan; none: it is."""
    if disk.serial is not None and _plain(disk.serial) not in device.serials:
        return f"serial {disk.serial} was planned, {_listed(device.serials)} is there"
    if disk.wwn is not None and _world_wide_name(disk.wwn) not in device.wwns:
        return f"WWN {disk.wwn} was planned, {_listed(device.wwns)} is there"
    if disk.size != device.size:
        return f"{disk.size} bytes were planned, {device.size} are there"
    return None


def _listed(values: frozenset[str]) -> str:
    return " or ".join(sorted(values)) or "none"


def settle(runner: Runner) -> None:
    """Wait until udev has dealt with everything that happened so far, a minute at most.

    Where a device comes and goes all the time, as on a bad cable, udev is never done: that is no reason to fail, since
    whoever needs a link or a holder gone looks for that by itself.
    """
    runner.run(["udevadm", "settle", f"--timeout={_SETTLE:.0f}"], timeout=_SETTLE + 10, check=False)


def dealt_with(runner: Runner, names: tuple[str, ...]) -> None:
    """Wait until udev has dealt with everything that happened to these devices so far.

    It takes a device's events one after the other, so an event of our own is its last. `udevadm settle` alone may be back
    while udev still has events to begin with.

    Args:
        runner: Runs programs.
        names: Kernel names.
    """
    if names:
        devices = [f"/sys/class/block/{name}" for name in names]
        runner.run(["udevadm", "trigger", "--settle", "--action=change", *devices], timeout=_OURS)
    settle(runner)


def wait_for(
    paths: tuple[str, ...], what: str, patience: float = _SETTLE, *, disk: str | None = None
) -> None:
    """Wait until each path leads to a block device.

    Args:
        paths: Device paths.
        what: What makes them, for the error.
        patience: Seconds.
        disk: Path of the disk whose partitions they must lead to; none: to any device.

    Raises:
        HyperError: some did not appear.
    """
    deadline = time.monotonic() + patience
    while missing := [path for path in paths if not _leads(path, disk)]:
        if time.monotonic() >= deadline:
            raise HyperError(
                f"{', '.join(missing)} did not appear",
                why=f"{what}, but udev made no link within {patience:.0f} seconds",
                remedy="look at `udevadm monitor` and the kernel's messages, then run the same command again",
                code=Exit.step,
            )
        time.sleep(_POLL)


def _leads(path: str, disk: str | None) -> bool:
    name = kernel_name(path)
    return name is not None and (disk is None or Path("/sys/class/block", Path(disk).name, name).exists())


def appearing(path: str, patience: float = 4.0) -> str | None:
    """Kernel name of the device that a path leads to, which udev may not have linked yet; none: it does not come."""
    deadline = time.monotonic() + patience
    while (name := kernel_name(path)) is None and time.monotonic() < deadline:
        time.sleep(_POLL)
    return name


def gone(path: str, patience: float = 10.0) -> bool:
    """Whether udev has taken a link away, which may come a little later than the device went."""
    deadline = time.monotonic() + patience
    while (there := os.path.lexists(path)) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return not there


def claim_problem(path: str) -> str | None:
    """Why the kernel would not give this device to us alone; none: it does.

    O_EXCL on a block device fails while anything has claimed it or a part of it: a mount in any namespace, swap,
    device-mapper, md (open(2)).
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return str(error.strerror)
    return None
