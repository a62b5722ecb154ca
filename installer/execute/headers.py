"""What stood at the two ends of a disk, kept before the first write: a wrong disk's table can be put back."""

import os
from pathlib import Path

from installer.answers.sizes import MIB
from installer.execute.devices import kernel_name, read_device
from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.runner import Runner
from installer.execute.signatures import probe_signature
from installer.plan.model import DiskIdentity

_TABLE = "partition-table.sfdisk"
_ENDS = ("first-mib.bin", "last-mib.bin")


def save_headers(live: LiveSystem, runner: Runner, disk: DiskIdentity) -> None:
    """Save the table (for `sfdisk DISK < FILE`), first and last MiB, and LUKS headers (`cryptsetup luksHeaderRestore`)."""
    folder = live.headers / disk.key
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = os.path.realpath(disk.device)
    with Path(path).open("rb") as device:
        first = device.read(MIB)
        device.seek(disk.size - MIB)
        last = device.read(MIB)
    for name, content in zip(_ENDS, (first, last), strict=True):
        _write(folder / name, content)
    table = runner.run(["sfdisk", "--dump", path], check=False)
    # A disk without a table is no failure; the ends above hold whatever else is there.
    _write(folder / _TABLE, table.stdout if table.status == 0 else b"# no partition table\n")
    name = kernel_name(path) or ""
    for part in (name, *read_device(live, name).partitions):
        device_path = f"/dev/{part}"
        signature = probe_signature(runner, device_path) if _readable(device_path) else None
        if signature and signature.kind == "crypto_LUKS":
            backup = folder / f"luks-{part}.img"
            backup.unlink(missing_ok=True)
            runner.run(["cryptsetup", "luksHeaderBackup", device_path, "--header-backup-file", str(backup)])


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
