"""What stood on a disk before the first write: its table and ends, LUKS headers, and everything that wipefs erases.

All that is written before the first file system lies within the ends, or is erased by wipefs, which keeps it (wipefs(8),
`--backup`), or where new partitions begin and end (installer.execute.stale). So up to there a disk comes back to the byte.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from installer.answers.sizes import MIB
from installer.errors import Exit, HyperError
from installer.execute.content import read_ends
from installer.execute.devices import dealt_with, identity_problem, kernel_name, read_device
from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.partition_table import hold, locked, tell_kernel
from installer.execute.runner import Runner
from installer.execute.signatures import probe_signature
from installer.execute.stale import Piece, erased, kept_pieces, new_home
from installer.plan.actions import Run
from installer.plan.model import DiskIdentity, Plan

_TABLE = "partition-table.sfdisk"
_NO_TABLE = b"# no partition table\n"
_ENDS = ("first-mib.bin", "last-mib.bin")
_BLKFLSBUF = 0x1261
"""_IO(0x12, 97), linux/fs.h: write and forget what is cached of a device."""
_SECTOR = 512


def save_headers(live: LiveSystem, runner: Runner, disk: DiskIdentity) -> None:
    """Save the table (for `sfdisk DISK < FILE`), first and last MiB, and LUKS headers (`cryptsetup luksHeaderRestore`)."""
    _require_planned(live, disk)
    folder = live.headers / disk.key
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = os.path.realpath(disk.device)
    with Path(path).open("rb") as device:
        first = device.read(MIB)
        device.seek(disk.size - MIB)
        last = device.read(MIB)
    for name, content in zip(_ENDS, (first, last), strict=True):
        _write(folder / name, content)
    _write(folder / _TABLE, _dump(runner, path))
    for number, part in _parts(live, disk).items():
        device_path = f"/dev/{part}"
        signature = probe_signature(runner, device_path) if _readable(device_path) else None
        if signature and signature.kind == "crypto_LUKS":
            backup = _luks_backup(folder, number)
            backup.unlink(missing_ok=True)
            runner.run(["cryptsetup", "luksHeaderBackup", device_path, "--header-backup-file", str(backup)])


def saved_ends(live: LiveSystem, disk: DiskIdentity) -> tuple[bytes, bytes]:
    """First and last MiB as they were before the first write. Raises Wrong."""
    check_saved(live, disk)
    first, last = ((live.headers / disk.key / name).read_bytes() for name in _ENDS)
    return first, last


def _dump(runner: Runner, path: str) -> bytes:
    """The table as sfdisk writes it; a disk without one is no failure, the ends hold whatever else is there."""
    table = runner.run(["sfdisk", "--dump", path], check=False)
    return table.stdout if table.status == 0 else _NO_TABLE


def _parts(live: LiveSystem, disk: DiskIdentity) -> dict[int, str]:
    """The disk (0) and its partitions by number, each with its kernel name now."""
    name = kernel_name(disk.device) or ""
    found = {0: name}
    for part in read_device(live, name).partitions:
        found[int((live.sysfs / "class/block" / part / "partition").read_text())] = part
    return found


def _luks_backup(folder: Path, number: int) -> Path:
    return folder / f"luks-{number}.img"


def _require_planned(live: LiveSystem, disk: DiskIdentity) -> None:
    """HyperError (Exit.busy) for another disk: its headers must never be put back on this one."""
    name = kernel_name(disk.device)
    problem = "it is not there any more" if name is None else identity_problem(disk, read_device(live, name))
    if problem is None and disk.ends is not None and (now := read_ends(live, disk).hash) != disk.ends:
        problem = f"its first and last MiB have the SHA-256 {now}, and {disk.ends} was planned"
    if problem:
        raise HyperError(
            f"the headers of disk `{disk.key}` ({disk.name}) are not saved, and nothing is written",
            why=f"{disk.device}: {problem}",
            remedy="put back the disk that was confirmed, or add `--fresh`, plan again and confirm",
            code=Exit.busy,
        )


def _readable(path: str) -> bool:
    """Extended MBR partitions are two sectors long and nothing to probe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.lseek(descriptor, 0, os.SEEK_END) > MIB
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def check_saved(live: LiveSystem, disk: DiskIdentity) -> Evidence:
    """Table and both ends are there, whole."""
    folder = live.headers / disk.key
    sizes = {
        name: (folder / name).stat().st_size if (folder / name).is_file() else 0 for name in (*_ENDS, _TABLE)
    }
    ensure(
        all(sizes[name] == MIB for name in _ENDS) and sizes[_TABLE] > 0,
        f"saved headers in {folder}",
        str(sizes),
    )
    luks = sorted(path.name for path in folder.glob("luks-*.img"))
    return (f"{folder}: {', '.join((_TABLE, *_ENDS, *luks))}",)


