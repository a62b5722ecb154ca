"""Disks and partitions as other files name them: by a stable name, or by one that changes from boot to boot."""

import re
from typing import Any

from installer.answers.select import telling
from installer.facts import Facts
from installer.facts.disks import Disk, Partition

KERNEL = re.compile(r"^(/dev/)?((sd|vd|xvd|hd)[a-z]+|nvme[0-9]+n[0-9]+|mmcblk[0-9]+)$")
BY_ID = re.compile(r"^(/dev/)?disk/by-id/(?P<name>[^/]+)$")
CHANGES = "a kernel name changes from boot to boot; `--machine RECORD` says which disk it is on that machine"
NO_SUCH = "the machine has no such disk"
VARIABLE = (
    "a variable stands there, which something fills in before the installer sees it: write what comes of it"
)
NOT_A_NAME = "no name that stays with a disk; find it by serial, model or size in storage.disk"


def selector(name: str, facts: Facts | None) -> dict[str, Any] | str:
    """A disk's selector, or why there is none.

    Args:
        name: `/dev/disk/by-id/…`, `sda`, ….
        facts: The machine that the file is for, which tells what kernel names stand for there.
    """
    if match := BY_ID.match(name):
        return {"by_id": match["name"]}
    if "$" in name or "{{" in name:
        return VARIABLE
    if not KERNEL.match(name):
        return NOT_A_NAME
    if facts is None:
        return CHANGES
    short = name.removeprefix("/dev/")
    disk = next((each for each in facts.disks if each.name == short), None)
    return dict([telling(disk, facts)]) if disk else NO_SUCH


def storage_disks(selectors: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of `[storage]` for that many disks."""
    if not selectors:
        return {}
    return {"disk": selectors[0]} if len(selectors) == 1 else {"disks": selectors}


PART_OF_ID = re.compile(r"^(/dev/)?disk/by-id/(?P<name>[^/]+)-part(?P<number>[0-9]+)$")
PART_OF_PATH = re.compile(r"^(/dev/)?disk/by-(?P<kind>partuuid|partlabel|uuid|label)/(?P<value>[^/]+)$")
TAGGED = re.compile(r"^(?P<kind>UUID|LABEL|PARTUUID|PARTLABEL)=(?P<value>.+)$")
NEEDS_MACHINE = "which disk it is on only the machine tells: `--machine RECORD`"


def partition(name: str, facts: Facts | None) -> tuple[dict[str, Any], dict[str, Any]] | str:
    """A partition's disk as a selector, and what tells the partition on it; or why there is neither.

    Args:
        name: `/dev/disk/by-id/…-part2`, `/dev/disk/by-partuuid/…`, `LABEL=data`, `sda4`, ….
        facts: The machine that the file is for.
    """
    if match := PART_OF_ID.match(name):
        return {"by_id": match["name"]}, {"number": int(match["number"])}
    if "$" in name or "{{" in name:
        return VARIABLE
    by = TAGGED.match(name) or PART_OF_PATH.match(name)
    if facts is None:
        return NEEDS_MACHINE if by else CHANGES
    short = name.removeprefix("/dev/")
    found = [
        (disk, each)
        for disk in facts.disks
        for each in disk.partitions
        if (_tagged(each, by["kind"].lower(), by["value"]) if by else each.name == short)
    ]
    if len(found) != 1:
        return (
            "the machine has no such partition"
            if not found
            else "more than one partition of the machine fits"
        )
    disk, there = found[0]
    return dict([telling(disk, facts)]), which(there)


def which(there: Partition) -> dict[str, Any]:
    """What tells a partition on its disk."""
    return {"uuid": there.part_uuid} if there.part_uuid else {"number": there.number}


def linux_partitions(disk: Disk) -> tuple[Partition, ...]:
    """Partitions of the types that Linux has for itself (what kickstart's `clearpart --linux` removes)."""
    return tuple(each for each in disk.partitions if each.type_uuid in LINUX_TYPES)


LINUX_TYPES = frozenset(
    (
        "0x83",
        "0x82",
        "0x8e",
        "0xfd",
        "0fc63daf-8483-4772-8e79-3d69d8477de4",
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
        "e6d6d379-f507-44c2-a23c-238f2a3df928",
        "a19d880f-05fc-4d3b-a006-743f0f84911e",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
        "b921b045-1df0-41c3-af44-4c6f280d3fae",
    )
)
"""File systems, swap, LVM, md and roots, by MBR and GPT types."""


def _tagged(there: Partition, kind: str, value: str) -> bool:
    match kind:
        case "partuuid":
            return there.part_uuid == value.lower()
        case "partlabel":
            return there.label == value
        case "uuid":
            return there.filesystem is not None and there.filesystem.uuid == value
        case _:
            return there.filesystem is not None and there.filesystem.label == value


GUESTS = re.compile(
    r"(^|[/_-])(libvirt|images|vms?|guests?|kvm|qemu|virt|vz|machines|virtual-?machines)([/_-]|$)",
    re.IGNORECASE,
)
"""Paths and names that are for VMs by what they are called."""


def for_guests(name: str) -> bool:
    """Whether a path or a name is one that people give what their VMs lie in."""
    return GUESTS.search(name) is not None
