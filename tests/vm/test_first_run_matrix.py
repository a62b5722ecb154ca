"""What an installed host does in its first hour: power cuts, and later changes; `make test-matrix`."""

import pytest

from tests.lab import cuts, declaring, tokens

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


def test_fido2() -> None:
    """The same with a FIDO2 token, which is a software authenticator on the kernel's uhid."""
    claims = {proof.claim for proof in tokens.play_fido2().write().proofs if proof.holds}
    assert "in cut-while-waiting enrol starts over by itself" in claims
    assert "in cut-when-enrolled enrol starts over by itself" in claims
    assert "the token opens the disk, without a passphrase" in claims
    assert "another token does not open it" in claims
    assert "elsewhere systemd opens the disk with the token alone, and its files are there" in claims


def test_recovery_key() -> None:
    """`hv security recovery-key`, at the serial console."""
    claims = {proof.claim for proof in tokens.play_recovery().write().proofs if proof.holds}
    assert "the key that nobody knew is taken away first" in claims
    assert "the new key opens the disk" in claims
    assert "the installer's recovery key opens nothing any more" in claims


def test_setup() -> None:
    """With a real Nix in the machine."""
    claims = {proof.claim for proof in declaring.play().write().proofs if proof.holds}
    assert "a new SSH connection confirms it" in claims
    assert "what was written by hand is kept" in claims
    assert "the change goes back by itself" in claims
