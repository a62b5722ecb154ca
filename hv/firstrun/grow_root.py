"""Job grow-root: partition, LUKS and file system take the room that the disk has behind them.

Only ever grows, all online. The partition's end is rounded down to a MiB, one MiB below the end of the disk, which
leaves room for the backup GPT (33 sectors, UEFI specification 5.3.2).
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hv.firstrun.world import LaterError, World
from installer.errors import HyperError
from installer.handoff import GrowRoot, Handoff

MIB = 1024**2
SECTOR = 512
"""Bytes; the unit of sizes in sysfs, whatever the disk's own sectors are (Documentation/ABI/stable/sysfs-block)."""
RETRY = (
    "Free the disk of what blocks it, then `hv firstrun retry grow-root`; the host works as it is meanwhile."
)


@dataclass(frozen=True)
class Tools:
    """How one kind of file system is measured and grown."""

    measure: Callable[[str, str], tuple[str, ...]]
    """Command printing its size, from device and mount point."""
    size: Callable[[str], int]
    """Bytes, from what `measure` printed."""
    grow: Callable[[str, str], tuple[str, ...]]
    """Command that grows it to its device."""


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise HyperError(
            "The size of the root file system cannot be read.",
            why=f"nothing in the tool's output fits {pattern!r}",
            remedy="Grow it by hand (resize2fs, xfs_growfs or btrfs filesystem resize), then skip grow-root.",
        )
    return int(match[1])


TOOLS: dict[str, Tools] = {
    "ext4": Tools(
        measure=lambda device, _: ("dumpe2fs", "-h", device),
        size=lambda text: _number(r"^Block count:\s+(\d+)", text) * _number(r"^Block size:\s+(\d+)", text),
        grow=lambda device, _: ("resize2fs", device),
    ),
    "xfs": Tools(
        measure=lambda _, mountpoint: ("xfs_growfs", "-n", mountpoint),
        size=lambda text: _number(r"^data\s.*bsize=(\d+)", text) * _number(r"^data\s.*blocks=(\d+)", text),
        grow=lambda _, mountpoint: ("xfs_growfs", "-d", mountpoint),
    ),
    "btrfs": Tools(
        measure=lambda _, mountpoint: ("btrfs", "filesystem", "show", "--raw", mountpoint),
        size=lambda text: _number(r"devid\s+\d+ size (\d+)", text),
        grow=lambda _, mountpoint: ("btrfs", "filesystem", "resize", "max", mountpoint),
    ),
}
"""By blkid's name of the file system."""


@dataclass(frozen=True)
class GrowRootJob:
    """Grows what the hand-off names."""

    target: GrowRoot | None
    """None: nothing was planned to grow."""
    keys: tuple[str, ...] = ()
    """Files of the host, each of which may hold a key of the LUKS volume: the one that the installer leaves for `enrol`."""
    name: str = "grow-root"
    requires: tuple[str, ...] = ()
    timeout: float = 600

    def applies(self, handoff: Handoff) -> str | None:
        """Only when the installer planned it."""
        return "nothing was planned to grow" if handoff.grow is None else None

    def run(self, world: World) -> None:
        """Partition, then LUKS, then file system; each only when there is something to gain."""
        stack = Stack.of(world, self._target())
        _grow_partition(world, stack)
        _grow_luks(world, stack, self.keys)
        _grow_filesystem(world, stack)

    def verify(self, world: World) -> None:
        """Every layer fills the one below."""
        stack = Stack.of(world, self._target())
        room, size = stack.wanted - stack.partition_size, stack.filesystem_size(world)
        lost = stack.volume_size - size
        if room > 0 or lost > SLACK:
            raise HyperError(
                "The root did not grow all the way.",
                why=f"{room} bytes are free behind the partition, {lost} of {stack.volume_size} bytes of "
                f"{stack.volume.name} are outside the file system",
                remedy=RETRY,
            )
        world.say(f"checked: file system {size} bytes on {stack.volume.name} of {stack.volume_size} bytes")

    def _target(self) -> GrowRoot:
        if self.target is None:
            raise ValueError("grow-root was run without a target")
        return self.target


