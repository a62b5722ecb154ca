"""What an installed host does in its first hour: power cuts, and later changes; `make test-matrix`."""

import pytest

from tests.lab import cuts, declaring

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("part", cuts.MOMENTS)
def test_first_run_cut_off(part: str) -> None:
    """What does not hold raises inside, with its evidence."""
    claims = {proof.claim for proof in cuts.play(part).write().proofs if proof.holds}
    for job in dict(cuts.MOMENTS[part]):
        assert f"{job} was cut off in its attempt 1, and starts over" in claims
    assert "every job of the first run is done" in claims
    assert "our server was told one event, however often" in claims


def test_enrolment_cut_off() -> None:
    """With a TPM, in the job that has it open the disk."""
    claims = {proof.claim for proof in cuts.play_enrolment().write().proofs if proof.holds}
    for attempt in range(1, len(cuts.ENROLMENT) + 1):
        assert f"enrol was cut off in its attempt {attempt}, and starts over" in claims
    assert "the TPM opens the disk, without a passphrase" in claims
    assert "the TPM opens the disk after a reboot, too" in claims


def test_setup() -> None:
    """With a real Nix in the machine."""
    claims = {proof.claim for proof in declaring.play().write().proofs if proof.holds}
    assert "a new SSH connection confirms it" in claims
    assert "what was written by hand is kept" in claims
    assert "the change goes back by itself" in claims
