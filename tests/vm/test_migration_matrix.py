"""`hv migrate` on an installed, running system: kept when it is well, gone back from when it is not; `make test-matrix`."""

import pytest

from tests.lab.migration import Firmware, goes_back, stays

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_stays(firmware: Firmware) -> None:
    """What does not hold raises inside, with its evidence."""
    claims = [proof.claim for proof in stays(firmware).write().proofs if proof.holds]
    assert "the first boot was found well" in claims
    assert "the system from before runs again" in claims


@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_goes_back(firmware: Firmware) -> None:
    """The health check fails, and nobody does anything."""
    claims = [proof.claim for proof in goes_back(firmware).write().proofs if proof.holds]
    assert "the system from before runs again, by itself" in claims
