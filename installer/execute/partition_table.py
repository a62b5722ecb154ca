"""GUID partition tables: written with libparted, read back with another tool."""

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import parted

from installer.errors import Exit, HyperError
from installer.execute.devices import dealt_with, kernel_name, wait_for
from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.runner import Runner
from installer.execute.stale import blanked, erased
from installer.plan.actions import PartitionSpec
from installer.plan.model import DiskIdentity

_BLKRRPART = 0x125F
"""_IO(0x12, 95), linux/fs.h: read the partition table again."""
_BUSY_PATIENCE = 20.0
_POLL = 0.1
_LIBPARTED = threading.Lock()
"""It has one list of devices for all threads."""
_SECTOR = 512
PARTED_ERRORS = (
    parted.PartedException,
    parted.IOException,
    parted.DeviceException,
    parted.DiskException,
    parted.DiskLabelException,
    parted.PartitionException,
    parted.GeometryException,
    parted.ConstraintException,
    parted.CreateException,
    parted.AlignmentException,
)
"""What pyparted raises; its exceptions have no base of their own."""


def write_table(
    live: LiveSystem,
    runner: Runner,
    disk: DiskIdentity,
    partitions: tuple[PartitionSpec, ...],
    held: contextlib.ExitStack,
) -> None:
    """Replace the table, let kernel and udev see it, and wait until every planned partition can be opened.

    Args:
        live: The live system.
        runner: Runs programs.
        disk: Whose table.
        partitions: What it becomes.
        held: Keeps the new partitions open; until it is closed, nobody can take them away.

    Raises:
        HyperError: the table does not fit the disk, or the kernel or udev does not follow.
        CommandError: sfdisk or udevadm failed.
        OSError: the disk cannot be read or written.
    """
    path = os.path.realpath(disk.device)
    with locked(path):
        with blanked(path, ((each.start, each.size) for each in partitions), erased(live, disk)):
            write_partitions(runner, path, disk, partitions)
        tell_kernel(runner, path)
        names = hold(path, held)
    dealt_with(runner, names)
    wait_for(
        tuple(disk.partition(each.number) for each in partitions),
        f"the partition table of {disk.name} was written and the kernel told",
        disk=path,
    )


