"""`hv security` on an installed host; `make test-matrix`."""

import pytest

from tests.lab.hardening import play

pytestmark = pytest.mark.matrix


def test_hardening() -> None:
    """What does not hold raises inside, with its evidence."""
    claims = {proof.claim for proof in play().write().proofs if proof.holds}
    assert {
        "harden is refused when it would lock everybody out",
        "the phase goes back by itself",
        "after a power cut the host is in phase setup",
        "a new SSH connection confirms it",
        "the host starts in phase hardened",
        "after the next rebuild phase hardened runs, boots next, and is declared",
        "the rebuilt host starts in phase hardened",
        "relax goes back to phase setup",
        "the history says who relaxed it",
    } <= claims
