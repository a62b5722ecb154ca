"""Makes each mirror hold what the source holds."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hv.esp.difference import difference
from hv.esp.inventory import Inventory, take
from hv.esp.partition import Partition, opened
from hv.esp.writing import Writes, content, drop, make_folders, put
from installer.errors import Exit, HyperError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Synced:
    """What was done to one mirror."""

    mount_point: Path
    """Which."""
    written: int = 0
    """Files."""
    removed: int = 0
    """Files."""
    error: HyperError | None = None
    """Why it could not be done."""


def sync(source: Path, mirrors: tuple[Path, ...], disk: Writes, say: Say) -> tuple[Synced, ...]:
    """Each mirror in turn; one that cannot be written keeps no other from being.

    Raises HyperError when the source itself is not mounted, or would not boot: then no mirror is touched.
    """
    with opened(source) as good:
        found = take(good.folder)
        _require_bootable(source, found)
        return tuple(_guarded(good, found, mirror, disk, say) for mirror in mirrors)


def _require_bootable(source: Path, found: Inventory) -> None:
    if found.default() is None or not found.managers():
        raise HyperError(
            f"The EFI system partition at {source} would not boot; its mirrors are left as they are.",
            why="; ".join(found.complaints()),
            remedy="Write it anew with `nixos-rebuild boot --install-bootloader`.",
        )


def _guarded(good: Partition, found: Inventory, mirror: Path, disk: Writes, say: Say) -> Synced:
    try:
        return _one(good, found, mirror, disk, say)
    except HyperError as error:
        return Synced(mirror, error=error)
    except OSError as error:
        why = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror or error)
        remedy = "See `journalctl -k` for the disk's errors; what was there before still boots."
        return Synced(
            mirror,
            error=HyperError(f"Writing to {mirror} failed.", why=why, remedy=remedy, code=Exit.step),
        )


def _one(good: Partition, found: Inventory, mirror: Path, disk: Writes, say: Say) -> Synced:
    with opened(mirror, mirror_of=good) as other:
        held = take(other.folder)
        for path in held.partial:
            drop(disk, other.folder / path)
        wanted = difference(
            found, held, lambda left, right: content(good.folder / left) == content(other.folder / right)
        )
        for path in wanted.left_out:
            say(f"{mirror}: {path} is left out: the source lacks what it loads")
        _require_room(other, wanted.room(_cluster(other)), held, wanted.drops)
        for each in wanted.puts:
            target = other.folder / each.path
            make_folders(disk, other.folder, target.parent)
            put(disk, good.folder / each.origin, target)
        for path in wanted.drops:
            drop(disk, other.folder / path)
        # Looked at anew: what counts is what is there.
        if complaints := take(other.folder).complaints():
            raise HyperError(
                f"{mirror} was written, and would not boot.",
                why="; ".join(complaints),
                remedy=f"`fsck.vfat -a` its unmounted partition, then `hv esp sync`; see also {good.mount_point}.",
                code=Exit.step,
            )
        say(f"{mirror}: {len(wanted.puts)} files written, {len(wanted.drops)} removed")
        return Synced(mirror, len(wanted.puts), len(wanted.drops))


def _cluster(partition: Partition) -> int:
    return max(os.statvfs(partition.folder).f_frsize, 512)


def _require_room(partition: Partition, needed: int, held: Inventory, drops: tuple[str, ...]) -> None:
    told = os.statvfs(partition.folder)
    free = told.f_bavail * told.f_frsize
    # A file system in user space may not tell its size; then what does not fit fails when it is written, and changes
    # nothing that boots either.
    if told.f_blocks and needed > free:
        stale = sum(held.sizes.get(path, 0) for path in drops)
        raise HyperError(
            f"There is not enough room on {partition.mount_point}; nothing on it was changed.",
            why=f"{_mib(needed)} MiB are needed before old generations may go, {_mib(free)} MiB are free, "
            f"{_mib(needed - free)} MiB are lacking ({_mib(stale)} MiB belong to old generations)",
            remedy="Keep fewer generations (`boot.loader.systemd-boot.configurationLimit`), rebuild, and sync again; "
            "or remove other systems' files from it.",
            code=Exit.unsuitable,
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"
