"""What no file answers: the kernel's network tables, pci.ids, and the health of an NVMe disk."""

import json
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from installer.facts.common import Unknown
from installer.probe import probe, questions
from installer.probe.record import ReplayRoot
from installer.probe.redact import redacted
from tests import machines
from tests.nixeval.nix import REPOSITORY

ROUTE = """eth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0
eth0 000200C0 00000000 0001 0 0 100 00FFFFFF 0 0 0
br0 0000000A 00000000 0001 0 0 0 000000FF 0 0 0"""
TRIE = """|-- 127.0.0.1
/32 host LOCAL
|-- 192.0.2.10
/32 host LOCAL
|-- 192.0.2.255
/32 link BROADCAST
|-- 10.1.2.3
/32 host LOCAL"""
INET6 = """fe80000000000000505400fffe123456 02 40 20 80 eth0
20010db8000000000000000000000010 02 40 00 80 eth0
00000000000000000000000000000001 01 80 10 80 lo"""
ZERO = "0" * 32
ROUTE6 = f"""{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 1 0 00200200 lo
{ZERO} 00 {ZERO} 00 {ZERO} 400 1 0 00000003 eth1"""
IDS = """# comment
10de  NVIDIA Corporation
\t2704  AD103 [GeForce RTX 4080]
\t\t1043 889f  TUF
1af4  Red Hat, Inc.
# in between
\t1041  Virtio 1.0 network device
8086  Intel Corporation
\t2704  Another device
C 00  Unclassified device
"""


def split(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_addresses_and_default_routes_from_the_kernels_tables() -> None:
    found, default = questions.addresses(split(ROUTE), split(TRIE), split(INET6), split(ROUTE6))
    assert found == {"eth0": ["192.0.2.10/24", "2001:db8::10/64"], "br0": ["10.1.2.3/8"]}
    assert default == {"eth0", "eth1"}


@given(st.integers(0, (1 << 128) - 1) | st.sampled_from([0, 1, 1 << 112, 0x20010DB8 << 96 | 1 << 48 | 1]))
def test_ipv6_is_written_as_the_standard_says(number: int) -> None:
    text = questions.ipv6(f"{number:032x}")
    assert IPv6Address(text) == IPv6Address(number)
    assert len(text) <= len(str(IPv6Address(number)))


@pytest.fixture
def ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "pci.ids").write_text(IDS, encoding="utf-8")
    monkeypatch.setattr(questions, "PCI_NAMES", (str(tmp_path / "pci.ids"),))
    caches = (questions._pci_names, questions._pci_vendor)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("10de", "NVIDIA Corporation"),
        ("10de:2704", "AD103 [GeForce RTX 4080]"),
        ("8086:2704", "Another device"),
        ("1af4:1041", "Virtio 1.0 network device"),
        ("1af4:2704", None),
        ("10de:1043", None),
        ("ffff", None),
        ("ffff:2704", None),
    ],
)
def test_names_from_pci_ids(key: str, name: str | None) -> None:
    assert questions.pci_name(key) == name


@pytest.mark.parametrize(
    ("log", "summary", "failing"),
    [
        ("0038010a0a02", "passed, 2 % worn, 39 °C", False),
        ("0456010a0a64", "critical warning 0x04, 100 % worn, 69 °C", True),
    ],
)
def test_health_of_an_nvme_disk(log: str, summary: str, failing: bool) -> None:
    record = machines.record("lab-uefi")
    record.answers["nvme health nvme0"] = log
    health = probe(ReplayRoot(record)).disks[0].health
    assert not isinstance(health, Unknown)
    assert (health.summary, health.failing) == (summary, failing)


@pytest.mark.parametrize("log", ["", "zz", "00"])
def test_health_that_cannot_be_read_is_unknown(log: str) -> None:
    record = machines.record("lab-uefi")
    record.answers["nvme health nvme0"] = log
    assert isinstance(probe(ReplayRoot(record)).disks[0].health, Unknown)


@pytest.mark.root
def test_a_card_below_the_bridge_of_the_default_route_carries_it_and_that_is_asked_anew() -> None:
    """In a network namespace of its own: a card in a bond in a bridge that has the route, another one beside it."""
    code = """
import subprocess
from installer.probe import questions

def ip(words):
    subprocess.run(("ip", *words.split()), check=True)

for words in (
    "link add card0 type veth peer name far0", "link add card1 type veth peer name far1",
    "link add link card0 name card0.5 type macvlan", "link add br0 type bridge", "link set card0.5 master br0",
    "link set card0 up", "link set far0 up", "link set br0 up", "address add 192.0.2.1/24 dev br0",
):
    ip(words)
print(questions.network_default(""))
ip("route add default via 192.0.2.2 dev br0")
print(questions.network_default(""))
questions.forget()
print(questions.network_default(""))
"""
    done = subprocess.run(
        (
            "unshare",
            "--net",
            "--mount",
            "sh",
            "-ec",
            'mount -t sysfs sys /sys; exec "$0" -c "$1"',
            sys.executable,
            code,
        ),
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.stdout.splitlines() == ["None", "None", "br0 card0 card0.5"], done.stdout + done.stderr


def test_what_the_firmware_knows_of_a_system_that_hibernates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd writes it (src/shared/hibernate-util.c): attributes, then JSON in UTF-16 with a zero at its end."""
    uuid = "0F3A4C5D-1111-4222-8333-444455556666"
    variable = tmp_path / "HibernateLocation"
    monkeypatch.setattr(questions, "HIBERNATION", str(variable))
    assert questions.hibernation("location") is None
    for said, told in (
        ({"uuid": uuid, "offset": 38912, "osReleaseId": "ubuntu"}, f"{uuid} ubuntu"),
        ({"uuid": uuid, "offset": 0}, f"{uuid} -"),
        ({"offset": 0}, None),
        ([], None),
    ):
        variable.write_bytes(b"\7\0\0\0" + f"{json.dumps(said)}\0".encode("utf-16-le"))
        assert questions.hibernation("location") == told
    variable.write_bytes(b"\7\0\0\0" + b"\xff" * 7)
    assert questions.hibernation("location") is None
    record = machines.record("lab-uefi")
    assert probe(ReplayRoot(record)).firmware.hibernation is None
    record.answers["hibernation location"] = f"{uuid} ubuntu"
    found = probe(ReplayRoot(record)).firmware.hibernation
    assert found and (found.uuid, found.system) == (uuid.lower(), "ubuntu")
    assert uuid.lower() not in "".join(redacted(record).answers.values()).lower()
