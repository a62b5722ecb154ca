"""Each scenario from blank disks to the set-up host, and what people find there."""

import pytest

from tests.lab.play import play
from tests.lab.scenarios import SCENARIOS

pytestmark = pytest.mark.vm


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_scenario(name: str) -> None:
    """What does not hold raises inside, with its evidence; a run that proves nothing would be a defect here."""
    record = play(SCENARIOS[name]).write()
    claims = [proof.claim for proof in record.proofs if proof.holds]
    assert "the installer says that all is installed and proved" in claims
    assert "every job of the first run is done" in claims
    assert "the guest that the answers name runs and says so" in claims
    assert record.facts_before
    assert record.facts_after
    assert record.plan
