"""Disks that fail under an installation: sectors that give errors, and a disk that is pulled while it is written to."""

import time
from dataclasses import dataclass

from installer.errors import Exit
from tests.lab.machine import DiskError
from tests.lab.patience import patience
from tests.trial.cuts import FREE
from tests.trial.faults import SMALL, must_fail
from tests.trial.layouts import LAYOUTS, LUKS_BTRFS, MD_LVM, THIRD, Layout
from tests.trial.site import Session, Site, installing

_MIB = (1 << 20) // 512
"""Sectors."""
_END = 7 * 1024 * _MIB
"""Of the third disk."""


@dataclass(frozen=True)
class Sector:
    """A bad sector of the disk that `SMALL` goes to."""

    name: str
    """Which."""
    error: DiskError
    """How it answers."""
    untouched: bool = False
    """Whether nothing may be written at all."""
    words: str = "nput/output error"
    """How the program that meets it puts it."""


SECTORS = (
    Sector("the first cannot be read", DiskError("read", 0), untouched=True),
    Sector("the last cannot be read", DiskError("read", _END - 1), untouched=True),
    Sector("the last cannot be written", DiskError("write", _END - 1)),
    Sector("the ESP's first cannot be written", DiskError("write", _MIB)),
    # The ESP has 1 GiB; LVM's label is in a physical volume's second sector (lvm2, format_text/layout.h).
    Sector(
        "the volume group's label cannot be written",
        DiskError("write", 1025 * _MIB + 1),
        words="Error writing device",
    ),
)


def bad_sector(site: Site, sector: Sector) -> str:
    """Install onto a disk with a bad sector; then the same, sound, takes its place, and the same command goes on."""
    site.blank()
    with site.restored("bad-sector", {THIRD: sector.error}) as session:
        session.shell(FREE, measured=10)
        before = session.running.copy(THIRD, "before") if sector.untouched else None
        failed = session.install(SMALL)
        said = must_fail(failed, Exit.step, ("the step `", "failed", sector.words))
        if before:
            assert site.same(before, session.running.copy(THIRD, "after")), (
                "a disk that cannot be read was written to"
            )
        session.shell(FREE, measured=10)
        session.running.unplug_disk(THIRD)
        session.running.plug_disk(THIRD)
        session.shell(f"until [ -b /dev/disk/by-id/*{THIRD} ]; do udevadm settle; done; {FREE}", measured=10)
        done = session.install(SMALL)
        assert done.status == Exit.ok, done.text
        assert done.finished
        return said[said.index("the step `") :].split("(")[0].strip()


PULLED = (LAYOUTS["plain-ext4"], LUKS_BTRFS, MD_LVM)
"""Installations that lose their last disk while the system is copied."""


def pulled(site: Site, layout: Layout) -> str:
    """Pull a disk in the middle; plug it in again, and install to the end."""
    serial = layout.disks[-1]
    site.blank()
    with site.restored("pulled") as session:
        session.shell(FREE, measured=10)
        job = session.ask(*installing(layout))
        _wait_for(session, "realise")
        session.running.unplug_disk(serial)
        failed = session.told(job)
        assert failed.status in (Exit.step, Exit.busy, Exit.failed), failed.text
        assert not failed.finished
        said = " ".join(failed.text.split())
        assert "do:" in said, failed.text
        assert "disks:" in said or "is not there" in said, failed.text
        session.running.plug_disk(serial)
        session.shell(
            f"until [ -b /dev/disk/by-id/*{serial} ]; do udevadm settle; done; {FREE}", measured=10
        )
        done = session.install(layout)
        how = "gone on with"
        if done.status != Exit.ok:
            refused = must_fail(done, Exit(done.status), ())
            assert "--fresh" in refused, done.text
            session.shell(FREE, measured=10)
            done, how = session.install(layout, "--fresh"), "refused, begun anew"
        assert done.status == Exit.ok, done.text
        assert done.finished
        return f"{failed.after}: {how}"


def _wait_for(session: Session, step: str) -> None:
    """Until the installation is in this step."""
    look = f'grep -c \'"step":"{step}"\' /run/hyper-nixos/install/journal.jsonl 2>/dev/null || true'
    deadline = time.monotonic() + patience(90)
    while session.shell(look).strip() in ("", "0"):
        assert time.monotonic() < deadline, f"{step} never began"
