"""Disks as other files name them: by a stable name, or by one that changes from boot to boot."""

import re
from typing import Any

from installer.answers.select import telling
from installer.facts import Facts

KERNEL = re.compile(r"^(/dev/)?((sd|vd|xvd|hd)[a-z]+|nvme[0-9]+n[0-9]+|mmcblk[0-9]+)$")
BY_ID = re.compile(r"^(/dev/)?disk/by-id/(?P<name>[^/]+)$")
CHANGES = "a kernel name changes from boot to boot; `--machine RECORD` says which disk it is on that machine"
NO_SUCH = "the machine has no such disk"
NOT_A_NAME = "no name that stays with a disk; find it by serial, model or size in storage.disk"


def selector(name: str, facts: Facts | None) -> dict[str, Any] | str:
    """A disk's selector, or why there is none.

    Args:
        name: `/dev/disk/by-id/…`, `sda`, ….
        facts: The machine that the file is for, which tells what kernel names stand for there.
    """
    if match := BY_ID.match(name):
        return {"by_id": match["name"]}
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
