"""What of a disk came up by itself and is used by nobody, on a made-up sysfs: device-mapper and md are real in the lab."""

import itertools
import os
import stat
from pathlib import Path

import pytest

from installer.execute.evidence import Wrong
from installer.execute.identity import OwnUse
from installer.execute.idle import Up, check_nothing_up, idle_on, stop_idle
from installer.execute.live import LiveSystem
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.plan.planner import make_plan
from tests import plan_cases as cases

GROUP = "AbCdEf0123456789AbCdEf0123456789"
DASHED = "AbCdEf-0123-4567-89Ab-CdEf-0123-456789"
NOBODY = OwnUse(frozenset())


class Machine:
    """Block devices as the kernel shows them: each a folder of its own, with links to what holds it."""

    def __init__(self, root: Path) -> None:
        self.root, self.numbers = root, itertools.count(1)
        (root / "class/block").mkdir(parents=True)
        (root / "mountinfo").write_text("")
        (root / "swaps").write_text("Filename Type Size Used Priority\n")
        self.live = LiveSystem(
            sysfs=root, udev=root / "udev", mountinfo=root / "mountinfo", swaps=root / "swaps"
        )

    def device(self, name: str, *below: str, disk: str = "") -> Path:
        folder = self.root / "devices" / disk / name
        (folder / "holders").mkdir(parents=True)
        (folder / "slaves").mkdir()
        (folder / "dev").write_text(f"259:{next(self.numbers)}\n")
        (folder / "size").write_text("2048\n")
        (folder / "ro").write_text("0\n")
        if disk:
            (folder / "partition").write_text("1\n")
        (self.root / "class/block" / name).symlink_to(folder)
        for each in below:
            (folder / "slaves" / each).symlink_to(self.root / "class/block" / each)
            (self.root / "class/block" / each / "holders" / name).symlink_to(folder)
        return folder

    def disk(self, name: str) -> None:
        self.device(name)
        self.device(f"{name}1", disk=name)

    def array(self, name: str, *below: str) -> None:
        (self.device(name, *below) / "md").mkdir()

    def mapped(self, name: str, uuid: str, title: str, *below: str) -> None:
        folder = self.device(name, *below) / "dm"
        folder.mkdir()
        (folder / "uuid").write_text(f"{uuid}\n")
        (folder / "name").write_text(f"{title}\n")

    def idle(self, disk: str, own: OwnUse = NOBODY, ours: tuple[str, ...] = ("sda", "sdb")) -> list[Up]:
        return list(idle_on(self.live, disk, own, frozenset(ours)))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Two disks with a partition each."""
    made = Machine(tmp_path)
    made.disk("sda")
    made.disk("sdb")
    return made


def volume(machine: Machine, *below: str) -> None:
    machine.mapped("dm-0", f"LVM-{GROUP}{'z' * 32}", "data-vms", *below)


def test_nothing_is_idle_where_nothing_is(machine: Machine) -> None:
    assert machine.idle("sda") == []


def test_a_group_on_an_array_comes_before_it(machine: Machine) -> None:
    machine.array("md127", "sda1", "sdb1")
    volume(machine, "md127")
    assert machine.idle("sda") == [Up("dm-0", DASHED), Up("md127", None)]
    assert machine.idle("sdb") == machine.idle("sda")


def test_it_is_seen_whether_something_stands_on_a_disk(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("installer.execute.idle.kernel_name", lambda _: "sda")
    disk = make_plan(cases.machine(), cases.answers(), cases.medium()).disks[0]
    assert "nothing stands on it" in check_nothing_up(machine.live, disk)[0]
    machine.array("md127", "sda1", "sdb1")
    with pytest.raises(Wrong, match="md127"):
        check_nothing_up(machine.live, disk)


def test_what_comes_up_again_is_stopped_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A group that is activated once more while its array is stopped, which fails then."""
    monkeypatch.setattr("installer.execute.idle.kernel_name", lambda _: "sda")
    monkeypatch.setattr("installer.execute.idle._require_planned", lambda *_: None)
    machine.array("md127", "sda1")
    volume(machine, "md127")
    state = tmp_path / "state"
    state.write_text("0")
    programs = tmp_path / "bin"
    programs.mkdir()
    class_, devices = machine.root / "class/block", machine.root / "devices"
    down = "rm -rf {devices}/{name} {class_}/{name} {devices}/*/holders/{name} {devices}/sda/sda1/holders/{name}"
    words = {"devices": devices, "class_": class_}
    for name, script in {
        "udevadm": "exit 0",
        "vgchange": f"echo $(($(cat {state}) + 1)) >{state}; [ $(cat {state}) -gt 1 ] || exit 0; "
        + down.format(name="dm-0", **words),
        "mdadm": f"[ $(cat {state}) -gt 1 ] || exit 1; " + down.format(name="md127", **words),
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr("installer.execute.idle._MOMENT", 0.2)
    runner = Runner(Log(tmp_path / "log", Redactor()), f"{programs}:/usr/bin:/bin")
    disk = make_plan(cases.machine(), cases.answers(), cases.medium()).disks[0]
    stop_idle(machine.live, runner, [disk], [disk], NOBODY)
    assert state.read_text() == "2\n"
    assert machine.idle("sda") == []
    said = (tmp_path / "log").read_text()
    assert f"vgchange --activate n --select vg_uuid={DASHED}" in said and "mdadm --stop /dev/md127" in said


def test_a_partition_of_an_array_is_no_other_thing(machine: Machine) -> None:
    machine.array("md127", "sda1")
    machine.device("md127p1", disk="md127")
    assert machine.idle("sda") == [Up("md127", None)]
    volume(machine, "md127p1")
    assert machine.idle("sda") == [Up("dm-0", DASHED), Up("md127", None)]


def test_what_is_opened_with_a_passphrase_is_somebodys(machine: Machine) -> None:
    machine.array("md127", "sda1")
    machine.mapped("dm-1", "CRYPT-LUKS2-0123-secret", "secret", "md127")
    assert machine.idle("sda") == []


def test_what_reaches_another_disk_stays(machine: Machine) -> None:
    machine.disk("sdc")
    volume(machine, "sda1", "sdc1")
    assert machine.idle("sda") == []
    assert machine.idle("sda", ours=("sda", "sdc")) == [Up("dm-0", DASHED)]


def test_what_the_installation_made_stays(machine: Machine) -> None:
    volume(machine, "sda1")
    assert machine.idle("sda", OwnUse(frozenset(), ("holder data-",))) == []
    assert machine.idle("sda", OwnUse(frozenset(("holder data-vms",)))) == []


@pytest.mark.root
def test_what_is_mounted_or_swapped_to_stays(machine: Machine) -> None:
    """By the device's number, whatever its path is called."""
    volume(machine, "sda1")
    number = (machine.root / "class/block/dm-0/dev").read_text().strip()
    major, minor = map(int, number.split(":"))
    node = machine.root / "node"
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(major, minor))
    mounts, swaps = machine.root / "mountinfo", machine.root / "swaps"
    mounts.write_text(f"1 1 {number} / /srv rw - xfs {node} rw\n")
    assert machine.idle("sda") == []
    mounts.write_text("")
    assert machine.idle("sda") == [Up("dm-0", DASHED)]
    swaps.write_text(f"Filename Type Size Used Priority\n{node} partition 1024 0 -2\n")
    assert machine.idle("sda") == []
