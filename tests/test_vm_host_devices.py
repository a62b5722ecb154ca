"""Devices that were taken from the host for a guest that ran go back to it; what is declared for guests does not.

libvirt's node devices are a stand-in here, for this machine has none to give; real ones: tests/vm/test_given_matrix.py.
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sql

from hv.daemon import host_devices
from hv.daemon.host_devices import STUB, give_back, return_taken, take, taken
from hv.daemon.problems import RefusedError, Status
from hv.daemon.store import TAKEN, Store

CARD = ["0000:03:00.0", "0000:03:00.1"]
DECLARED = "0000:04:00.0"
GUEST, OTHER = "a" * 36, "b" * 36


@dataclass
class NodeDevice:
    """One function: its driver, and the host's own."""

    own: str
    driver: str

    def XMLDesc(self, _: int) -> str:  # noqa: N802 - libvirt's name
        """As libvirt writes it, as far as it is read."""
        return f"<device><driver><name>{self.driver}</name></driver></device>"

    def detachFlags(self, *_: object) -> None:  # noqa: N802
        """For guests."""
        self.driver = STUB

    def reAttach(self) -> None:  # noqa: N802
        """For the host."""
        self.driver = self.own


@dataclass
class Machine:
    """Node devices, a store, and which start of the host it is."""

    store: Store
    boot: str = "first"
    devices: dict[str, NodeDevice] = field(default_factory=dict)

    def work(self, guest: str = GUEST) -> Any:
        """An operation on a guest."""
        names = {
            f"pci_{address.replace(':', '_').replace('.', '_')}": each
            for address, each in self.devices.items()
        }
        connection = SimpleNamespace(nodeDeviceLookupByName=names.__getitem__)
        return SimpleNamespace(
            uuid=guest, store=self.store, connection=connection, hostd="", pause=lambda _: None
        )

    def drivers(self) -> list[str]:
        """Of the card's functions."""
        return [self.devices[address].driver for address in CARD]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A card with two functions that the host uses, and a device that is declared for guests."""
    made = Machine(Store(tmp_path / "store"))
    made.devices = {address: NodeDevice("e1000e", "e1000e") for address in CARD}
    made.devices[DECLARED] = NodeDevice("nvme", STUB)

    def ask(_: str, request: dict[str, Any]) -> dict[str, Any]:
        if request["pci"] not in made.devices:
            raise RefusedError("hostd", Status.missing, "no such device", why="", remedy="")
        return {"allowed": True, "reason": "", "companions": [], "boot": made.boot}

    monkeypatch.setattr(host_devices, "ask", ask)
    return made


def test_what_was_taken_goes_back_and_what_is_declared_stays(machine: Machine) -> None:
    assert take(machine.work(), [*CARD, DECLARED], "first") == CARD
    assert machine.drivers() == [STUB, STUB]
    assert taken(machine.work(), [CARD[0]]) == [CARD[0]]
    assert taken(machine.work(OTHER)) == []
    give_back(machine.work(), [*CARD, DECLARED])
    assert machine.drivers() == [STUB, STUB], "nobody said that they were taken"
    return_taken(machine.work(), taken(machine.work(), [*CARD, DECLARED]))
    assert machine.drivers() == ["e1000e", "e1000e"]
    assert machine.devices[DECLARED].driver == STUB
    assert taken(machine.work()) == []


def test_an_earlier_start_of_the_host_took_nothing_of_now(machine: Machine) -> None:
    take(machine.work(), CARD, "first")
    machine.boot = "second"  # in which the card is declared for guests
    assert taken(machine.work()) == []


def test_what_does_not_come_back_is_not_forgotten(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    take(machine.work(), CARD, "first")
    monkeypatch.setattr(host_devices, "COMES_BACK", 0.05)
    monkeypatch.setattr(NodeDevice, "reAttach", lambda _: None)
    return_taken(machine.work(), CARD)
    assert machine.drivers() == [STUB, STUB]
    assert taken(machine.work()) == CARD


def test_a_device_that_is_gone_hinders_nothing(machine: Machine) -> None:
    take(machine.work(), CARD, "first")
    del machine.devices[CARD[1]]
    assert taken(machine.work()) == [CARD[0]]


def test_it_is_written_down_before_it_is_taken(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is killed in between gives back what it may have taken."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NodeDevice, "detachFlags", killed)
    with pytest.raises(KeyboardInterrupt):
        take(machine.work(), CARD, "first")
    rows = machine.store.rows(sql.select(TAKEN.c.address))
    assert [row["address"] for row in rows] == CARD[:1]
