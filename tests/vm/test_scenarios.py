"""A host from blank disks and an answer file to the end of its first run, and what people find there."""

import pytest

from tests.lab.play import play
from tests.lab.scenarios import DEMO, SCENARIOS

pytestmark = pytest.mark.vm


def test_scenario() -> None:
    """What does not hold raises inside, with its evidence; a run that proves nothing would be a defect here."""
    record = play(SCENARIOS[DEMO]).write()
    claims = [proof.claim for proof in record.proofs if proof.holds]
    assert "the installer says that all is installed and proved" in claims
    assert "every job of the first run is done" in claims
    assert "the guest that the answers name runs and says so" in claims
    assert record.facts_before
    assert record.facts_after
    assert record.plan
