"""The installer on real block devices with device-mapper and md, killed, given up, and faced with faults: one boot.

What is long is in `make test-matrix`: `tests/vm/test_trials_matrix.py`.
"""

from collections.abc import Callable

import pytest

from installer.errors import Exit
from tests.trial.cuts import CLEAR
from tests.trial.faults import FAULTS, SMALL, Fault, must_fail, put, take_away
from tests.trial.kills import kill_at_every_step
from tests.trial.layouts import LUKS_BTRFS, Layout
from tests.trial.site import Session, Site

pytestmark = [pytest.mark.vm, pytest.mark.nix, pytest.mark.root, pytest.mark.xdist_group("trials")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A machine with blank disks, and one that nobody ever chooses."""
    return Site(tmp_path_factory.mktemp("trials"), (LUKS_BTRFS, SMALL))


@pytest.mark.parametrize("layout", [LUKS_BTRFS], ids=lambda layout: layout.name)
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
