"""What stands at the ends of a disk that has no name of its own: by it the disk is known again before every write.

First it must be what was confirmed. Once this installation has written, it must be what was left there by the last
step that ended. Of a step that was cut off nobody can say what it left: then the kernel must have had the disk without a
break since (`diskseq` counts every disk that comes or changes, Documentation/ABI/stable/sysfs-block).
"""

import os
from dataclasses import dataclass
from hashlib import sha256

from installer.answers.sizes import MIB
from installer.execute.devices import kernel_name
from installer.execute.journal import Journal
from installer.execute.live import LiveSystem
from installer.plan.actions import InstallBootLoader
from installer.plan.model import DiskIdentity, Plan, Step


@dataclass(frozen=True)
class Ends:
    """The ends of a disk at one moment."""

    hash: str
    """SHA-256 over the first and last MiB, as the probe computes it (`disk ends`)."""
    sequence: str | None
    """The kernel's number of the disk; none: it gives none."""


@dataclass(frozen=True)
class Expected:
    """What must stand there."""

    ends: Ends
    """As they were seen last."""
    cut_off: bool
    """Whether a step began to write after that and did not come to its end."""


def read_ends(live: LiveSystem, disk: DiskIdentity) -> Ends:
    """Read them from the disk. Raises OSError."""
    found = sha256()
    descriptor = os.open(disk.device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start in (0, max(0, disk.size - MIB)):
            found.update(os.pread(descriptor, MIB, start))
    finally:
        os.close(descriptor)
    sequence = live.sysfs / "class/block" / (kernel_name(disk.device) or "") / "diskseq"
    return Ends(found.hexdigest(), sequence.read_text().strip() if sequence.is_file() else None)


def expected(plan: Plan, journal: Journal, disk: DiskIdentity) -> Expected | None:
    """What the plan and the journal say must stand there; none: the disk has a name, which is enough."""
    if disk.ends is None:
        return None
    writing = {step.id for step in plan.steps if disk.key in step.writes}
    found, cut_off = Ends(disk.ends, None), False
    for event in journal.events:
        if event.what == "learned" and event.step == _name(disk):
            found, cut_off = Ends(event.details[0], event.details[1] or None), False
        elif event.what == "started" and event.step in writing:
            cut_off = True
    return Expected(found, cut_off)


def content_problem(was: Expected, now: Ends) -> str | None:
    """Why this cannot be called the disk of the plan; none: it can."""
    if now.hash == was.ends.hash:
        return None
    if not was.cut_off:
        return f"its first and last MiB have the SHA-256 {now.hash}, and {was.ends.hash} must stand there"
    if now.sequence is not None and now.sequence == was.ends.sequence:
        return None
    return (
        "a step was cut off while it wrote, so that its content tells nothing, and the kernel has lost sight of the disk "
        f"since (diskseq {was.ends.sequence or 'unknown'} then, {now.sequence or 'unknown'} now)"
    )


def remember(plan: Plan, journal: Journal, live: LiveSystem, step: Step) -> None:
    """Keep in the journal what stands now at the ends of the disks that the step writes to and that are known by them.

    Of no others: what somebody else changed must not come to be expected.
    """
    boot_code = any(isinstance(action, InstallBootLoader) for action in step.actions)
    for disk in plan.disks:
        was = expected(plan, journal, disk)
        if was is None or not (boot_code or disk.key in step.writes):
            continue
        now = read_ends(live, disk)
        if was.cut_off or now != was.ends:
            journal.record("learned", _name(disk), details=(now.hash, now.sequence or ""))


def _name(disk: DiskIdentity) -> str:
    """What the journal calls it; no step can have a name like this."""
    return f"ends:{disk.key}"
