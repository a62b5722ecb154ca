"""The mount table, swaps, and who holds a block device."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from installer.execute.evidence import Evidence, Wrong, ensure
from installer.execute.live import LiveSystem
from installer.execute.runner import Runner

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    root: str
    """Which folder of the file system is mounted (`/@` for a btrfs subvolume)."""
    target: str
    """Mount point."""
    options: tuple[str, ...]
    """Options of the mount and of the file system together."""
    kind: str
    """File system type."""
    source: str
    """Device, or a name that the kind gives itself."""


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)


def read_mounts(mountinfo: Path) -> tuple[Mount, ...]:
    """All mounts, the later ones covering the earlier."""
    mounts = []
    for line in mountinfo.read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, source, above) = left.split(" "), [*right.split(" ", 2), "", ""][:3]
        options = (*fields[5].split(","), *above.split(","))
        mounts.append(
            Mount(_plain(fields[3]), _plain(fields[4]), tuple(map(_plain, options)), kind, _plain(source))
        )
    return tuple(mounts)


def mounted_at(mounts: tuple[Mount, ...], target: str) -> Mount | None:
    """The mount that is on top at a mount point."""
    return next((mount for mount in reversed(mounts) if mount.target == target), None)


def below(mounts: tuple[Mount, ...], folder: str) -> tuple[Mount, ...]:
    """Mounts at or below a folder."""
    return tuple(
        mount
        for mount in mounts
        if mount.target == folder or mount.target.startswith(folder.rstrip("/") + "/")
    )


def _same_device(source: str, device: int) -> bool:
    try:
        return source.startswith("/") and Path(source).stat().st_rdev == device
    except OSError:
        return False


def users_of(live: LiveSystem, name: str) -> tuple[str, ...]:
    """Who uses a block device now, by kernel name: partitions not counted.

    Each as `mount TARGET`, `swap NAME` or `holder NAME`.
    """
    folder = live.sysfs / "class/block" / name
    major, minor = map(int, (folder / "dev").read_text().strip().split(":"))
    device = os.makedev(major, minor)
    users = [
        f"mount {mount.target}"
        for mount in read_mounts(live.mountinfo)
        if _same_device(mount.source, device)
    ]
    for line in live.swaps.read_text().splitlines()[1:]:
        if _same_device(_plain(line.split()[0]), device):
            users.append(f"swap {name}")
    holders = folder / "holders"
    for holder in sorted(holders.iterdir()) if holders.is_dir() else ():
        title = holder / "dm/name"
        users.append(f"holder {title.read_text().strip() if title.is_file() else holder.name}")
    return tuple(dict.fromkeys(users))


def check_mounted(
    live: LiveSystem, target: str, options: tuple[str, ...], uuid: str, uuid_of_source: str | None
) -> Evidence:
    """The file system with this UUID is mounted there with these options in force."""
    mount = mounted_at(read_mounts(live.mountinfo), target)
    if mount is None:
        raise Wrong(f"UUID {uuid} mounted at {target}", "nothing mounted there")
    ensure(
        uuid_of_source == uuid, f"UUID {uuid} mounted at {target}", f"UUID {uuid_of_source} ({mount.source})"
    )
    in_force = {option for option in mount.options if option}
    missing = [option for option in options if not _in_force(option, in_force)]
    ensure(
        not missing,
        f"options {','.join(options)} at {target}",
        f"without {','.join(missing)}: {','.join(mount.options)}",
    )
    return (f"{target}: {mount.kind} {uuid} from {mount.source}, {','.join(sorted(in_force))}",)


def _in_force(option: str, options: set[str]) -> bool:
    """Whether an option holds; vfat shows `umask` as two (kernel doc filesystems/vfat)."""
    name, _, value = option.partition("=")
    if name == "umask":
        return {f"fmask={value}", f"dmask={value}"} <= options
    return option in options


def check_not_mounted(live: LiveSystem, target: str, mappers: tuple[str, ...]) -> Evidence:
    """Nothing at or below the folder, no such mapped device."""
    rest = below(read_mounts(live.mountinfo), target)
    ensure(not rest, f"nothing mounted at {target}", ", ".join(mount.target for mount in rest))
    for name in mappers:
        mapped = [
            path for path in live.sysfs.glob("class/block/dm-*/dm/name") if path.read_text().strip() == name
        ]
        ensure(
            not mapped,
            f"mapped device {name} closed",
            f"it is open as {mapped[0].parent.parent.name}" if mapped else "",
        )
    return (f"nothing is mounted at {target}", *(f"{name} is closed" for name in mappers))


def check_held(live: LiveSystem, runner: Runner, path: str) -> Evidence:
    """Nothing can be written into this folder while nothing is mounted there."""
    if mount := mounted_at(read_mounts(live.mountinfo), path):
        return (f"{path}: {mount.source} is mounted there",)
    flags = runner.run(["lsattr", "-d", path]).text.split()[0]
    ensure("i" in flags, f"the attribute i of {path}", flags)
    return (f"{path}: nothing can be written into it until something is mounted there ({flags})",)


def check_swap_active(live: LiveSystem, device: str) -> Evidence:
    """The kernel swaps to the device."""
    name = Path(device).resolve().name
    ensure(f"swap {name}" in users_of(live, name), f"swap on {device}", "it is not in /proc/swaps")
    return (f"swap on {device} ({name})",)


def check_mapper(live: LiveSystem, name: str, uuid: str) -> Evidence:
    """The mapped device is open on this LUKS header (`CRYPT-LUKS2-<uuid>-<name>`, libcryptsetup)."""
    for path in live.sysfs.glob("class/block/dm-*/dm"):
        if (path / "name").read_text().strip() != name:
            continue
        identity = (path / "uuid").read_text().strip()
        expected = f"CRYPT-LUKS2-{uuid.replace('-', '')}-{name}"
        ensure(identity == expected, f"{name} on LUKS {uuid}", f"it is {identity}")
        ensure(Path("/dev/mapper", name).is_block_device(), f"/dev/mapper/{name}", "no such device node")
        return (f"/dev/mapper/{name} is open on LUKS {uuid} ({path.parent.name})",)
    raise Wrong(f"{name} open on LUKS {uuid}", "no such mapped device")
