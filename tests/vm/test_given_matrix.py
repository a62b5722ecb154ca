"""Devices of an installed host for its guests, through a real VFIO: `make test-matrix`."""

import pytest

from tests.lab.given import play

pytestmark = pytest.mark.matrix


def test_given_devices() -> None:
    """What does not hold raises inside, with its evidence."""
    claims = {proof.claim for proof in play().write().proofs if proof.holds}
    assert {
        "bind takes the card, both functions",
        "release gives it back",
        "what carries the root disk is not given",
        "what carries the default route is not given",
        "who is no administrator gets no device",
        "the guest's own driver reads what the host wrote to the disk",
        "the guest's own driver reads the card's addresses",
        "the guest's USB controller has one more device",
        "it is not taken from under the guest",
        "the host's driver has the card again",
        "and its other function",
        "the host reads what the guest wrote to the disk",
        "the guest has both functions",
        "and its sound with it",
    } <= claims