def write_partitions(
    runner: Runner, path: str, disk: DiskIdentity, partitions: tuple[PartitionSpec, ...]
) -> None:
    """Write the table to a device, or to a file that stands in for one; tells nobody. Raises HyperError."""
    with _LIBPARTED:
        untyped = _commit(path, disk, partitions)
    for each in untyped:
        runner.run(["sfdisk", "--no-tell-kernel", "--part-type", path, str(each.number), each.type_uuid])


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep udev away while the table is half written (systemd, Locking Block Device Access)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _commit(path: str, disk: DiskIdentity, partitions: tuple[PartitionSpec, ...]) -> list[PartitionSpec]:
    """Write the table; returns the partitions whose type this libparted cannot set (before 3.6)."""
    untyped: list[PartitionSpec] = []
    try:
        device = parted.getDevice(path)
        # libparted remembers sizes by path, and a path may change its disk. Forgetting all devices instead
        # (freeAllDevices) would pull them from under objects of an earlier table, whose end then aborts the program.
        device.removeFromCache()
        sector = device.sectorSize
        table = parted.freshDisk(device, "gpt")
        for each in sorted(partitions, key=lambda spec: spec.number):
            geometry = parted.Geometry(device=device, start=each.start // sector, length=each.size // sector)
            partition = parted.Partition(disk=table, type=parted.PARTITION_NORMAL, geometry=geometry)
            exactly = parted.Constraint(exactGeom=geometry)
            table.addPartition(partition, constraint=exactly)
            partition.set_name(each.label)
            try:
                partition.set_type_uuid(UUID(each.type_uuid).bytes)
            except NotImplementedError:
                untyped.append(each)
            if partition.number != each.number:
                raise HyperError(
                    f"partition {each.number} of {disk.name} would get number {partition.number}",
                    why="a new GPT is filled from number 1 without gaps",
                    remedy="this is a fault of the plan: report it with the plan's JSON",
                    code=Exit.step,
                )
        table.commitToDevice()
    except PARTED_ERRORS as error:
        raise HyperError(
            f"no partition table could be written to {disk.name}",
            why=f"libparted: {error}",
            remedy="look at the kernel's messages for errors of the disk",
            code=Exit.step,
        ) from error
    return untyped


def tell_kernel(runner: Runner, path: str) -> None:
    """Have the kernel read the table, if any; where it does not scan a device by itself, tell it each partition.

    It forgets the old ones first: a new one that overlaps an old one would be left out, without a word.
    """
    if not _scanned(path):
        _forget(runner, path)
        runner.run(["partx", "--add", path], check=False)  # there may be nothing to tell


def hold(path: str, held: contextlib.ExitStack) -> tuple[str, ...]:
    """Open every partition that the kernel knows, so that none goes away; call it while the disk is locked.

    udev has the kernel read a table once more when whoever wrote it has closed the disk. Partitions are gone meanwhile,
    and their links until udev has seen them go and come back. The kernel does not read a table, nor drop a partition,
    while one is open (block/genhd.c, disk_scan_partitions).

    Returns:
        Their kernel names.
    """
    names = sorted(
        each.parent.name for each in Path("/sys/class/block", Path(path).name).glob("*/partition")
    )
    for name in names:
        node = "/dev/" + name.replace("!", "/")
        held.callback(os.close, os.open(node, os.O_RDONLY | os.O_CLOEXEC))
    return tuple(names)


def _forget(runner: Runner, path: str) -> None:
    """Have the kernel forget every partition; one that udev still probes for a moment cannot be."""
    folder, deadline = Path("/sys/class/block", Path(path).name), time.monotonic() + _BUSY_PATIENCE
    while left := sorted(each.parent.name for each in folder.glob("*/partition")):
        done = runner.run(["partx", "--delete", path], check=False).status == 0
        if time.monotonic() >= deadline:
            raise HyperError(
                f"the kernel does not forget the old partitions of {path}",
                why=f"{', '.join(left)} is in use",
                remedy="find what uses it (`lsblk`, `fuser -v`), end it, and run the same command again",
                code=Exit.busy,
            )
        time.sleep(0 if done else _POLL)


def _scanned(path: str) -> bool:
    """Have the kernel read the table; False: it does not scan such a device."""
    deadline = time.monotonic() + _BUSY_PATIENCE
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.ioctl(descriptor, _BLKRRPART)
                return True
            except OSError as error:
                if error.errno == errno.EINVAL:  # no partition scanning, e.g. a loop device
                    return False
                if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                    raise HyperError(
                        f"the kernel does not read the new partition table of {path}",
                        why=str(error.strerror),
                        remedy="find what uses the disk (`lsblk`, `fuser -v`), end it, and run the same command again",
                        code=Exit.busy,
                    ) from error
                time.sleep(_POLL)  # udev probes the disk for a moment after every write
    finally:
        os.close(descriptor)


def read_table(runner: Runner, path: str) -> list[PartitionSpec]:
    """The table on the disk, read by libfdisk; it checks both copies and their checksums."""
    found = json.loads(runner.run(["sfdisk", "--json", path], quiet=True).text)["partitiontable"]
    sector = int(found["sectorsize"])
    return [
        PartitionSpec(
            number=int(each["node"].removeprefix(path).lstrip("p")),
            label=each.get("name", ""),
            type_uuid=each["type"].lower(),
            start=int(each["start"]) * sector,
            size=int(each["size"]) * sector,
        )
        for each in found.get("partitions", ())
    ]


def check_table(
    live: LiveSystem, runner: Runner, disk: DiskIdentity, partitions: tuple[PartitionSpec, ...]
) -> Evidence:
    """The disk's table is as planned, and so is what the kernel made of it."""
    path = os.path.realpath(disk.device)
    found = read_table(runner, path)
    ensure(
        tuple(sorted(found, key=lambda each: each.number)) == partitions,
        f"the planned table on {disk.name}",
        "; ".join(f"{each.number}: {each.label} {each.type_uuid} {each.start}+{each.size}" for each in found)
        or "no partition",
    )
    evidence = []
    for each in partitions:
        name = kernel_name(disk.partition(each.number))
        ensure(name is not None, disk.partition(each.number), "no such device")
        folder = live.sysfs / "class/block" / str(name)
        start, size = (int((folder / field).read_text()) * _SECTOR for field in ("start", "size"))
        inside = (folder.resolve().parent / "dev").read_text() == _number(live, path)
        ensure(
            inside and (start, size) == (each.start, each.size),
            f"{disk.partition(each.number)} at {each.start}+{each.size} of {path}",
            f"{name} at {start}+{size}",
        )
        evidence.append(f"{name}: {each.label}, {each.type_uuid}, {each.size} bytes from {each.start}")
    return tuple(evidence)


def _number(live: LiveSystem, path: str) -> str:
    return (live.sysfs / "class/block" / Path(path).name / "dev").read_text()
