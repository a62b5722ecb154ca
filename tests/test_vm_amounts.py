"""Processors and memory of guests that run: given and taken away, by the definition, by libvirt, and inside the guest."""

import re
from collections.abc import Iterator
from typing import Any

import libvirt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from pydantic import ValidationError

from hv.vm.amounts import BLOCK, MIB, STEP, Amounts, amounts_in, set_amounts
from hv.vm.spec import VmSpec
from tests import linux_guest
from tests.broker import BrokerHost, broker_host, wait_for
from tests.test_vm_life import PLAIN, put, shown


@settings(max_examples=200)
@given(
    vcpus=st.integers(1, 32),
    more=st.integers(0, 32),
    start=st.integers(16, 1 << 20).map(lambda count: count * MIB),
    steps=st.integers(0, 64),
    part=st.floats(0, 1),
)
def test_amounts_written_are_read_again_and_the_rest_stays(
    vcpus: int, more: int, start: int, steps: int, part: float
) -> None:
    memory = start + int(part * steps * STEP) // BLOCK * BLOCK
    wanted = Amounts(vcpus, vcpus + more, memory, start + steps * STEP, start)
    if not wanted.grows:
        wanted = Amounts(vcpus, vcpus + more, start, start, start)
    before = "<domain><name>x</name><memory>1</memory><currentMemory>1</currentMemory><cpu mode='host-model'/><devices><rng/></devices></domain>"
    root: Any = etree.fromstring(before)
    for _ in range(2):  # again does nothing more
        set_amounts(root, wanted)
        assert amounts_in(root) == wanted
    assert root.find("devices/rng") is not None and root.find("cpu").get("mode") == "host-model"
    assert len(root.findall("devices/memory")) == wanted.grows
    set_amounts(root, Amounts(1, 1, MIB, MIB, MIB))
    assert [root.find(path) is None for path in ("maxMemory", "cpu/numa", "devices/memory", "vcpus")] == [
        True
    ] * 4


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ({"vcpus": 4, "max_vcpus": 2}, "max_vcpus is less than vcpus"),
        ({"memory": 1 << 30, "max_memory": 1 << 29}, "max_memory is less than memory"),
        ({"memory": 1 << 30, "max_memory": (1 << 30) + MIB}, "128 MiB"),
    ],
)
def test_a_most_that_does_not_fit_is_said(given_: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        VmSpec(name="x", **given_)


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        put(made, "linux", linux_guest.qcow2())
        yield made


@pytest.mark.libvirt
def test_a_running_guest_gets_processors_and_memory_and_gives_them_back(host: BrokerHost) -> None:
    words = ("--image", "linux", "--memory", "128M", "--max-memory", "512M", "--max-cpus", "2", *PLAIN[2:])
    plan = host.hv("ada", "vm", "create", "big", *words, "--dry-run").out
    assert "may get while it runs: up to 2 processors and 512 MiB of memory" in plan
    host.hv("ada", "vm", "create", "big", *words, "--start")
    uuid = shown(host, "big")["uuid"]

    def says(text: str, after: int = 0) -> int:
        """The memory that the guest names then, MiB."""
        try:
            found = wait_for(text, lambda: re.search(text, host.console(uuid)[after:]))
        except AssertionError as error:
            raise AssertionError(f"{error}: {host.console(uuid)[-1500:]}") from error
        return int(found[1])

    def live() -> Amounts:
        with host.libvirt() as connection:
            return amounts_in(etree.fromstring(connection.lookupByName("big").XMLDesc(0)))

    first = says(linux_guest.MARKER + r" cpus=1 memory=(\d+)M")
    # A newer Linux, which takes an emulated machine for a real one, says itself that there will never be more.
    more = 2 if "PROCESSORS-AT-MOST 0-1" in host.console(uuid) else 1
    plan = host.hv("ada", "vm", "resize", "big", "--cpus", "2", "--memory", "384M", "--dry-run").out
    assert "processors: 1 → 2, now" in plan and "memory: 128 MiB → 384 MiB, now" in plan
    result = host.hv("ada", "vm", "resize", "big", "--cpus", "2", "--memory", "384M", "--json").json
    assert result["waits_for_restart"] == [] and "it is emulated" in result["notes"][0], result
    assert live().vcpus == 2 and live().taken == 256 * MIB
    says(rf"NOW cpus={more} memory=({first + 256})M ")
    found = shown(host, "big")
    assert (found["vcpus"], found["memory"], found["changes_pending"]) == (2, 384 * MIB, False)
    assert (found["max_vcpus"], found["max_memory"]) == (2, 512 * MIB)

    # Memory goes back too.
    seen = len(host.console(uuid))
    result = host.hv("ada", "vm", "resize", "big", "--memory", "128M", "--json").json
    assert result["waits_for_restart"] == [] and result["notes"] == [], result
    assert live().taken == 0
    says(rf"NOW cpus={more} memory=({first})M ", seen)

    # The guest lets go of a processor; an emulated one QEMU never reports as gone, and then that is told.
    result = host.hv("ada", "vm", "resize", "big", "--cpus", "1", "--json").json
    says(r"NOW cpus=1 memory=(\d+)M ", seen)
    if live().vcpus == 2:
        assert result["waits_for_restart"] == ["processors"] and "has 2 processors" in result["notes"][0]
    else:
        assert live().vcpus == 1 and result["notes"] == [], result

    # More than the most waits for a start, is told, and is there then.
    host.hv("ada", "vm", "resize", "big", "--memory", "256M")
    said = host.hv("ada", "vm", "resize", "big", "--cpus", "3", "--max-memory", "1G").out
    assert "the most of processors and the most of memory from the next start on" in said, said
    assert shown(host, "big")["changes_pending"]
    seen = len(host.console(uuid))
    host.hv("ada", "vm", "restart", "big", "--force")
    assert says(linux_guest.MARKER + r" cpus=3 memory=(\d+)M ", seen) > first + 64
    assert not shown(host, "big")["changes_pending"] and live().max_memory == 1024 * MIB

    said = host.hv("ada", "vm", "resize", "big", "--max-cpus", "2", status=2).err
    assert "--max-cpus is less" in said and "at least 3" in said
    with host.libvirt() as connection:
        xml = connection.lookupByName("big").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert xml.count("virtio-mem") >= 1
    host.hv("ada", "vm", "delete", "big", "--disks", "--force")