SLACK = 8 * MIB
"""Bytes at the end of a device that a file system may leave: XFS drops a last allocation group that would be too small."""


@dataclass(frozen=True)
class Stack:
    """Disk, partition, perhaps LUKS, and the file system, as the kernel has them now."""

    target: GrowRoot
    disk: Path
    """Kernel's name of the disk, `/dev/sda`."""
    partition: Path
    """Kernel's name of the partition."""
    volume: Path
    """What the file system stands on: the partition, or the mapped device."""
    wanted: int
    """Bytes the partition could have."""
    partition_size: int
    """Bytes it has."""
    volume_size: int
    """Bytes of `volume`."""
    mountpoint: str
    """Where the file system is mounted."""

    @classmethod
    def of(cls, world: World, target: GrowRoot) -> "Stack":
        """Look at the machine; nothing is kept from earlier steps."""
        link = world.path(f"/dev/disk/{target.link}")
        if not link.exists():
            raise HyperError(
                f"The disk {target.link} is not there.",
                why=f"{link} does not exist",
                remedy="If the disk was changed on purpose, `hv firstrun skip grow-root --reason …`.",
            )
        disk = link.resolve()
        if target.filesystem_uuid:  # the partition: its disk is the folder above it
            disk = disk.with_name(world.path(f"/sys/class/block/{disk.name}").resolve().parent.name)
        sysfs = world.path(f"/sys/class/block/{disk.name}").resolve()
        parts = {
            _read(entry / "partition"): entry for entry in sysfs.iterdir() if (entry / "partition").is_file()
        }
        if target.partition not in parts:
            raise HyperError(
                f"The disk {target.link} has no partition {target.partition}.",
                why=f"the kernel knows {sorted(parts) or 'none'}",
                remedy="If the table was changed on purpose, `hv firstrun skip grow-root --reason …`.",
            )
        part = parts[target.partition]
        start, size = _read(part / "start"), _read(part / "size")
        limit = (_read(sysfs / "size") * SECTOR - MIB) // MIB * MIB
        for other in parts.values():
            if (other_start := _read(other / "start")) > start:
                limit = min(limit, other_start * SECTOR)
        partition = disk.with_name(part.name)
        volume = disk.with_name(_mapped(world, target.luks)) if target.luks else partition
        return cls(
            target=target,
            disk=disk,
            partition=partition,
            volume=volume,
            wanted=limit - start * SECTOR,
            partition_size=size * SECTOR,
            volume_size=_read(world.path(f"/sys/class/block/{volume.name}") / "size") * SECTOR,
            mountpoint=_mountpoint(world, volume),
        )

    def filesystem_size(self, world: World) -> int:
        """Bytes that the file system spans."""
        tools = TOOLS[self.target.filesystem]
        printed = world.run(
            tools.measure(str(self.volume), self.mountpoint),
            purpose=f"measure the {self.target.filesystem} at {self.mountpoint}",
            remedy=RETRY,
        )
        return tools.size(printed)


def _grow_partition(world: World, stack: Stack) -> None:
    gain = stack.wanted - stack.partition_size
    if gain < MIB:
        world.say(f"partition {stack.partition.name}: {stack.partition_size} bytes, nothing free behind it")
        return
    number = str(stack.target.partition)
    world.say(f"partition {stack.partition.name}: {stack.partition_size} to {stack.wanted} bytes")
    # In use, so the kernel is told about the one partition only, by BLKPG (partx), not made to read all anew.
    world.run(
        ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "-N", number, str(stack.disk)),
        purpose=f"enlarge partition {number} of {stack.disk.name} in its table",
        remedy=RETRY,
        stdin=f",{stack.wanted // 1024}KiB\n",
    )
    world.run(
        ("partx", "--update", "--nr", number, str(stack.disk)),
        purpose=f"tell the kernel the new size of {stack.partition.name}",
        remedy="Reboot: the new table is on the disk, and the job goes on from there.",
    )


