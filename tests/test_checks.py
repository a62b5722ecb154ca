"""Layouts of the tests in virtual machines (nix/checks): their answers are taken and planned as they say."""

import json
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.answers.sizes import GIB
from installer.facts.disks import Disk
from installer.kinds import FirmwareKind, Transport
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from tests.nixeval.nix import REPOSITORY
from tests.plan_cases import blank_disk, machine, medium

DESCRIBED: dict[str, Any] = json.loads((REPOSITORY / "nix/checks/layouts.json").read_text())
LAYOUTS: dict[str, Any] = DESCRIBED["layouts"]


def disk(number: int, serial: str) -> Disk:
    """A disk as QEMU shows it."""
    return blank_disk(
        name=f"vd{'abc'[number]}",
        serial=serial,
        wwn=None,
        by_id=(f"virtio-{serial}",),
        model=None,
        transport=Transport.virtio,
        size=40 * GIB,
    )


def merged(low: Any, high: Any) -> Any:
    """As lib.recursiveUpdate does."""
    if isinstance(low, dict) and isinstance(high, dict):
        return low | {key: merged(low.get(key, {}), value) for key, value in high.items()}
    return high


def planned(name: str) -> Plan:
    layout = LAYOUTS[name]
    kind = FirmwareKind.uefi64 if name.startswith("uefi") else FirmwareKind.bios
    disks = [disk(number, serial) for number, serial in enumerate(layout["disks"])]
    answers = merged(DESCRIBED["answers"], layout["answers"]) | {"boot": {"serial_console": "ttyS0,115200"}}
    answers["boot"] |= layout["answers"].get("boot", {})
    return make_plan(machine(*disks, firmware=kind), Answers.model_validate(answers), medium())


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_planned_as_it_says(name: str) -> None:
    layout, host = LAYOUTS[name], planned(name).host
    (root,) = [each for each in host.filesystems if each.mountpoint == "/"]
    assert root.kind == layout["root"]
    assert bool(host.luks) == layout["encrypted"]
    assert bool(host.mirrors) == layout["mirrored"] == (len(layout["disks"]) > 1)
    assert host.firmware == name.split("-", maxsplit=1)[0]


def test_the_layouts_between_them_have_everything() -> None:
    hosts = [planned(name).host for name in LAYOUTS]
    assert {host.loader for host in hosts} == {"grub", "systemd-boot"}
    assert {"btrfs", "ext4", "xfs", "zfs"} <= {kind for host in hosts for kind in host.supported_filesystems}
    assert any(host.arrays for host in hosts)
    assert any(host.lvm for host in hosts)
