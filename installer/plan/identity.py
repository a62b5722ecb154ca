"""Which disk is meant, said so that it stays the same disk after every reboot."""

from collections import Counter
from collections.abc import Container, Iterable

from installer.errors import Exit, HyperError
from installer.facts.disks import Disk
from installer.plan.model import DiskIdentity

HARDWARE_NAMES = ("nvme-", "ata-", "virtio-", "scsi-", "mmc-", "usb-", "ieee1394-", "memstick-", "wwn-")
"""Beginnings of by-id names that come from the hardware, best readable first; others (`lvm-pv-uuid-`, `md-`) come
from content and vanish when it is erased.
"""
NUMBERS = ("nvme-eui.", "nvme-uuid.", "nvme-nvme.", "scsi-3", "scsi-2")
"""Beginnings of by-id names that are bare numbers: unique, but telling a person nothing."""


def shared_names(everyone: Iterable[Disk]) -> frozenset[str]:
    """Names in by-id that more than one disk has (paths to one disk, cloned serials): they name none."""
    seen = Counter(name for disk in everyone for name in disk.by_id)
    return frozenset(name for name, times in seen.items() if times > 1)


def identify(disk: Disk, key: str, shared: Container[str], named: str | None = None) -> DiskIdentity:
    """The disk's identity.

    Args:
        disk: The disk.
        key: What the plan calls it.
        shared: Names that other disks of the machine have too, from `shared_names`.
        named: A by-id name that the answers give; taken if it is the disk's.

    Raises:
        HyperError: the disk has no name that would find it again (Exit.selection).
    """
    if not disk.wwn and not disk.serial:
        return _by_place(disk, key)
    usable = [name for name in disk.by_id if name.startswith(HARDWARE_NAMES) and name not in shared]
    if not usable:
        have = ", ".join(disk.by_id) or "none"
        raise HyperError(
            f"the disk now called {disk.name} cannot be told from others after a reboot",
            why=f"it has no name of its own in /dev/disk/by-id that comes from its hardware (it has: {have})",
            remedy="give a virtual disk a serial number (QEMU: serial=…), or remove the second path to the disk",
            code=Exit.selection,
        )
    wanted = (named or "").removeprefix("/dev/disk/by-id/")
    return DiskIdentity(
        key=key,
        wwn=disk.wwn,
        serial=disk.serial,
        by_id=wanted if wanted in usable else min(usable, key=_rank),
        model=disk.model,
        size=disk.size,
        logical_sector=disk.logical_sector,
    )


def _by_place(disk: Disk, key: str) -> DiskIdentity:
    """Selecting saw to it that such a disk is the only one, and that its place and content are known."""
    return DiskIdentity(
        key=key,
        wwn=None,
        serial=None,
        by_id=None,
        by_path=disk.path,
        ends=disk.ends,
        model=disk.model,
        size=disk.size,
        logical_sector=disk.logical_sector,
    )


def _rank(name: str) -> tuple[bool, int, int, str]:
    """Names with model and serial before bare numbers, by kind, the shorter before the longer."""
    kind = next(place for place, start in enumerate(HARDWARE_NAMES) if name.startswith(start))
    return name.startswith(NUMBERS), kind, len(name), name
