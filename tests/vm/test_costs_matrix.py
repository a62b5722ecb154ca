"""What installing costs over a script of the same programs, for each layout of the trials; `make test-matrix`."""

from collections.abc import Callable, Iterator

import pytest

from tests.trial.costs import GOAL, cost
from tests.trial.layouts import LAYOUTS, Layout
from tests.trial.site import Session, Site

pytestmark = [pytest.mark.matrix, pytest.mark.nix, pytest.mark.root]
SYSTEM = 256 << 20
"""Bytes of each system; a real one has more, which hides what an installer costs."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Booted once; passphrases lie as programs read them, without a line break."""
    site = Site(tmp_path_factory.mktemp("costs"), tuple(LAYOUTS.values()), ballast=SYSTEM)
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
