"""A host that was lived in is installed anew from the medium; `make test-matrix`."""

import pytest

from tests.lab.reinstalled import hosts, play_reinstalled

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("name", hosts())
def test_reinstalled(name: str) -> None:
    """What does not hold raises inside, with its evidence."""
    claims = {proof.claim for proof in play_reinstalled(name).write().proofs if proof.holds}
    assert {
        "guests' images and what was to be kept are what they were",
        "what nobody asked to keep is gone",
        "there is one generation, the new one",
        "the guest of the answers runs again",
    } <= claims
