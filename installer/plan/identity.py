"""Which disk is meant, said so that it stays the same disk after every reboot."""

from collections.abc import Sequence

from installer.errors import Exit, HyperError
from installer.facts.disks import Disk
from installer.plan.model import DiskIdentity

HARDWARE_NAMES = ("nvme-", "ata-", "virtio-", "scsi-", "mmc-", "usb-", "ieee1394-", "memstick-", "wwn-")
"""Beginnings of by-id names that come from the hardware, best readable first; others (`lvm-pv-uuid-`, `md-`) come
from content and vanish when it is erased.
"""
NUMBERS = ("nvme-eui.", "nvme-uuid.", "nvme-nvme.", "scsi-3", "scsi-2")
"""Beginnings of by-id names that are bare numbers: unique, but telling a person nothing."""


def identify(disk: Disk, key: str, everyone: Sequence[Disk], named: str | None = None) -> DiskIdentity:
    """The disk's identity.

    Args:
        disk: The disk.
        key: What the plan calls it.
        everyone: All disks of the machine; a name that two of them share (paths to one disk, cloned serials) names none.
        named: A by-id name that the answers give; taken if it is the disk's.

    Raises:
        HyperError: the disk has no name that would find it again (Exit.selection).
    """
    shared = {name for other in everyone if other.name != disk.name for name in other.by_id}
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


def _rank(name: str) -> tuple[bool, int, int, str]:
    """Names with model and serial before bare numbers, by kind, the shorter before the longer."""
    kind = next(place for place, start in enumerate(HARDWARE_NAMES) if name.startswith(start))
    return name.startswith(NUMBERS), kind, len(name), name
