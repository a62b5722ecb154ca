"""Every example is a test of the lab, and each fits the machine that it is given there."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from installer.answers.load import load
from installer.answers.sizes import GIB, MIB, parse_size
from installer.facts.disks import Disk, Transport
from installer.facts.firmware import FirmwareKind, Tpm
from installer.medium import ReadyClosure
from installer.plan.planner import make_plan
from tests import plan_cases as cases
from tests.lab import machine
from tests.lab.examples import EXAMPLES, FOLDER, changed_storage, examples
from tests.lab.scenarios import Scenario

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDWOfxmK02LtqdIJL+wWvvsQA55tVpIzEYwg2MJalaAi ops@example.org"


def seen(disk: machine.Disk, number: int) -> Disk:
    """A disk of the lab as the probe tells it there."""
    nvme = disk.bus == "nvme"
    changes: dict[str, Any] = {
        "name": f"nvme{number}n1" if nvme else f"vd{chr(ord('a') + number)}",
        "serial": disk.serial,
        "wwn": None,
        "by_id": (f"nvme-QEMU_NVMe_Ctrl_{disk.serial}" if nvme else f"virtio-{disk.serial}",),
        "model": "QEMU NVMe Ctrl" if nvme else None,
        "transport": Transport.nvme if nvme else Transport.virtio,
        "rotational": not nvme,
        "size": parse_size(f"{disk.size}iB"),
        "pci_address": f"0000:0{number + 1}:00.0",
    }
    return cases.blank_disk(**changes)


def test_none_is_left_out() -> None:
    there = {path.stem for path in FOLDER.glob("*.toml")}
    assert set(EXAMPLES) == there
    assert [scenario.name for scenario in examples()] == list(EXAMPLES)


@pytest.mark.parametrize(
    "scenario", [each for each in examples() if not each.beside], ids=lambda each: each.name
)
def test_it_can_be_planned_on_its_machine(scenario: Scenario) -> None:
    answers = load(scenario.answers().replace("@ssh-key@", SSH_KEY).encode(), f"{scenario.name}.toml")
    disks = (seen(disk, number) for number, disk in enumerate(scenario.hardware.disks))
    closure = ReadyClosure(
        name=scenario.hostname,
        toplevel=f"/nix/store/{'1' * 32}-nixos-system-{scenario.hostname}",
        cache="file:///payload/cache",
        nar_size=600 * MIB,
    )
    medium = cases.medium(closures=(closure,), estimated_closure=GIB)
    facts = cases.machine(*disks, firmware=FirmwareKind.uefi64)
    card = facts.nics[0].model_copy(update={"mac": scenario.hardware.mac})
    tpm = Tpm(version=2, device="tpm0") if scenario.hardware.tpm else None
    firmware = facts.firmware.model_copy(update={"tpm": tpm})
    plan = make_plan(facts.model_copy(update={"nics": (card,), "firmware": firmware}), answers, medium)
    chosen = {disk.serial for disk in plan.disks}
    assert chosen == {disk.serial for disk in EXAMPLES[scenario.name].disks}
    assert scenario.mirrored is False or len(plan.disks) >= 2
    assert bool(plan.host.luks) is scenario.encrypted
    assert bool(plan.host.zfs) is scenario.zfs


@pytest.mark.parametrize("name", EXAMPLES)
def test_only_what_is_said_differs(name: str) -> None:
    example = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))["storage"]
    changes = EXAMPLES[name].changes
    before, after = dict(flat(example)), dict(flat(changed_storage(name)))
    differ = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert all(any(f"{path}.".startswith(f"{said}.") for said in changes) for path in differ), differ


def flat(table: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted path."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
