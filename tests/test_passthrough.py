"""`hv passthrough`: verdicts put together, devices moved or left as they were, guests placed near them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from hv.commands.passthrough import main
from hv.devices.sysfs import Sysfs
from hv.passthrough import judge, plan
from hv.passthrough.change import Host, give_back, take
from hv.passthrough.placement import place
from hv.passthrough.topology import Node, read_topology
from hv.passthrough.users import users_of
from hv.passthrough.verdict import Handover, set_of
from installer.errors import Exit, HyperError
from installer.facts import Facts
from tests.kernel_devices import Kernel
from tests.machines import load, names

GPU, SOUND, DISK, NIC = "0000:01:00.0", "0000:01:00.1", "0000:02:00.0", "0000:04:00.0"
GIB = 1 << 30


@pytest.fixture(scope="module")
def workstation() -> Facts:
    return load("workstation")


# What can go.


def test_a_display_goes_with_its_sound(workstation: Facts) -> None:
    verdict = judge(workstation, GPU)
    assert verdict.allowed
    assert verdict.companions == (SOUND,)
    assert judge(workstation, SOUND).companions == (GPU,)
    assert judge(workstation, "01:00.0") == verdict, "people leave the domain out"


def test_what_the_host_needs_stays(workstation: Facts) -> None:
    verdict = judge(workstation, NIC)
    assert not verdict.allowed
    assert "is the only network card" in verdict.reason
    with pytest.raises(HyperError) as caught:
        plan(workstation, NIC)
    assert caught.value.code is Exit.unsuitable
    assert "only network card" in caught.value.why


@pytest.mark.parametrize(
    ("address", "code"),
    [("0000:99:00.0", Exit.selection), ("01:00.9", Exit.usage), ("eth0", Exit.usage), ("", Exit.usage)],
)
def test_addresses_of_nothing(workstation: Facts, address: str, code: Exit) -> None:
    with pytest.raises(HyperError) as caught:
        judge(workstation, address)
    assert caught.value.code is code


@pytest.mark.parametrize("name", names())
def test_nothing_goes_that_takes_along_what_the_host_needs(name: str) -> None:
    facts = load(name)
    for device in facts.pci:
        verdict = judge(facts, device.address)
        if verdict.allowed:
            for other in (device.address, *verdict.companions):
                found = next(each for each in facts.pci if each.address == other)
                assert found.passthrough.verdict != "no", (device.address, other)
                assert not found.is_bridge
        else:
            assert verdict.reason
            assert verdict.companions == ()


def test_what_the_host_loses_is_said(workstation: Facts) -> None:
    handover = plan(workstation, DISK)
    assert [function.address for function in handover.functions] == [DISK]
    assert any(loss.startswith("the disk nvme") for loss in handover.losses)
    assert any("AD103" in loss for loss in plan(workstation, GPU).losses)


# Taking and giving back, with a stand-in for the kernel's side.


class Machine:
    """Two functions of one card, as the record has them."""

    def __init__(self, folder: Path, handover: Handover) -> None:
        self.kernel = Kernel(folder / "sys")
        self.proc = folder / "proc"
        self.proc.mkdir(parents=True)
        self.said: list[str] = []
        for function in handover.functions:
            device = self.kernel.root / "bus/pci/devices" / function.address
            device.mkdir(parents=True)
            for name, value in zip(("vendor", "device"), function.ids.split(":"), strict=True):
                (device / name).write_text(f"0x{value}\n")
            (device / "driver_override").write_text("(null)\n")
            group = self.kernel.root / f"kernel/iommu_groups/{function.group}"
            group.mkdir(parents=True, exist_ok=True)
            (device / "iommu_group").symlink_to(group)
            self.kernel.drivers[function.address] = function.driver or ""
            if function.driver:
                self.kernel.put(self.kernel.root / "bus/pci/drivers_probe", function.address)
        self.kernel.wrote.clear()
        self.host = Host(self.kernel.sysfs(), self.kernel, self.proc, self.said.append)

    def guest(self, pid: int, node: str) -> None:
        folder = self.proc / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "fd/7").symlink_to(node)
        (folder / "comm").write_text("qemu-system-x86\n")
        (folder / "cmdline").write_bytes(b"qemu-system-x86_64\0-name\0guest=games,debug-threads=on\0-S\0")


@pytest.fixture
def handover(workstation: Facts) -> Handover:
    return plan(workstation, GPU)


@pytest.fixture
def machine(tmp_path: Path, handover: Handover) -> Machine:
    return Machine(tmp_path, handover)


def test_taken_and_given_back(machine: Machine, handover: Handover, workstation: Facts) -> None:
    take(handover, machine.host)
    assert machine.host.driver(GPU) == machine.host.driver(SOUND) == "vfio-pci"
    assert machine.kernel.ran == ["modprobe vfio-pci"]
    assert machine.said == [f"{GPU}: nouveau -> vfio-pci", f"{SOUND}: snd_hda_intel -> vfio-pci"]
    wrote = list(machine.kernel.wrote)
    take(handover, machine.host)
    assert machine.kernel.wrote == wrote, "the second time there is nothing to do"
    assert give_back(set_of(workstation, GPU), machine.host)
    assert (machine.host.driver(GPU), machine.host.driver(SOUND)) == ("nouveau", "snd_hda_intel")
    assert (machine.kernel.root / "bus/pci/devices" / GPU / "driver_override").read_text().strip() == ""


def test_all_or_nothing(machine: Machine, handover: Handover) -> None:
    machine.kernel.stubborn = frozenset({SOUND})
    with pytest.raises(HyperError, match="did not go to vfio-pci") as caught:
        take(handover, machine.host)
    assert caught.value.code is Exit.step
    assert (machine.host.driver(GPU), machine.host.driver(SOUND)) == ("nouveau", "snd_hda_intel")
    assert machine.said == [], "nothing is told that was taken back"


def test_another_device_at_the_address_is_left_alone(machine: Machine, handover: Handover) -> None:
    (machine.kernel.root / "bus/pci/devices" / SOUND / "device").write_text("0x1234\n")
    with pytest.raises(HyperError, match="no longer what it was") as caught:
        take(handover, machine.host)
    assert caught.value.code is Exit.selection
    assert machine.kernel.wrote == []
    assert machine.kernel.ran == []


@pytest.mark.parametrize("node", ["/dev/vfio/14", "/dev/vfio/devices/vfio3"])
def test_what_a_guest_has_is_not_taken_from_it(machine: Machine, handover: Handover, node: str) -> None:
    take(handover, machine.host)
    (machine.kernel.root / "bus/pci/devices" / GPU / "vfio-dev/vfio3").mkdir(parents=True)
    machine.guest(4711, node)
    wrote = list(machine.kernel.wrote)
    with pytest.raises(HyperError, match="is in use") as caught:
        give_back(handover, machine.host)
    assert caught.value.code is Exit.busy
    assert "games (process 4711)" in caught.value.why
    assert machine.kernel.wrote == wrote


def test_a_device_that_no_driver_takes_back(machine: Machine, handover: Handover) -> None:
    take(handover, machine.host)
    machine.kernel.drivers[SOUND] = ""
    assert not give_back(handover, machine.host)
    assert machine.said[-1] == f"{SOUND}: vfio-pci -> no driver: none of the host takes it"


@pytest.mark.root
def test_open_files_of_real_processes(tmp_path: Path) -> None:
    """A file in the place of the group's node, in a mount namespace of its own: /proc tells who has it open."""
    device = tmp_path / "bus/pci/devices" / GPU
    device.mkdir(parents=True)
    (tmp_path / "14").mkdir()
    (device / "iommu_group").symlink_to(tmp_path / "14")
    script = (
        "mount -t tmpfs none /dev && mkdir /dev/vfio && exec 7>/dev/vfio/14 && echo open && exec cat <&0"
    )
    words = ("unshare", "--mount", "sh", "-c", script)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        found = users_of(GPU, tmp_path, Path("/proc"))
        process.communicate()
    assert [user.pid for user in found] == [process.pid]
    assert users_of(GPU, tmp_path, Path("/proc")) == ()


