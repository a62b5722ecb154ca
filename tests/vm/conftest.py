"""What modules with a machine of the trials have in common."""

from collections.abc import Iterator

import pytest

from tests.trial.layouts import BYSTANDER
from tests.trial.site import Session, Site


@pytest.fixture(scope="module")
def session(site: Site) -> Iterator[Session]:
    """The machine that the module calls `site`, booted once for what needs no boot of its own; afterwards the disk that
    nobody chose must be what it was.
    """
    before = site.digest(BYSTANDER)
    with site.live("live") as started:
        yield started
    assert site.digest(BYSTANDER) == before, "a disk that nobody chose was written to"
