"""`hv secure-boot` on an installed host; `make test-matrix`."""

import pytest

from tests.lab.secure_boot import play

pytestmark = pytest.mark.matrix


def test_secure_boot() -> None:
    """What does not hold raises inside, with its evidence."""
    claims = {proof.claim for proof in play().write().proofs if proof.holds}
    assert {
        "nothing is given to the firmware while nothing is signed",
        "the signed loader is first in the firmware's menu",
        "the host starts from the signed image",
        "the firmware takes the host's keys",
        "setup mode is over",
        "a firmware that has an owner is left alone",
    } <= claims