# Where a guest runs.


def node(number: int, *cores: tuple[int, ...], pages: tuple[tuple[int, int], ...] = ()) -> Node:
    return Node(number, cores, pages)


NODES = (
    node(0, (0, 8), (1, 9), (2, 10), (3, 11), pages=((2 << 20, 4096),)),
    node(1, (4, 12), (5, 13), (6, 14), (7, 15), pages=((2 << 20, 16), (GIB, 4))),
)


def test_a_guest_is_placed_at_its_device() -> None:
    placed = place(NODES, near=1, vcpus=4, memory=4 * GIB)
    assert (placed.node, placed.cpus, placed.threads) == (1, (4, 12, 5, 13), 2)
    assert placed.page_size == GIB
    assert placed.emulator == (6, 14, 7, 15)
    assert placed.notes == ()


def test_the_first_core_stays_with_the_host() -> None:
    assert place(NODES, near=0, vcpus=6, memory=GIB).cpus == (1, 9, 2, 10, 3, 11)
    assert place(NODES, near=None, vcpus=2, memory=GIB).cpus == (1, 9)


def test_an_odd_number_sees_no_threads() -> None:
    placed = place(NODES, near=1, vcpus=3, memory=GIB)
    assert (placed.cpus, placed.threads) == ((4, 12, 5), 1)


