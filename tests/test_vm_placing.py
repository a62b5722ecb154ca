"""Where guests run: chosen by topology, refused with the reason, and read back from libvirt and from the kernel."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from hv.daemon.placing import Machine, Wanted, chosen, machine, ranges
from hv.daemon.problems import RefusedError
from hv.passthrough.topology import Node
from hv.vm.domain import Placed, place_in, set_place
from hv.vm.spec import Placement
from tests import linux_guest
from tests.broker import BrokerHost, broker_host, wait_for
from tests.test_vm_life import PLAIN, put, shown

MIB, GIB = 1 << 20, 1 << 30
TWO = Machine(
    (
        Node(0, ((0, 8), (1, 9), (2, 10), (3, 11)), ((2 * MIB, 512),)),
        Node(1, ((4, 12), (5, 13), (6, 14), (7, 15)), ((2 * MIB, 2048), (GIB, 4))),
    ),
    {0: 8 * GIB, 1: 16 * GIB},
    {},
)
"""Two nodes of four cores with two threads each."""


@pytest.mark.parametrize(
    ("placement", "wanted", "there", "expected"),
    [
        # The node with the most to spare: the first core of the machine is the host's.
        (Placement(pin=True), Wanted(4, GIB), {}, Placed(1, (4, 12, 5, 13), (6, 7, 14, 15), None)),
        # That of its device, whole cores, and huge pages there.
        (Placement(pin=True, hugepages=True), Wanted(2, GIB, near=0), {}, Placed(0, (1, 9), (0, 2, 3, 8, 10, 11), 2 * MIB)),
        # Not those of another guest, nor for QEMU's threads.
        (Placement(pin=True), Wanted(4, GIB, near=1), {4: "db", 12: "db"}, Placed(1, (5, 13, 6, 14), (7, 15), None)),
        (Placement(pin=True, node=0), Wanted(1, GIB), {}, Placed(0, (1,), (0, 2, 3, 8, 9, 10, 11), None)),
        (Placement(cpus=(2, 3)), Wanted(2, GIB), {}, Placed(0, (2, 3), (0, 1, 8, 9, 10, 11), None)),
        (Placement(hugepages=True), Wanted(1, 2 * GIB), {}, Placed(None, (), (), GIB)),
        (Placement(node=1), Wanted(1, 2 * GIB), {}, Placed(1, (), (), None)),
    ],
)  # fmt: skip
def test_a_place_is_chosen_by_topology(
    placement: Placement, wanted: Wanted, there: dict[int, str], expected: Placed
) -> None:
    found, lines = chosen(placement, Machine(TWO.nodes, TWO.memory, there), wanted)
    assert found == expected and lines


@pytest.mark.parametrize(
    ("placement", "wanted", "there", "why"),
    [
        (Placement(node=7), Wanted(1, GIB), {}, "no NUMA node 7"),
        (Placement(node=0), Wanted(1, 9 * GIB), {}, "node has 8 GiB, it wants 9 GiB"),
        (Placement(cpus=(16,)), Wanted(1, GIB), {}, "no processor 16"),
        (Placement(cpus=(1, 1)), Wanted(2, GIB), {}, "1 different ones"),
        (Placement(cpus=(1,)), Wanted(2, GIB), {}, "has 2 at most"),
        (Placement(cpus=(4,), node=0), Wanted(1, GIB), {}, "Processor 4 is not of NUMA node 0"),
        (Placement(pin=True), Wanted(9, GIB), {}, "node 0 has 6, node 1 has 8"),
        (Placement(pin=True), Wanted(8, GIB), {4: "db"}, "these VMs have others: db"),
        (Placement(hugepages=True, node=0), Wanted(1, 2 * GIB), {}, "free on NUMA node 0: 512 of 2 MiB"),
        (Placement(hugepages=True), Wanted(1, GIB + 1), {}, "multiple of their size"),
    ],
)
def test_what_does_not_go_is_refused_with_its_reason(
    placement: Placement, wanted: Wanted, there: dict[int, str], why: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        chosen(placement, Machine(TWO.nodes, TWO.memory, there), wanted)
    error = caught.value
    assert why in f"{error.what} {error.why} {error.remedy}" and error.remedy, str(error)


@settings(max_examples=300)
@given(
    cores=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    threads=st.integers(1, 2),
    vcpus=st.integers(1, 8),
    taken=st.sets(st.integers(0, 35)),
)
def test_any_machine_gives_free_processors_of_one_node_or_a_reason(
    cores: list[int], threads: int, vcpus: int, taken: set[int]
) -> None:
    nodes, cpu = [], 0
    for number, count in enumerate(cores):
        mine = []
        for _ in range(count):
            mine.append(tuple(range(cpu, cpu + threads)))
            cpu += threads
        nodes.append(Node(number, tuple(mine), ()))
    there = Machine(tuple(nodes), dict.fromkeys(range(len(nodes)), 64 * GIB), dict.fromkeys(taken, "other"))
    try:
        found, _ = chosen(Placement(pin=True), there, Wanted(vcpus, GIB))
    except RefusedError as error:
        room = [sum(len(core) for core in node.cores if not set(core) & taken) for node in nodes]
        room[0] -= threads if cores[0] > 1 and not set(nodes[0].cores[0]) & taken else 0
        assert max(room) < vcpus, str(error)
        return
    assert len(set(found.cpus)) == vcpus and not set(found.cpus) & taken
    assert len({there.processors[each] for each in found.cpus}) == 1
    assert cores[0] == 1 or not set(found.cpus) & set(nodes[0].cores[0])
    assert not set(found.emulator) & set(found.cpus)


def test_a_place_written_is_read_again_and_taken_away() -> None:
    root: Any = etree.fromstring(
        "<domain><memoryBacking><locked/></memoryBacking><cputune><shares>5</shares></cputune></domain>"
    )
    wanted = Placed(1, (4, 5), (6, 7), 2 * MIB)
    set_place(root, wanted)
    set_place(root, wanted)
    assert place_in(root) == Placed(1, (4, 5), (), 2 * MIB)
    assert root.find("cputune/emulatorpin").get("cpuset") == "6,7"
    set_place(root, Placed())
    assert place_in(root) == Placed() and root.find("memoryBacking/locked") is not None
    assert root.findtext("cputune/shares") == "5" and ranges((1, 2, 3, 9)) == "1-3,9"


def test_the_topology_is_libvirts() -> None:
    """Two nodes of eight processors, as its test driver has them."""
    connection = libvirt.open("test:///default")
    found = machine(connection, "")
    connection.close()
    assert [(node.number, len(node.cores)) for node in found.nodes] == [(0, 8), (1, 8)]
    assert found.memory == {0: 2 * GIB, 1: 4 * GIB} and found.processors[12] == 1


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        put(made, "linux", linux_guest.qcow2(), who="alma")
        made.hv("alma", "image", "publish", "linux", status=None)
        yield made


@contextmanager
def huge_pages(host: BrokerHost, count: int) -> Iterator[int]:
    """So many huge pages of 2 MiB on this machine while it lasts; how many there are."""
    file = Path("/proc/sys/vm/nr_hugepages")
    before = file.read_text()
    file.write_text(str(int(before) + count))
    try:
        host.run_as("root", "mkdir", "-p", "/dev/hugepages")
        host.run_as("root", "mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "hugetlbfs", "/dev/hugepages")
        host.restart_libvirtd()
        wait_for("libvirtd's answer", host.answers)
        yield int(file.read_text()) - int(before)
    finally:
        file.write_text(before)


@pytest.mark.libvirt
def test_a_guest_is_pinned_and_that_is_read_back(host: BrokerHost) -> None:
    words = ("--image", "linux", "--memory", "64M", *PLAIN[2:])
    said = host.hv("ada", "vm", "create", "p", *words, "--pin", status=10).err
    assert "`devices`" in said and "hv-admins" in said and "leave --pin" in said.lower()
    last = sorted(machine_of(host).processors)[-1]
    plan = host.hv("alma", "vm", "create", "p", *words, "--pin", str(last), "--node", "0", "--dry-run").out
    assert f"processors pinned to {last} of the host" in plan and "memory from NUMA node 0" in plan
    host.hv("alma", "vm", "create", "p", *words, "--pin", str(last), "--node", "0", "--start")
    assert shown(host, "p", "alma")["placement"] == {"node": 0, "cpus": [last], "page": None}
    assert f"processors {last}; NUMA node 0" in host.hv("alma", "vm", "show", "p").out
    with host.libvirt() as connection:
        domain = connection.lookupByName("p")
        pins = domain.vcpuPinInfo(libvirt.VIR_DOMAIN_AFFECT_LIVE)[0]
        assert [number for number, on in enumerate(pins) if on] == [last]
        assert domain.numaParameters(libvirt.VIR_DOMAIN_AFFECT_LIVE)["numa_nodeset"] == "0"
    allowed = {
        line.split()[1]
        for status in Path(f"/proc/{host.qemu('p')}/task").glob("*/status")
        for line in status.read_text().splitlines()
        if line.startswith("Cpus_allowed_list")
    }
    assert str(last) in allowed, allowed

    # Others do not get that one by themselves; all of it can be taken back.
    assert machine_of(host).pinned == {last: "p"}
    said = host.hv("alma", "vm", "edit", "p", "--pin", "8191", status=2).err
    assert "no processor 8191" in said and "node 0 with processors 0" in said
    assert "runs anywhere" in host.hv("alma", "vm", "edit", "p", "--unplaced", "--dry-run").out
    host.hv("alma", "vm", "edit", "p", "--unplaced")
    assert shown(host, "p", "alma")["placement"] is None
    host.hv("alma", "vm", "delete", "p", "--disks", "--force")


def machine_of(host: BrokerHost) -> Machine:
    with host.libvirt() as connection:
        return machine(connection, "")


@pytest.mark.libvirt
def test_huge_pages_are_used_or_refused(host: BrokerHost) -> None:
    words = ("--image", "linux", "--memory", "64M", *PLAIN[2:], "--hugepages")
    said = host.hv("alma", "vm", "create", "h", *words[:2], "--memory", "4G", *words[4:], status=2).err
    assert "not enough huge pages" in said and "hypervisor.memory.hugepages" in said
    with huge_pages(host, 40) as there:
        plan = host.hv("alma", "vm", "create", "h", *words, "--dry-run", status=None)
        if there < 32:  # the machine's memory is too torn for them
            assert "not enough huge pages" in plan.err
            return
        assert "memory in huge pages of 2 MiB" in plan.out
        host.hv("alma", "vm", "create", "h", *words, "--start")
        maps = Path(f"/proc/{host.qemu('h')}/smaps").read_text()
        held = sum(int(line.split()[1]) for line in maps.splitlines() if "Hugetlb" in line)
        assert held == 64 * 1024, f"{held} KiB"
        assert shown(host, "h", "alma")["placement"] == {"node": None, "cpus": [], "page": 2 * MIB}
        host.hv("alma", "vm", "delete", "h", "--disks", "--force")
