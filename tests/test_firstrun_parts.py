"""Parts of the jobs that need no daemon: subnets, definitions of guests, differences of hardware."""

from ipaddress import IPv4Network, collapse_addresses
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hv.firstrun.domain import Placement, domain_mac, domain_uuid, domain_xml
from hv.firstrun.hardware import differences
from hv.firstrun.jobs import dependants
from hv.firstrun.network import USUAL, free_subnet, routed_subnets
from installer.errors import HyperError
from installer.facts import Facts
from installer.facts.cpu import Virtualization, VirtualizationState
from installer.facts.pci import Iommu, IommuState
from installer.handoff import Expectations, HandoffVm

PRIVATE = [IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
SUBNETS = st.builds(
    lambda address, prefix: IPv4Network((address, prefix), strict=False),
    st.sampled_from(PRIVATE).flatmap(
        lambda block: st.integers(int(block.network_address), int(block.broadcast_address))
    ),
    st.integers(9, 32),
)


@given(st.lists(SUBNETS, max_size=12))
def test_free_subnet_is_private_and_free(taken: list[IPv4Network]) -> None:
    covered = list(collapse_addresses(taken))
    assume(not all(any(block.subnet_of(net) for net in covered) for block in PRIVATE))
    found = free_subnet(taken)
    assert found.prefixlen == 24 and any(found.subnet_of(block) for block in PRIVATE)
    assert not any(found.overlaps(other) for other in taken)
    if not any(USUAL.overlaps(other) for other in taken):
        assert found == USUAL


@pytest.mark.parametrize(
    ("taken", "found"),
    [
        ([], "192.168.122.0/24"),
        (["192.168.122.0/23"], "192.168.124.0/24"),
        (["192.168.122.40/32"], "192.168.123.0/24"),
        (["192.168.64.0/18", "192.168.128.0/17"], "192.168.0.0/24"),
        (["192.168.0.0/16"], "172.16.0.0/24"),
        (["192.168.0.0/16", "172.16.0.0/12"], "10.0.0.0/24"),
    ],
)
def test_free_subnet(taken: list[str], found: str) -> None:
    assert str(free_subnet(map(IPv4Network, taken))) == found


def test_no_free_subnet() -> None:
    with pytest.raises(HyperError, match="no room"):
        free_subnet(PRIVATE)


def test_routes_of_this_machine_can_be_read() -> None:
    for subnet in routed_subnets(Path("/proc/net/route").read_text()):
        assert subnet.prefixlen > 0


VM = HandoffVm(
    name="web",
    image="/images/web.qcow2",
    image_format="qcow2",
    memory=512 * 1024**2,
    vcpus=2,
    network="default",
    firmware="uefi",
    autostart=True,
    start=True,
)
XML_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@given(name=XML_TEXT, network=XML_TEXT, folder=XML_TEXT)
def test_names_never_become_markup(name: str, network: str, folder: str) -> None:
    disk = Path("/pool") / folder.replace("/", "_") / "disk"
    vm = VM.model_copy(update={"name": name, "network": network})
    root = ET.fromstring(
        domain_xml("host", vm, Placement(cpu_model="host-model", disk=disk, console_log=disk))
    )
    plain = ET.fromstring(
        domain_xml("host", VM, Placement(cpu_model="host-model", disk=Path("/d"), console_log=Path("/d")))
    )
    assert [element.tag for element in root.iter()] == [element.tag for element in plain.iter()]
    assert root.findtext("name") == name
    assert root.find("devices/interface/source").get("network") == network  # type: ignore[union-attr]
    assert root.find("devices/disk/source").get("file") == str(disk)  # type: ignore[union-attr]


def test_a_guest_is_the_same_every_time_and_no_other() -> None:
    assert domain_uuid("a", "web") == domain_uuid("a", "web")
    assert len({domain_uuid(host, name) for host in "ab" for name in ("web", "db")}) == 4
    assert domain_mac("a", "web").startswith("52:54:00:") and domain_mac("a", "web") != domain_mac(
        "b", "web"
    )


def test_no_listener_on_the_network_and_no_path_to_a_store() -> None:
    text = domain_xml("host", VM, Placement(cpu_model=None, disk=Path("/d"), console_log=Path("/l")))
    assert "<emulator" not in text and "listen='tcp'" not in text and 'type="socket"' in text
    assert 'type="qemu"' in text and "<cpu" not in text


@pytest.fixture(scope="module")
def facts() -> Facts:
    """A machine with two GPUs, as recorded."""
    return Facts.model_validate_json(
        (Path(__file__).parent / "machines/identical-gpus/facts.json").read_bytes()
    )


def planned(facts: Facts, *passthrough: str) -> Expectations:
    return Expectations(
        virtualization=facts.cpu.virtualization.state, iommu=facts.iommu.state, passthrough=passthrough
    )


def test_as_planned_is_silent(facts: Facts) -> None:
    assert list(differences(planned(facts), facts)) == []


@pytest.mark.parametrize("state", list(VirtualizationState))
def test_kvm_that_differs_is_explained(facts: Facts, state: VirtualizationState) -> None:
    cpu = facts.cpu.model_copy(update={"virtualization": Virtualization(state=state, evidence=("flag x",))})
    found = list(
        differences(
            Expectations(virtualization="as never", iommu=facts.iommu.state),
            facts.model_copy(update={"cpu": cpu}),
        )
    )
    assert len(found) == 1
    assert state in found[0] and "as never" in found[0] and "flag x" in found[0]
    assert ("better than planned" in found[0]) == (state is VirtualizationState.ready)


@pytest.mark.parametrize("state", list(IommuState))
def test_iommu_that_differs_is_explained(facts: Facts, state: IommuState) -> None:
    iommu = Iommu(state=state, evidence=("no DMAR",), units=(), groups=())
    expected = Expectations(virtualization=facts.cpu.virtualization.state, iommu="as never")
    (found,) = differences(expected, facts.model_copy(update={"iommu": iommu}))
    assert state in found and "no DMAR" in found
    assert ("better than planned" in found) == (state is IommuState.on)


def test_devices_kept_for_guests(facts: Facts) -> None:
    device = facts.pci[0]

    def said(**changes: object) -> list[str]:
        changed = facts.model_copy(update={"pci": (device.model_copy(update=changes),)})
        return list(differences(planned(facts, device.address), changed))

    assert said(driver="vfio-pci", iommu_group=7) == []
    assert "no IOMMU group" in said(driver="vfio-pci", iommu_group=None)[0]
    assert "bound to nouveau" in said(driver="nouveau")[0]
    assert "bound to no driver" in said(driver=None)[0]
    (gone,) = differences(planned(facts, "ffff:ff:1f.7"), facts)
    assert "ffff:ff:1f.7" in gone and "is not there" in gone


def test_dependants_are_found_through_others() -> None:
    from hv.firstrun.catalogue import jobs_of
    from tests.test_firstrun_engine import HANDOFF

    jobs = jobs_of(
        HANDOFF.model_copy(update={"vms": (VM, VM.model_copy(update={"name": "db", "network": None}))})
    )
    assert [job.name for job in dependants(jobs, "libvirt")] == ["pool", "network", "vm-web", "vm-db"]
    assert [job.name for job in dependants(jobs, "network")] == ["vm-web"]
    assert [job.name for job in (jobs[0], *jobs[-2:])] == ["grow-root", "phase", "webhook"]
    for index, job in enumerate(jobs):
        assert set(job.requires) <= {earlier.name for earlier in jobs[:index]}
