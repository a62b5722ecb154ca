"""Another system's EFI system partition, from which the host starts too: its own files stay what they are."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from installer.execute.devices import kernel_name, settle
from installer.execute.evidence import Evidence, ensure
from installer.execute.files import write_file
from installer.execute.live import LiveSystem
from installer.execute.mounts import read_mounts
from installer.execute.runner import Runner
from installer.plan.actions import LookAtEsp
from installer.plan.model import DiskIdentity

OURS = ("efi/systemd/", "efi/nixos/", "efi/linux/nixos-", "loader/", "grub/", "kernels/")
"""Beginnings of the paths that the host's loader writes, lower case as FAT compares them."""
FALLBACK = "efi/boot/"
"""What firmware starts without a boot entry (UEFI specification 2.10, 3.5.1.1); whoever installs a loader takes it."""
_RECORD = "files.json"
_MODE = 0o600


def look_at_esp(live: LiveSystem, runner: Runner, disk: DiskIdentity, action: LookAtEsp) -> None:
    """Record what is on it; an earlier record stays, since later our own files are there too.

    Raises:
        HyperError: it has too little room, or is used in a way that cannot be shared (Exit.unsuitable).
    """
    folder = _folder(live, disk)
    if (folder / _RECORD).is_file():
        return
    device = disk.partition(action.partition)
    with _mounted(live, runner, device) as place:
        _require_shareable(place, device)
        free = shutil.disk_usage(place).free
        if free < action.room:
            raise HyperError(
                f"{device} has too little room to be shared",
                why=f"{format_size(free)} are free, and {format_size(action.room)} are needed for kernels and initrds",
                remedy='write storage.esp = "own", and make free space for it',
                code=Exit.unsuitable,
            )
        record = {path: _sha256(place / path) for path in _foreign(place)}
        for path in record:
            if path.lower().startswith(FALLBACK):
                write_file(folder / path, (place / path).read_bytes(), _MODE)
    write_file(folder / _RECORD, json.dumps(record, indent=1, sort_keys=True).encode(), _MODE)


def put_back_foreign(live: LiveSystem, disk: DiskIdentity, place: Path) -> None:
    """Put back what stood in `EFI/BOOT`, through another name, so that none is ever half there."""
    folder = _folder(live, disk)
    for path, digest in _record(folder).items():
        if path.lower().startswith(FALLBACK) and (
            not (place / path).is_file() or _sha256(place / path) != digest
        ):
            _write(place / path, (folder / path).read_bytes())


def _write(path: Path, content: bytes) -> None:
    """A whole file on a FAT, which has no permission bits to set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def check_foreign(live: LiveSystem, disk: DiskIdentity, place: Path | None) -> Evidence:
    """Every recorded file is what it was; without a place, only that there is a record."""
    folder = _folder(live, disk)
    ensure((folder / _RECORD).is_file(), f"a record of the files in {folder}", "none")
    record = _record(folder)
    if place is None:
        return (f"{len(record)} files of other systems are on the EFI system partition of {disk.name}",)
    for path, digest in record.items():
        there = (place / path).is_file()
        ensure(
            there and _sha256(place / path) == digest,
            f"{place / path} as it was",
            "another" if there else "none",
        )
    return (f"{place}: all {len(record)} files of other systems are what they were",)


def _folder(live: LiveSystem, disk: DiskIdentity) -> Path:
    return live.headers / disk.key / "esp"


def _record(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / _RECORD).read_bytes())
    return found


def _foreign(place: Path) -> Iterator[str]:
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if path.is_file() and not name.lower().startswith(OURS):
            yield name


def _require_shareable(place: Path, device: str) -> None:
    """HyperError if another Linux has its systemd-boot there: both would write one `loader/loader.conf`."""
    entries = [each.name for each in (place / "loader/entries").glob("*.conf")]
    foreign = [each for each in entries if not each.startswith("nixos-")]
    if foreign or ((place / "loader/loader.conf").is_file() and not entries):
        raise HyperError(
            f"{device} cannot be shared",
            why=f"another system has systemd-boot there ({', '.join(foreign) or 'loader/loader.conf'}), and both would "
            "write its settings",
            remedy='write storage.esp = "own": the host gets one of its own in the free space',
            code=Exit.unsuitable,
        )


@contextmanager
def _mounted(live: LiveSystem, runner: Runner, device: str) -> Iterator[Path]:
    """Where its files are: where it is mounted already, since the kernel mounts no file system twice in different ways."""
    name = kernel_name(device)
    for mount in read_mounts(live.mountinfo):
        if name is not None and mount.root == "/" and kernel_name(mount.source) == name:
            yield Path(mount.target)
            return
    place = live.runtime / "esp"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    settle(runner)
    runner.run(["mount", "-t", "vfat", "-o", "ro", device, str(place)])
    try:
        yield place
    finally:
        runner.run(["umount", str(place)])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
