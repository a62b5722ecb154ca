"""A GPT that stays: changed with libparted, and its entries compared byte for byte (UEFI specification 2.10, chapter 5)."""

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import parted

from installer.answers.sizes import MIB
from installer.errors import Exit, HyperError
from installer.execute.devices import dealt_with, wait_for
from installer.execute.evidence import Evidence, Wrong, ensure
from installer.execute.headers import saved_ends
from installer.execute.live import LiveSystem
from installer.execute.partition_table import PARTED_ERRORS, hold, locked, tell_kernel
from installer.execute.runner import Runner
from installer.execute.stale import blanked, erased, put_back
from installer.plan.actions import ChangePartitionTable, FoundPartition, PartitionSpec
from installer.plan.model import DiskIdentity

_SIGNATURE = b"EFI PART"
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
"""Signature, revision, header's size and CRC, reserved, own place, the other's, first and last usable, disk GUID, place,
number and size of the entries, and their CRC."""
_ENTRY = struct.Struct("<16s16sQQQ72s")
"""Type, GUID, first and last sector, attributes, name."""
_PROTECTIVE = 0xEE
"""MBR type of the entry that covers a GPT disk."""


@dataclass(frozen=True)
class Table:
    """One copy of a GPT."""

    guid: bytes
    """Of the disk."""
    entries: dict[int, bytes]
    """Number to the whole entry, of those that are in use."""
    other: int
    """Sector where it says that the other copy is."""
    last_usable: int
    """Sector."""


def parse(header: bytes, entries: bytes, place: int) -> Table:
    """A copy from its bytes.

    Args:
        header: From the header's sector on.
        entries: From the first entry on.
        place: Sector of the header.

    Raises:
        Wrong: it is damaged, or none.
    """
    fields = _HEADER.unpack_from(header)
    signature, _, size, checksum, _, own, other, _, last, guid, _, count, length, entries_checksum = fields
    ensure(signature == _SIGNATURE, f"a GPT header in sector {place}", repr(signature))
    ensure(
        _HEADER.size <= size <= len(header), f"a GPT header of usual size in sector {place}", f"{size} bytes"
    )
    blank = header[:16] + bytes(4) + header[20:size]
    ensure(zlib.crc32(blank) == checksum, f"a whole GPT header in sector {place}", "another checksum")
    ensure(own == place, f"a GPT header for sector {place}", f"one for sector {own}")
    ensure(
        length >= _ENTRY.size and count * length <= len(entries),
        "partition entries of usual size",
        str(length),
    )
    ensure(
        zlib.crc32(entries[: count * length]) == entries_checksum,
        "whole partition entries",
        "another checksum",
    )
    each = (entries[number * length : (number + 1) * length] for number in range(count))
    used = {number: entry for number, entry in enumerate(each, start=1) if any(entry[:16])}
    return Table(guid=guid, entries=used, other=other, last_usable=last)


def entry_at(header: bytes) -> tuple[int, int]:
    """Sector of the first entry, and bytes of all of them."""
    fields = _HEADER.unpack_from(header)
    return fields[10], fields[11] * fields[12]


def read_copies(path: str, sector: int) -> tuple[Table, Table]:
    """Both copies on a disk, or in a file that stands in for one. Raises Wrong, OSError."""
    with Path(path).open("rb", buffering=0) as disk:
        first = _read(disk.fileno(), 1, sector)
        return first, _read(disk.fileno(), first.other, sector)


def _read(descriptor: int, place: int, sector: int) -> Table:
    header = os.pread(descriptor, sector, place * sector)
    ensure(len(header) == sector and header[:8] == _SIGNATURE, f"a GPT header in sector {place}", "none")
    start, length = entry_at(header)
    ensure(length <= MIB, "partition entries of usual size", f"{length} bytes")
    return parse(header, os.pread(descriptor, length, start * sector), place)


def saved_table(live: LiveSystem, disk: DiskIdentity) -> Table:
    """The first copy as it was before the first write. Raises Wrong."""
    first, _ = saved_ends(live, disk)
    sector = disk.logical_sector
    header = first[sector : 2 * sector]
    ensure(header[:8] == _SIGNATURE, f"a GPT in the saved first MiB of {disk.name}", "none")
    start, length = entry_at(header)
    return parse(header, first[start * sector : start * sector + length], 1)


