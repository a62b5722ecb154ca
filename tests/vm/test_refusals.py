"""Bad input on a real machine: a clear error, an exit code of its kind, and not one byte written."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.errors import Exit
from tests.lab import layers
from tests.lab.channels import Agent, Answer
from tests.lab.machine import Disk, Hardware, Machine, Running
from tests.lab.paths import LAB
from tests.lab.scenarios import PASSPHRASE, PASSWORD_HASH
from tests.lab.session import make_key

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("refusals")]

HARDWARE = Hardware(
    firmware="uefi",
    disks=(
        Disk("HVMAIN01", bus="nvme"),
        Disk("HVSMALL3", size="300M", bus="virtio"),
        Disk("HVTWIN", size="5G", bus="virtio"),
    ),
    second_gpu=True,
    medium="stick",
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine with blank disks."""
    made = Machine(HARDWARE, tmp_path_factory.mktemp("refusals"))
    made.create()
    return made


@pytest.fixture(scope="module")
def running(machine: Machine) -> Iterator[Running]:
    """It is booted from a stick once for all tests; afterwards its disks must be as they were."""
    before = {disk.serial: digest(machine, disk) for disk in HARDWARE.disks}
    with machine.start("live", iso=layers.iso()) as started:
        yield started
    after = {disk.serial: digest(machine, disk) for disk in HARDWARE.disks}
    assert after == before, "a refused installation wrote to a disk"


@pytest.fixture(scope="module")
def agent(running: Running) -> Agent:
    """The live system, with the secrets that answers name."""
    ready = running.live()
    ready.write("/run/secrets/passphrase", PASSPHRASE + "\n", 0o600)
    ready.write("/run/secrets/alice.hash", PASSWORD_HASH + "\n", 0o600)
    return ready


@pytest.fixture(scope="module")
def answers(machine: Machine) -> str:
    """Answers without a fault."""
    text = (LAB / "answers/uefi-luks-btrfs.toml").read_text()
    # Sealed for an administrator, it would be a second thing that is wrong where there is none.
    text = text.replace('recovery_key = "seal"', 'recovery_key = "off"')
    return text.replace("@ssh-key@", make_key(machine.folder))


def digest(machine: Machine, disk: Disk) -> str:
    """Of the image file: it grows with the first write."""
    image: Path = machine.folder / f"{disk.serial}.qcow2"
    return hashlib.sha256(image.read_bytes()).hexdigest()


def attempt(agent: Agent, text: str, *more: str) -> Answer:
    """Try to install with these answers, consenting to everything."""
    consenting = text.replace("[storage]\n", '[storage]\ndestroy = "matched"\n')
    agent.write("/run/answers.toml", consenting)
    return agent.run("hv", "install", "--answers", "/run/answers.toml", *more, measured=20)


SERIAL = 'disk = { serial = "HVMAIN01", transport = "nvme" }'
REFUSALS = {
    "truncated file": (("[[users]]", "[[users"), Exit.answers, "answers"),
    "unknown key": (('hostname = "kvm1"', 'hostname = "kvm1"\nhostnme = "x"'), Exit.answers, "hostname"),
    "wrong type": (('timezone = "Europe/Zurich"', "timezone = 7"), Exit.answers, "timezone"),
    "no disk matches": ((SERIAL, 'disk = { serial = "NOSUCH" }'), Exit.selection, "HVMAIN01"),
    "two disks match": ((SERIAL, 'disk = { transport = "virtio" }'), Exit.selection, "HVTWIN"),
    "the disk is too small": ((SERIAL, 'disk = { serial = "HVSMALL3" }'), Exit.unsuitable, "GiB"),
    "the disk carries the medium": ((SERIAL, 'disk = { transport = "usb" }'), Exit.busy, "medium"),
    "BIOS is asked for under UEFI": (('firmware = "uefi"', 'firmware = "bios"'), Exit.unsuitable, "UEFI"),
    "nobody could log in": (("admin = true", "admin = false"), Exit.lockout, "administrator"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_is_refused(agent: Agent, answers: str, name: str) -> None:
    (old, new), code, word = REFUSALS[name]
    assert old in answers
    answer = attempt(agent, answers.replace(old, new))
    assert answer.code == code, answer.text
    assert word.lower() in answer.text.lower()
    assert "do:" in answer.text


def test_wrong_token_is_refused(agent: Agent, answers: str) -> None:
    agent.write("/run/answers.toml", answers)
    answer = agent.run("hv", "install", "--answers", "/run/answers.toml", "--confirm", "0" * 64, measured=20)
    assert answer.code == Exit.consent, answer.text
