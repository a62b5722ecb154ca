"""The plug is pulled at random moments; the next boot's installation completes, whatever the live system brought up of what
was cut off.

What the machine had not yet handed to its disks is lost, as with a real one; what a disk's own cache would lose is not.
"""

import json
import threading
from dataclasses import dataclass, field
from random import Random

from installer.errors import Exit
from installer.plan.storage.idle import STOP
from tests.trial.layouts import BYSTANDER, HARDWARE, Layout
from tests.trial.site import Run, Session, Site, installing

FREE = """{
swapoff -a; umount -R /mnt; vgchange -an
for each in /dev/mapper/crypt*; do [ ! -b "$each" ] || cryptsetup close "$each"; done
mdadm --stop --scan; udevadm settle
} || true"""
"""Nothing is in use any more, whatever a test left."""


_DISKS = " ".join(f"/dev/disk/by-id/*{disk.serial}" for disk in HARDWARE.disks if disk.serial != BYSTANDER)
CLEAR = f"""{FREE}
udevadm control --stop-exec-queue
trap 'udevadm control --start-exec-queue' EXIT
{{ vgchange --noudevsync -an; mdadm --stop --scan; }} || true
for disk in {_DISKS}; do
    for each in "$disk"-part*; do [ ! -b "$each" ] || wipefs --all --force --quiet "$each"; done
    wipefs --all --force --quiet "$disk"
    blockdev --rereadpt "$disk"
done
udevadm control --start-exec-queue
udevadm settle --timeout=300"""
"""What an array or a group of another layout left on a disk would drag along disks that were not chosen: refused, rightly.

udev waits meanwhile: else it would bring up the half of an array that is not erased yet.
"""


@dataclass
class Cuts:
    """What came of one layout."""

    layout: Layout
    whole: float = 0.0
    """Seconds that the installation takes when nobody cuts it."""
    moments: list[str] = field(default_factory=list)
    """When each cut came, and what came of the next installation."""

    def __str__(self) -> str:
        return f"{self.layout.name}: {len(self.moments)} cuts ({'; '.join(self.moments)})"


def cut_at_random(site: Site, layout: Layout, count: int, seed: int) -> Cuts:
    """Install once, then cut so many installations, each from where the one before left the disks."""
    cuts, chance = Cuts(layout), Random(seed)
    with site.restored("whole") as session:
        run = session.install(layout)
        assert run.status == Exit.ok, run.text
        assert run.finished
        cuts.whole = run.seconds
    for number in range(count):
        moment = cuts.whole * chance.uniform(0.1, 0.97)
        with site.restored(f"cut-{number}") as session:
            job = session.ask(*installing(layout))
            threading.Event().wait(moment)
            journal = session.agent.run(
                "sh", "-c", "tail -n 1 /run/hyper-nixos/install/journal.jsonl || true", measured=5
            )
            del job
            after = _last(journal.text)
        with site.restored(f"again-{number}") as session:
            cuts.moments.append(f"{moment:.0f} s, after {after}: {_installed(session, layout)}")
    return cuts


def _last(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return "nothing"
    return f"{event['what']} {event.get('step') or ''}".strip()


def _installed(session: Session, layout: Layout) -> str:
    """Install to the end; what it took."""
    run: Run = session.install(layout)
    assert run.status == Exit.ok, run.text
    assert run.finished
    return "stopped what had come up of it, completed" if ("verified", STOP) in run.events else "completed"