def _grow_luks(world: World, stack: Stack, keys: tuple[str, ...]) -> None:
    """Enlarge the opened volume, if that takes no passphrase: LUKS2 wants the volume's key once more, and what opened the
    volume gave it to the kernel alone (cryptsetup-resize(8)). Opened anew, the volume is as large as its partition.
    """
    name = stack.target.luks
    if name is None:
        return
    now = Stack.of(world, stack.target)
    # The LUKS2 header is 16 MiB and the mapped size ends with the partition: more than that is unused room.
    if now.partition_size - now.volume_size < 16 * MIB + MIB:
        world.say(f"LUKS {name}: {now.volume_size} bytes, fills its partition")
        return
    ways = [("--key-file", str(path)) for path in map(world.path, keys) if path.is_file()]
    for way in (*ways, ("--token-only",)):
        world.attempt(("cryptsetup", "resize", "--batch-mode", *way, name))
        if Stack.of(world, stack.target).volume_size > now.volume_size:
            world.say(f"LUKS {name}: {now.volume_size} to {Stack.of(world, stack.target).volume_size} bytes")
            return
    raise LaterError(
        f"The LUKS volume {name} takes its new size when the host is started next.",
        why="Enlarging it while it is open takes its passphrase, which nothing on the host knows.",
        remedy=f"Start the host anew, or `cryptsetup resize {name}` and `hv firstrun retry grow-root`.",
    )


def _grow_filesystem(world: World, stack: Stack) -> None:
    now = Stack.of(world, stack.target)
    before, kind = now.filesystem_size(world), now.target.filesystem
    if now.volume_size - before < MIB:
        world.say(f"{kind} at {now.mountpoint}: {before} bytes, fills its device")
        return
    world.run(
        TOOLS[kind].grow(str(now.volume), now.mountpoint),
        purpose=f"grow the {kind} at {now.mountpoint}",
        remedy=RETRY,
        timeout=600,
    )
    world.say(f"{kind} at {now.mountpoint}: {before} to {now.filesystem_size(world)} bytes")


def _mapped(world: World, name: str) -> str:
    """Kernel's name of a mapped device: /dev/mapper has links to it, or nodes of its own where no udev made them."""
    for entry in sorted(world.path("/sys/class/block").glob("dm-*")):
        if (entry / "dm/name").read_text(encoding="utf-8").strip() == name:
            return entry.name
    raise HyperError(
        f"The LUKS volume {name} is not open.",
        why="no mapped device has that name (/sys/class/block/dm-*/dm/name)",
        remedy="If the root was moved on purpose, `hv firstrun skip grow-root --reason …`.",
    )


def _mountpoint(world: World, volume: Path) -> str:
    """First mount point of the device (proc(5), mountinfo), with its octal escapes undone."""
    number = world.path(f"/sys/class/block/{volume.name}/dev").read_text(encoding="utf-8").strip()
    for line in world.path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mounted, _, source = line.partition(" - ")
        device = source.split(" ")[1]
        # By number, since one device may have several names; btrfs shows a number of its own in the table.
        if device.startswith("/") and _number_of(Path(device)) == number:
            return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mounted.split(" ")[4])
    raise HyperError(
        f"The file system on {volume} is not mounted.",
        why="/proc/self/mountinfo does not name the device",
        remedy="If the root was moved on purpose, `hv firstrun skip grow-root --reason …`.",
    )


def _number_of(device: Path) -> str | None:
    """Major and minor, as sysfs writes them; none: no device is there."""
    try:
        status = device.stat()
    except OSError:
        return None
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if stat.S_ISBLK(status.st_mode) else None


def _read(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
