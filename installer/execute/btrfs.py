"""Subvolumes of a btrfs, read from the file system itself."""

import re
from pathlib import Path

from installer.execute.devices import kernel_name, settle
from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.mounts import read_mounts
from installer.execute.runner import Runner
from installer.execute.signatures import probe_signature

_SUBVOLUME = re.compile(r"^ID (\d+) gen \d+ top level (\d+) path (.+)$")
_PATH = re.compile(r"^\s*devid\s.*\spath (/\S+)", re.MULTILINE)
_TOP = "5"
"""Id of the top level (btrfs-subvolume(8))."""


def forget_devices(live: LiveSystem, runner: Runner) -> None:
    """What is mounted stays known; a kernel without btrfs yet knows nothing, and has nobody to tell it to."""
    if (live.sysfs / "fs/btrfs").is_dir():
        runner.run(["btrfs", "device", "scan", "--forget"])


def check_subvolumes(live: LiveSystem, runner: Runner, uuid: str, names: tuple[str, ...]) -> Evidence:
    """Each name is a subvolume at the top level."""
    mounted = next(
        (m.target for m in read_mounts(live.mountinfo) if m.kind == "btrfs" and _is(runner, m.source, uuid)),
        None,
    )
    if mounted:
        found = _list(runner, mounted)
    else:
        place = live.runtime / "btrfs"
        place.mkdir(parents=True, exist_ok=True)
        settle(runner)
        runner.run(["mount", "-t", "btrfs", "-o", "subvolid=5", f"UUID={uuid}", str(place)])
        try:
            found = _list(runner, str(place))
        finally:
            runner.run(["umount", str(place)])
    missing = set(names) - found
    ensure(not missing, f"subvolumes {', '.join(names)}", f"without {', '.join(sorted(missing))}")
    return (f"btrfs {uuid} has {', '.join(sorted(found))}",)


def check_devices(runner: Runner, uuid: str, devices: tuple[str, ...]) -> Evidence:
    """It stands on these devices, none missing (`btrfs filesystem show`)."""
    settle(runner)
    text = runner.run(["btrfs", "filesystem", "show", "--raw", uuid]).text
    ensure("missing" not in text.lower(), f"btrfs {uuid} whole", text.strip())
    found = {kernel_name(match.group(1)) for match in _PATH.finditer(text)}
    wanted = {kernel_name(path) for path in devices}
    ensure(found == wanted, f"btrfs {uuid} on {sorted(map(str, wanted))}", str(sorted(map(str, found))))
    return (f"btrfs {uuid} stands on {', '.join(sorted(map(str, found)))}",)


def check_in_place(runner: Runner, path: str) -> Evidence:
    """The folder has the attribute C."""
    flags = runner.run(["lsattr", "-d", path]).text.split()[0]
    ensure("C" in flags, f"the attribute C of {path}", flags)
    return (f"{path}: files are written in place ({flags})",)


def _is(runner: Runner, source: str, uuid: str) -> bool:
    if not Path(source).is_block_device():
        return False
    signature = probe_signature(runner, source)
    return signature is not None and signature.uuid == uuid


def _list(runner: Runner, mountpoint: str) -> set[str]:
    lines = runner.run(["btrfs", "subvolume", "list", mountpoint]).text.splitlines()
    matches = [match for line in lines if (match := _SUBVOLUME.match(line))]
    return {match.group(3) for match in matches if match.group(2) == _TOP}
