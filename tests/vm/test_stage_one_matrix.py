"""Stage 1 with systemd, as NixOS has it, on installed hosts: keyboard, TPM, SSH; `make test-matrix`."""

import pytest

from tests.lab import pair, stage_alone, stage_one

pytestmark = pytest.mark.matrix


def test_alone() -> None:
    """Without an installed host: a few minutes."""
    claims = {proof.claim for proof in stage_alone.play().write().proofs if proof.holds}
    assert "stage 1 has its own host key" in claims
    assert "no command is run there" in claims
    assert "the passphrase typed over SSH on the VLAN opens the disk" in claims
    assert "y, z and ß of a German keyboard open the disk" in claims
    for kind in ("alone", "with PIN"):
        assert f"with the TPM {kind} no passphrase is asked for" in claims
        assert f"with another PCR 7 the TPM {kind} opens nothing, and the passphrase does" in claims
    assert "when the TPM does not come the passphrase is asked for" in claims


def test_pair() -> None:
    """A mirror, whole and without either disk: nobody types the passphrase for longer than systemd waits for a device."""
    claims = {proof.claim for proof in pair.play().write().proofs if proof.holds}
    for name in ("whole", "without-ROOT1", "without-ROOT2"):
        assert f"stage 1 waits ({name})" in claims
        assert f"the root is the mirror ({name})" in claims


def test_remote() -> None:
    """The example `encrypted-remote`. What does not hold raises inside, with its evidence."""
    claims = {proof.claim for proof in stage_one.play_remote().write().proofs if proof.holds}
    assert "after wrong passphrases it is asked for again" in claims
    assert "stage 1 has the host key that the installer's last screen told" in claims
    assert "no command is run there" in claims
    assert "the host starts to its login prompt, after the passphrase was typed over SSH" in claims
    assert "the host's own SSH server has another key" in claims
    assert "with the PIN no passphrase is asked for" in claims
    assert "when PCR 7 has changed the passphrase is asked for" in claims
    assert "the same keys with keymap us do not open it" in claims


def test_tpm() -> None:
    """The TPM by itself."""
    claims = {proof.claim for proof in stage_one.play_tpm().write().proofs if proof.holds}
    assert "the host starts to its login prompt, with nobody at the keyboard" in claims
    assert "with the TPM nothing is asked for" in claims
    assert "when PCR 7 has changed the passphrase is asked for" in claims
