"""Clearing an old system away: everything goes but what is kept, which is never moved, copied or written to."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from installer.execute.asleep import give_up_below
from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.mounts import mounted_at, read_mounts
from installer.execute.release import release
from installer.plan.checks import StoredPlanIs
from installer.plan.model import DiskIdentity, Plan

_BOOT = re.compile(r"^/boot[0-9]*$|^/efi$")
"""Where boot file systems are mounted; what is on them is the loader's, which replaces its own files."""
_BLOCK = 512


class Rules:
    """What goes and what stays below a target."""

    def __init__(self, live: LiveSystem, root: Path, keep: tuple[str, ...]) -> None:
        self.root = root
        self.keep = {root / path.lstrip("/") for path in keep}
        prefix = "" if str(root) == "/" else str(root)
        mounts = read_mounts(live.mountinfo)
        below = [m.target for m in mounts if m.target.startswith(f"{prefix}/")]
        on = mounted_at(mounts, str(root))
        self.elsewhere = frozenset(
            # Subvolumes of one btrfs share its room; what another device gives takes none of it.
            Path(each.target)
            for each in mounts
            if each.target in below and (on is None or each.source != on.source)
        )
        self.mounts = {Path(each) for each in below}
        self.closed = {Path(each) for each in below if _BOOT.match(each.removeprefix(prefix))}
        self.ways = {parent for each in (*self.keep, *self.mounts) for parent in each.parents}

    def stays_whole(self, path: Path) -> bool:
        """Not entered at all."""
        return path in self.keep or path in self.closed

    def stays(self, path: Path) -> bool:
        """The folder stays, though not all that is in it."""
        return path in self.ways or path in self.mounts


def clear_target(live: LiveSystem, root: Path, keep: tuple[str, ...], room: int) -> None:
    """Remove what is not kept.

    Raises:
        HyperError: the system would not fit beside what is kept; nothing was removed (Exit.unsuitable).
        OSError: something cannot be removed; the next try goes on.
    """
    rules = Rules(live, root, keep)
    _require_room(rules, root, room)
    give_up_below(root)
    _clear(rules, root)
    os.sync()


def _require_room(rules: Rules, root: Path, room: int) -> None:
    """What is kept on the root's own file system leaves enough."""
    total = os.statvfs(root)
    size = total.f_blocks * total.f_frsize
    kept = {each: _used(each, rules.elsewhere) for each in sorted(rules.keep)}
    if size - sum(kept.values()) < room:
        most = ", ".join(f"{format_size(used)} in {path}" for path, used in kept.items() if used)
        raise HyperError(
            "the new system does not fit beside what is kept, and nothing was removed",
            why=f"the root has {format_size(size)}, of which {most or 'nothing'} stays, and {format_size(room)} are needed",
            remedy="keep less (storage.keep), or copy some of it to another disk first",
            code=Exit.unsuitable,
        )


def _used(path: Path, elsewhere: frozenset[Path]) -> int:
    """Bytes that a tree takes, without what is mounted in it from elsewhere."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    if any(each in elsewhere for each in (path, *path.parents)):
        return 0
    total = status.st_blocks * _BLOCK
    if path.is_dir() and not path.is_symlink():
        with os.scandir(path) as entries:
            total += sum(_used(Path(entry.path), elsewhere) for entry in entries)
    return total


def _clear(rules: Rules, folder: Path) -> None:
    for path, is_folder in _entries(folder):
        if rules.stays_whole(path):
            continue
        if is_folder:
            _clear(rules, path)
            if not rules.stays(path):
                release(path)
                path.rmdir()
        else:
            with contextlib.suppress(OSError):  # links and devices have no flags
                release(path)
            path.unlink()


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    release(folder)
    with os.scandir(folder) as entries:
        return [(Path(entry.path), entry.is_dir(follow_symlinks=False)) for entry in entries]


def check_only_kept(live: LiveSystem, root: Path, keep: tuple[str, ...]) -> Evidence:
    """Nothing else is there."""
    rules = Rules(live, root, keep)
    rest = next(_others(rules, root), None)
    ensure(rest is None, f"nothing on {root} but what is kept", str(rest))
    kept = sorted(str(each) for each in rules.keep if each.exists())
    return (f"{root}: nothing but {', '.join(kept) or 'empty folders'}",)


def _others(rules: Rules, folder: Path) -> Iterator[Path]:
    for path, is_folder in _entries(folder):
        if rules.stays_whole(path):
            continue
        if is_folder and rules.stays(path):
            yield from _others(rules, path)
        else:
            yield path


def check_stored_plan(check: StoredPlanIs) -> Evidence:
    """The host that is there is the one that is meant."""
    path = Path(check.path)
    ensure(path.is_file(), f"the plan that installed {check.hostname} in {path}", "no such file")
    try:
        plan = Plan.model_validate_json(path.read_bytes())
    except ValueError as error:
        ensure(False, f"a plan in {path}", f"something else: {str(error).splitlines()[0]}")
        raise
    ensure(plan.hostname == check.hostname, f"the host {check.hostname} in {path}", plan.hostname)
    disks = tuple(sorted(_name(each) for each in plan.disks))
    ensure(disks == check.disks, f"a plan for the disks {', '.join(check.disks)}", ", ".join(disks))
    return (f"{path}: {plan.hostname} was installed on {', '.join(disks)}",)


def _name(disk: DiskIdentity) -> str:
    return disk.serial or disk.wwn or disk.name