def test_what_does_not_fit_is_said() -> None:
    placed = place(NODES, near=0, vcpus=7, memory=64 * GIB)
    assert placed.cpus == ()
    assert placed.page_size is None
    assert "6 processors to spare, the guest has 7" in placed.notes[0]
    assert "65536 MiB" in placed.notes[1]
    far = place(NODES, near=3, vcpus=2, memory=GIB)
    assert far.node == 0
    assert "node 3, where the device is, has no processors" in far.notes[0]


def test_this_machine_has_a_topology() -> None:
    nodes = read_topology(Path("/sys"))
    threads = [thread for each in nodes for core in each.cores for thread in core]
    assert len(threads) == len(set(threads)) >= (os.cpu_count() or 1)
    assert read_topology(Path("/nowhere")) == ()


def test_a_machine_without_numa(tmp_path: Path) -> None:
    for cpu, siblings in {0: "0-1", 1: "0-1", 2: "2-3", 3: "2,3"}.items():
        folder = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings)
    (tmp_path / "devices/system/cpu/online").write_text("0-3\n")
    pages = tmp_path / "kernel/mm/hugepages/hugepages-2048kB"
    pages.mkdir(parents=True)
    (pages / "free_hugepages").write_text("12\n")
    assert read_topology(tmp_path) == (Node(0, ((0, 1), (2, 3)), ((2 << 20, 12),)),)


# The command.


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["--machine", "tests/machines/workstation", *words]) == Exit.ok
    return capsys.readouterr().out


def test_the_list_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "list")
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert f"with {SOUND}" in shown
    assert "is the only network card (enp4s0)" in shown
    assert len(run(capsys, "list", "--all").splitlines()) > len(shown.splitlines())


def test_the_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(run(capsys, "list", "--json"))
    assert shown["version"] == 1
    assert {device["address"]: device["companions"] for device in shown["devices"]}[GPU] == [SOUND]


def test_the_plan_says_how_to_keep_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "plan", "01:00.0")
    assert f'hypervisor.passthrough.devices."{SOUND}" = {{ vendor = "10de"; device = ' in shown
    assert f"sudo hv passthrough bind {GPU}" in shown
    handover = json.loads(run(capsys, "plan", "01:00.0", "--json"))
    assert [function["driver"] for function in handover["functions"]] == ["nouveau", "snd_hda_intel"]


def test_a_dry_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "bind", GPU, "--dry-run").splitlines() == [
        f"{GPU}: nouveau -> vfio-pci",
        f"{SOUND}: snd_hda_intel -> vfio-pci",
    ]
    told = json.loads(run(capsys, "bind", GPU, "--dry-run", "--json"))
    assert told["version"] == 1 and [each["to"] for each in told["functions"]] == ["vfio-pci"] * 2


def test_a_record_is_only_looked_at() -> None:
    with pytest.raises(HyperError) as caught:
        main(["--machine", "tests/machines/workstation", "bind", GPU])
    assert caught.value.code == Exit.usage


def test_a_refusal_of_the_kernel_is_passed_on(machine: Machine, handover: Handover) -> None:
    def put(path: Path, text: str) -> None:
        if path.name == "driver_override" and SOUND in str(path) and text == "vfio-pci":
            raise PermissionError(1, "Operation not permitted")
        machine.kernel.put(path, text)

    host = Host(Sysfs(machine.kernel.root, put=put), machine.kernel, machine.proc, machine.said.append)
    with pytest.raises(HyperError, match="The kernel refused"):
        take(handover, host)
    assert host.driver(GPU) == "nouveau"
