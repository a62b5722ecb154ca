"""The memory of a host that hibernates: in its swap, and in the firmware's variable that says where."""

import json
import os
from pathlib import Path

from installer.execute.live import LiveSystem
from installer.execute.release import release
from installer.plan.model import Plan
from installer.probe.questions import EFI_ATTRIBUTES, HIBERNATION

PAGE = 4096
"""Bytes of a page, at whose end swap has its signature (x86-64, and AArch64 as NixOS builds it)."""
ASLEEP = b"S1SUSPEND\0"
"""In place of it, where a memory lies; what was there before is kept in front (Linux, kernel/power/swap.c, swsusp_header)."""
VARIABLE = Path(HIBERNATION).name


def asleep(swap: Path) -> bool:
    """Whether the memory of a host that hibernates lies in this swap device or file."""
    try:
        with swap.open("rb") as file:
            return file.read(PAGE).endswith(ASLEEP)
    except OSError:
        return False


def give_up(swap: Path) -> None:
    """Make it swap again, as the kernel does once it has read a memory: the host begins anew."""
    with swap.open("r+b") as file:
        file.seek(PAGE - 2 * len(ASLEEP))
        before = file.read(len(ASLEEP))
        file.seek(PAGE - len(ASLEEP))
        file.write(before)
        file.flush()
        os.fsync(file.fileno())


def give_up_below(root: Path) -> None:
    """The same of the swap files of a host that is about to be removed: their blocks stay on the disk, and its file system
    keeps its UUID, so that the new one's stage 1 could find them.
    """
    try:
        plan = Plan.model_validate_json((root / "var/log/hyper-nixos/plan.json").read_bytes())
    except (OSError, ValueError):
        return
    for each in plan.host.swap_files:
        swap = root / each.path.lstrip("/")
        if asleep(swap):
            give_up(swap)


def forget(live: LiveSystem, plan: Plan) -> bool:
    """Remove the firmware's variable if it means a file system of this plan: what it leads to was there before. Whether it did."""
    path = live.sysfs / "firmware/efi/efivars" / VARIABLE
    try:
        said = json.loads(path.read_bytes()[EFI_ATTRIBUTES:].decode("utf-16-le").rstrip("\0"))
        ours = str(said["uuid"]).lower() in plan.model_dump_json().lower()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if ours:
        release(path)
        path.unlink()
    return ours