def change_table(
    live: LiveSystem,
    runner: Runner,
    disk: DiskIdentity,
    action: ChangePartitionTable,
    held: ExitStack,
    *,
    again: bool,
) -> None:
    """Change the table, let kernel and udev see it, and wait until every partition of ours can be opened.

    Args:
        live: The live system.
        runner: Runs programs.
        disk: Whose table.
        action: What it is and what it becomes.
        held: Keeps the partitions open; until it is closed, nobody can take them away.
        again: A try before this one may have changed it: begin from what was saved.

    Raises:
        HyperError: it is not the planned one, or cannot be changed; it is then as it was.
        Wrong: what came out is not what should; it is then as it was.
        OSError: the disk cannot be read or written.
    """
    path = os.path.realpath(disk.device)
    with locked(path):
        if again:
            # What was blanked may have been the old end's copy of the table, where the disk has grown.
            put_back(path, erased(live, disk))
            _write_ends(path, disk, saved_ends(live, disk))
        change_partitions(runner, path, disk, action, erased(live, disk))
        tell_kernel(runner, path)
        names = hold(path, held)
    dealt_with(runner, names)
    wait_for(
        tuple(disk.partition(each.number) for each in (*action.change, *action.add)),
        f"the partition table of {disk.name} was changed and the kernel told",
        disk=path,
    )


def change_partitions(
    runner: Runner, path: str, disk: DiskIdentity, action: ChangePartitionTable, folder: Path
) -> None:
    """The same on a device or a file that stands in for one; tells nobody. On failure the table is as it was."""
    _require_plain(path, disk)
    before, ends = _require_found(path, disk, action), _read_ends(path, disk)
    with _as_it_was(path, disk, ends):
        if before.other != disk.size // disk.logical_sector - 1:
            # The disk has grown: libparted would go on with its old end, and the new space could not be used.
            runner.run(["sfdisk", "--no-tell-kernel", "--relocate", "gpt-bak-std", path])
        with blanked(path, _gained(action), folder):
            for each in _commit(path, disk, action):
                runner.run(
                    ["sfdisk", "--no-tell-kernel", "--part-type", path, str(each.number), each.type_uuid]
                )
            _require_kept(read_copies(path, disk.logical_sector), before, action.kept, disk)


