"""A customised medium installs by itself, as CD and as stick, without a network card; and what happens when it cannot."""

from typing import Literal

import pytest

from tests.lab import unattended

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("medium", ["cd", "stick"])
def test_installs(medium: Literal["cd", "stick"]) -> None:
    """What does not hold raises inside, with its evidence."""
    claims = [proof.claim for proof in unattended.play(medium).write().proofs if proof.holds]
    assert "there is no network card" in claims
    assert "the embedded answers have won" in claims
    assert "every job of the first run is done" in claims
    assert "the medium that stayed in does not install again" in claims


def test_fails() -> None:
    """The machine stays as it is, says why, and can be reached."""
    claims = [proof.claim for proof in unattended.fails().write().proofs if proof.holds]
    assert "the console names disk, address and bundle" in claims
    assert "nothing was written to a disk" in claims
