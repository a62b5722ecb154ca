"""Hosts that hibernate and come back, with a real kernel and the stage 1 that nixpkgs evaluates to; `make test-matrix`."""

import pytest

from tests.lab import hibernation
from tests.lab.sleeper import LATE
from tests.nixeval.cases import SLEEPING

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("case", SLEEPING)
def test_hibernates(case: str) -> None:
    """What does not hold raises inside, with its evidence."""
    claims = {proof.claim for proof in hibernation.play(case).write().proofs if proof.holds}
    assert "it comes back: same boot, same mark in the memory, same processes" in claims
    assert "what was written before is there" in claims
    assert "no file system is mounted before the image is read" in claims
    assert "after it has begun anew it hibernates and comes back" in claims
    assert any(claim.endswith("nothing is lost of what was written") for claim in claims)
    if case != "hibernate-plain":
        assert "a wrong passphrase is asked for again (second)" in claims
        assert f"it comes back although the passphrase was typed after {LATE} seconds" in claims


@pytest.mark.parametrize("tpm", [False, True], ids=["passphrase", "tpm"])
def test_an_installed_host_hibernates(*, tpm: bool) -> None:
    """By the installer, with LUKS and LVM, while a guest runs."""
    claims = {proof.claim for proof in hibernation.play_installed(tpm=tpm).write().proofs if proof.holds}
    assert "the same process and the same running guest are there" in claims
    assert "once it was switched off it begins anew" in claims
    if tpm:
        assert "the TPM opens the memory, and nothing is asked for" in claims
