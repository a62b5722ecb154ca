"""Answers from a labelled medium, from an answer server that is told how it goes, and from the operator's computer."""

import pytest

from tests.lab import answered, takeover

pytestmark = pytest.mark.matrix


def test_a_labelled_medium() -> None:
    """What does not hold raises inside, with its evidence."""
    assert "the labelled medium has won" in _claims(answered.labelled())


def test_an_answer_server() -> None:
    claims = _claims(answered.served())
    assert "the server was told that it is installed" in claims
    assert "the installed host tells the server of its first run" in claims


def test_over_ssh_from_another_computer() -> None:
    claims = _claims(answered.remote())
    assert "another key than the one on the screen is refused" in claims
    assert "it is installed, seen from here" in claims


def test_taken_over() -> None:
    """A machine that runs something else, without a medium in it."""
    claims = _claims(takeover.taken_over())
    assert "the same command goes on to the plan, by the same host key" in claims
    assert "our host runs on its disk, and its administrator logs in" in claims


def _claims(recorder: answered.Recorder) -> list[str]:
    return [proof.claim for proof in recorder.write().proofs if proof.holds]