def erased_kept(live: LiveSystem, plan: Plan, action: Run) -> dict[str, str]:
    """Where this run of wipefs keeps what it erases: in its HOME, a folder that says when, and from where on the disk."""
    device = action.argv[-1]
    disk = next(
        each for each in plan.disks if device == each.device or device.startswith(f"{each.device}-part")
    )
    start = live.sysfs / "class/block" / (kernel_name(device) or "") / "start"
    place = int(start.read_text()) * _SECTOR if start.is_file() else 0
    home = new_home(erased(live, disk), place)
    return {"HOME": str(home)}


def restore_headers(
    live: LiveSystem, runner: Runner, disk: DiskIdentity, held: contextlib.ExitStack
) -> Evidence:
    """Put back everything that was saved, in one go, and read it back from the disk.

    Args:
        live: The live system.
        runner: Runs programs.
        disk: Which.
        held: Keeps the partitions that come back open; until it is closed, nobody can take them away.

    Raises:
        Wrong: nothing whole was saved, or the disk does not hold what was written.
        OSError: it cannot be written.
    """
    check_saved(live, disk)
    folder, path = live.headers / disk.key, os.path.realpath(disk.device)
    first, last = ((folder / name).read_bytes() for name in _ENDS)
    pieces = (*kept_pieces(erased(live, disk)), Piece(0, first), Piece(disk.size - MIB, last))
    with locked(path):
        with Path(path).open("r+b", buffering=0) as device:
            for piece in pieces:
                os.pwrite(device.fileno(), piece.content, piece.place)
            os.fsync(device.fileno())
            with contextlib.suppress(OSError):  # only so that what is read next comes from the disk
                fcntl.ioctl(device, _BLKFLSBUF)
        tell_kernel(runner, path)
        names = hold(path, held)
    dealt_with(runner, names)
    _check_restored(runner, path, disk, pieces, (folder / _TABLE).read_bytes())
    count = len(pieces) - 2
    return (
        f"{disk.device}: first and last MiB and {count} erased signature(s) are back, and read back equal",
        f"{disk.device}: sfdisk reads the table that was there before",
    )


def _check_restored(
    runner: Runner, path: str, disk: DiskIdentity, pieces: tuple[Piece, ...], table: bytes
) -> None:
    ends = pieces[-2:]
    with Path(path).open("rb", buffering=0) as device:
        for number, piece in enumerate(pieces):
            covered = any(
                later.place < piece.place + len(piece.content)
                and piece.place < later.place + len(later.content)
                for later in (*pieces[number + 1 : -2], *ends)
                if later is not piece
            )
            if piece in ends or not covered:
                found = os.pread(device.fileno(), len(piece.content), piece.place)
                ensure(
                    found == piece.content, f"what stood at {piece.place} of {disk.device}", "something else"
                )
    found_table = _dump(runner, path)
    ensure(found_table == table, f"the old table on {disk.device}", found_table.decode(errors="replace"))


def restore_luks(live: LiveSystem, runner: Runner, disk: DiskIdentity) -> Evidence:
    """Put back LUKS headers whole, where file systems may have been made over them."""
    folder, parts = live.headers / disk.key, _parts(live, disk)
    evidence = []
    for backup in sorted(folder.glob("luks-*.img")):
        number = int(backup.stem.removeprefix("luks-"))
        device = f"/dev/{parts[number]}"
        runner.run(
            ["cryptsetup", "luksHeaderRestore", "--batch-mode", device, "--header-backup-file", str(backup)]
        )
        evidence.append(
            f"{device}: the LUKS header is back; the passphrases of then open what is left of it"
        )
    return tuple(evidence)
