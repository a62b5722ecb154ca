"""Every combination of firmware, file system and encryption, from blank disks to the first run: `make test-matrix`."""

from collections.abc import Callable

import pytest

from tests.lab.examples import examples
from tests.lab.play import play
from tests.lab.recorder import Recorder
from tests.lab.scenarios import (
    SCENARIOS,
    Scenario,
    arrays,
    combinations,
    endings,
    guests_on_zfs,
    layouts,
    people,
)
from tests.lab.timing import timing

pytestmark = pytest.mark.matrix
Note = Callable[[str, object], None]


@pytest.mark.parametrize("scenario", combinations(), ids=lambda scenario: scenario.name)
def test_combination(scenario: Scenario, record_property: Note) -> None:
    """What does not hold raises inside, with its evidence."""
    recorder = play(scenario)
    note_time(recorder, record_property)
    claims = [proof.claim for proof in recorder.write().proofs if proof.holds]
    assert "every job of the first run is done" in claims
    assert "the guest that the answers name runs and says so" in claims


@pytest.mark.parametrize(
    "scenario", (*layouts(), *arrays(), guests_on_zfs()), ids=lambda scenario: scenario.name
)
def test_layout(scenario: Scenario, record_property: Note) -> None:
    """Several disks: whole, and with each of them pulled; beside another system, and under BIOS: rescued too."""
    installed(scenario, record_property)


@pytest.mark.parametrize("scenario", endings(), ids=lambda scenario: scenario.name)
def test_ending(scenario: Scenario) -> None:
    """The firmware is not started between the live system and the host, and the first run is done."""
    recorder = play(scenario)
    claims = [proof.claim for proof in recorder.write().proofs if proof.holds]
    assert {"the firmware was started once, for the medium", "every job of the first run is done"} <= set(
        claims
    )
    assert not (recorder.folder / "host.serial.log").exists(), "a second machine was started"


def test_killed_while_it_copies() -> None:
    """From a stick under BIOS, with a system that was built beforehand; the same command goes on."""
    claims = {proof.claim for proof in play(SCENARIOS["bios-ext4"]).write().proofs if proof.holds}
    assert claims >= {
        "the installer was killed in the middle of copying",
        "the installer says that all is installed and proved",
        "every job of the first run is done",
        "the guest that the answers name runs and says so",
    }


def test_people_without_sudo() -> None:
    """Guests through the broker, as the modules evaluate it, in its sandbox, on an installed host."""
    claims = [proof.claim for proof in play(people()).write().proofs if proof.holds]
    assert "ada reads the guest's marker" in claims
    assert "bob cannot stop it" in claims
    assert "it is gone" in claims


# The one that is typed at over SSH: test_stage_one_matrix.py.
@pytest.mark.parametrize(
    "scenario", [each for each in examples() if not each.unlock], ids=lambda scenario: scenario.name
)
def test_example(scenario: Scenario, record_property: Note) -> None:
    """The layouts of `examples/`, under their names."""
    installed(scenario, record_property)


def note_time(recorder: Recorder, note: Note) -> None:
    """Beside the result, how long the installation took, and how much of that was the installer's own."""
    note("proved", str(timing((recorder.folder / "install.log").read_text())))


def installed(scenario: Scenario, note: Note) -> None:
    """Set up, and what else its kind of layout is to show."""
    recorder = play(scenario)
    note_time(recorder, note)
    claims = [proof.claim for proof in recorder.write().proofs if proof.holds]
    assert "every job of the first run is done" in claims
    pulled = [claim for claim in claims if "pulled the host starts" in claim]
    assert len(pulled) == (2 if scenario.mirrored else 0)
    assert ("the password that was set opens the console" in claims) is scenario.rescued