@contextmanager
def _as_it_was(path: str, disk: DiskIdentity, ends: tuple[bytes, bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _write_ends(path, disk, ends)
        raise


def _gained(action: ChangePartitionTable) -> Iterator[tuple[int, int]]:
    """First byte and length of what becomes part of a partition of ours."""
    yield from ((each.start, each.size) for each in action.add)
    found = {each.number: each for each in action.found}
    for each in action.change:
        old = found[each.number]
        if each.size > old.size:
            yield old.start + old.size, each.size - old.size


def _require_plain(path: str, disk: DiskIdentity) -> None:
    """HyperError for a hybrid MBR, whose second view of the disk would no longer be true."""
    with Path(path).open("rb") as device:
        record = device.read(512)
    types = [record[446 + 16 * place + 4] for place in range(4)]
    if record[510:] == b"\x55\xaa" and any(each not in (0, _PROTECTIVE) for each in types):
        raise HyperError(
            f"the partition table of {disk.name} is not changed",
            why="beside the GPT it has MBR entries of another view of the disk (a hybrid MBR)",
            remedy="have the tool that made them take them away (gdisk, expert menu), or choose another disk",
            code=Exit.unsuitable,
        )


def _require_found(path: str, disk: DiskIdentity, action: ChangePartitionTable) -> Table:
    try:
        first, second = read_copies(path, disk.logical_sector)
        ensure(
            first.entries == second.entries and first.guid == second.guid,
            f"two equal copies of the partition table of {disk.name}",
            "two that differ",
        )
    except Wrong as error:
        raise HyperError(
            f"the partition table of {disk.name} is damaged, and nothing was written",
            why=str(error),
            remedy="repair it with the system that it belongs to, or with gdisk, after copying what is dear to you",
            code=Exit.unsuitable,
        ) from error
    found = tuple(
        _found(number, entry, disk.logical_sector) for number, entry in sorted(first.entries.items())
    )
    if found != action.found:
        raise HyperError(
            f"the partitions of {disk.name} are not those of the plan, and nothing was written",
            why=f"found: {_words(found)}; planned for: {_words(action.found)}",
            remedy="plan again and confirm",
            code=Exit.busy,
        )
    return first


def _found(number: int, entry: bytes, sector: int) -> FoundPartition:
    kind, guid, first, last, _, _ = _ENTRY.unpack_from(entry)
    return FoundPartition(
        number=number,
        uuid=str(UUID(bytes_le=guid)),
        type_uuid=str(UUID(bytes_le=kind)),
        start=first * sector,
        size=(last - first + 1) * sector,
    )


def _words(found: tuple[FoundPartition, ...]) -> str:
    return ", ".join(f"{each.number} {each.uuid} {each.start}+{each.size}" for each in found) or "none"


def _commit(path: str, disk: DiskIdentity, action: ChangePartitionTable) -> list[PartitionSpec]:
    """Change and write the table; returns the partitions whose type this libparted cannot set (before 3.6)."""
    untyped: list[PartitionSpec] = []
    try:
        device = parted.getDevice(path)
        device.removeFromCache()  # libparted remembers sizes by path, and a path may change its disk
        sector = device.sectorSize
        table = parted.newDisk(device)
        by_number = {each.number: each for each in table.partitions}
        for number in action.delete:
            table.deletePartition(by_number[number])
        for spec in action.change:
            partition = by_number[spec.number]
            start, length = spec.start // sector, spec.size // sector
            if (partition.geometry.start, partition.geometry.length) != (start, length):
                geometry = parted.Geometry(device=device, start=start, length=length)
                exactly = parted.Constraint(exactGeom=geometry)
                table.setPartitionGeometry(partition, exactly, start=start, end=start + length - 1)
            _describe(partition, spec, untyped)
        for spec in action.add:
            geometry = parted.Geometry(device=device, start=spec.start // sector, length=spec.size // sector)
            partition = parted.Partition(disk=table, type=parted.PARTITION_NORMAL, geometry=geometry)
            table.addPartition(partition, constraint=parted.Constraint(exactGeom=geometry))
            ensure(partition.number == spec.number, f"partition {spec.number}", f"number {partition.number}")
            _describe(partition, spec, untyped)
        table.commitToDevice()
    except PARTED_ERRORS as error:
        raise HyperError(
            f"the partition table of {disk.name} could not be changed, and is as it was",
            why=f"libparted: {error}",
            remedy="look at the kernel's messages for errors of the disk",
            code=Exit.step,
        ) from error
    return untyped


def _describe(partition: parted.Partition, spec: PartitionSpec, untyped: list[PartitionSpec]) -> None:
    partition.set_name(spec.label)
    try:
        partition.set_type_uuid(UUID(spec.type_uuid).bytes)
    except NotImplementedError:
        untyped.append(spec)


def _require_kept(
    after: tuple[Table, Table], before: Table, numbers: tuple[int, ...], disk: DiskIdentity
) -> None:
    for copy in after:
        ensure(copy.guid == before.guid, f"the GUID of {disk.name}'s table as it was", "another")
        for number in numbers:
            ensure(
                copy.entries.get(number) == before.entries.get(number),
                f"the entry of partition {number} of {disk.name} as it was, byte for byte",
                (copy.entries.get(number) or b"").hex() or "none",
            )


def check_entries(live: LiveSystem, disk: DiskIdentity, numbers: tuple[int, ...]) -> Evidence:
    """The entries are in both copies what was saved before the first write."""
    path = os.path.realpath(disk.device)
    _require_kept(read_copies(path, disk.logical_sector), saved_table(live, disk), numbers, disk)
    words = f"partitions {', '.join(map(str, numbers))}" if numbers else "no partition"
    return (f"{disk.device}: the entries of {words} and the table's GUID are as they were, in both copies",)


def _read_ends(path: str, disk: DiskIdentity) -> tuple[bytes, bytes]:
    with Path(path).open("rb", buffering=0) as device:
        return os.pread(device.fileno(), MIB, 0), os.pread(device.fileno(), MIB, disk.size - MIB)


def _write_ends(path: str, disk: DiskIdentity, ends: tuple[bytes, bytes]) -> None:
    with Path(path).open("r+b", buffering=0) as device:
        for place, content in zip((0, disk.size - MIB), ends, strict=True):
            os.pwrite(device.fileno(), content, place)
        os.fsync(device.fileno())
