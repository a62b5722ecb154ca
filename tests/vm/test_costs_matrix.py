"""What installing costs over a script of the same programs, for each layout of the trials; `make test-matrix`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trial.costs import GOAL, cost
from tests.trial.layouts import LAYOUTS, Layout
from tests.trial.site import Session, Site

pytestmark = [pytest.mark.matrix, pytest.mark.nix, pytest.mark.root]
SYSTEM = 1 << 30
"""Bytes of the system; hosts of NixOS have 2.5 GiB and more, which hides what an installer costs, and less would show what it
does once for a host of any size.
"""


@pytest.fixture
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Session]:
    """A machine for one layout, whose system fits into its memory; passphrases lie as programs read them, without a line
    break.
    """
    site = Site(tmp_path, (request.getfixturevalue("layout"),), ballast=SYSTEM)
    with site.live("live") as started:
        started.shell(
            "cat /payload/cache/nar/* >/dev/null; cd /run/secrets; "
            "tr -d '\\n' <passphrase >passphrase.raw; chmod 600 passphrase.raw",
            measured=40,
        )
        yield started


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_installing_costs(
    session: Session, layout: Layout, record_property: Callable[[str, object], None]
) -> None:
    """Both leave the same on blank disks, and `hv install` takes at most a twentieth longer."""
    found = cost(session, layout)
    record_property("proved", str(found))
    assert found.ratio <= GOAL, str(found)
