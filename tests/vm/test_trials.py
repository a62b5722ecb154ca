"""The installer on real block devices with device-mapper and md, killed, given up, and faced with faults: one boot.

What is long is in `make test-matrix`: `tests/vm/test_trials_matrix.py`.
"""

from collections.abc import Callable, Iterator

import pytest

from installer.errors import Exit
from tests.trial.cuts import CLEAR, FREE
from tests.trial.faults import FAULTS, SMALL, Fault, must_fail, put, take_away
from tests.trial.kills import kill_at_every_step
from tests.trial.layouts import BYSTANDER, LUKS_BTRFS, MD_LVM, Layout
from tests.trial.site import Session, Site

pytestmark = [pytest.mark.vm, pytest.mark.nix, pytest.mark.root, pytest.mark.xdist_group("trials")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A machine with blank disks, and one that nobody ever chooses."""
    return Site(tmp_path_factory.mktemp("trials"), (LUKS_BTRFS, MD_LVM, SMALL))


@pytest.fixture(scope="module")
def session(site: Site) -> Iterator[Session]:
    """Booted once for all tests; afterwards the disk that nobody chose must be what it was."""
    before = site.digest(BYSTANDER)
    with site.live("live") as started:
        yield started
    assert site.digest(BYSTANDER) == before, "a disk that nobody chose was written to"


@pytest.mark.parametrize("layout", [LUKS_BTRFS, MD_LVM], ids=lambda layout: layout.name)
def test_killed_around_every_step(
    session: Session, layout: Layout, record_property: Callable[[str, object], None]
) -> None:
    """Before, in or after each step, by turns."""
    kills = kill_at_every_step(session, layout, every_moment=False)
    assert len(kills.reached) == kills.wanted
    record_property("proved", str(kills))


@pytest.mark.parametrize("fault", FAULTS[:3:2], ids=lambda fault: fault.name)
def test_fault(session: Session, fault: Fault) -> None:
    """It is told truly, and once it is taken away the same command goes on to the end."""
    face(session, fault)


OLDER = f"""set -eu
disk=$(readlink -f /dev/disk/by-id/*{LUKS_BTRFS.disks[0]} | sort -u | head -n 1)
mdadm --create /dev/md/older --run --force --level 1 --raid-devices 1 --metadata 1.0 --assume-clean "${{disk}}3"
udevadm settle
mdadm --stop /dev/md/older
pvcreate --yes -ff "${{disk}}2"
vgcreate older "${{disk}}2"
lvcreate --yes --extents 100%FREE --name volume older
vgchange --activate n older
udevadm settle
wipefs --all --force --quiet "$disk"
blockdev --rereadpt "$disk"
udevadm settle
ls "$disk"*
cat /proc/mdstat"""
"""Shell: an array and a volume group in the partitions of a host, then no partitions, and nothing that can be seen."""


def test_what_an_older_table_left_is_not_brought_up(session: Session) -> None:
    """udev begins an array and a volume group as soon as there is a partition with one."""
    session.shell(CLEAR, measured=20)
    assert session.install(LUKS_BTRFS, "--fresh").finished
    session.shell(FREE, measured=20)
    left = session.shell(OLDER, measured=20)
    assert left.split("Personalities")[0].count("/dev/") == 1, left
    done = session.install(LUKS_BTRFS, "--fresh")
    assert done.status == Exit.ok, done.text
    assert done.finished
    found = session.shell("cat /proc/mdstat; dmsetup ls", measured=10)
    assert "older" not in found, found
    assert "active" not in found, found


def face(session: Session, fault: Fault) -> None:
    """Install with the fault, then without, whatever a test before this one left in use."""
    session.shell(CLEAR, measured=20)
    put(session, fault)
    try:
        must_fail(session.install(SMALL, "--fresh"), fault.code, fault.words)
    finally:
        take_away(session, fault)
    done = session.install(SMALL)
    if fault.again:
        must_fail(done, Exit.step, fault.again)
        return
    assert done.status == Exit.ok, done.text
    assert done.finished
