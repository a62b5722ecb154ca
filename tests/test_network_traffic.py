"""Traffic through the evaluated rulesets (tests/golden/nftables): a real kernel, real connections."""

import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.network.world import PATIENCE, Attempt, World, load
from tests.nixeval import network
from tests.nixeval.phases import STATES

pytestmark = pytest.mark.root

NAT = """table ip libvirt_network {
  chain guest_nat {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade
  }
}
"""
"""What libvirt writes for a network with NAT, as far as it matters here; test_nat_of_libvirt has the real one."""
HOST = {
    "admin": ("10.1.0.1", "fd00:1::1"),
    "outside": ("10.2.0.1", "fd00:2::1"),
    "storage": ("10.3.0.1", "fd00:3::1"),
    "routed": ("10.4.0.1", "fd00:4::1"),
    "hermit": ("10.5.0.254", "fd00:5::fe"),
    "guest": ("192.168.122.1", "fd00:122::1"),
    "container": ("10.88.0.1", "fd00:88::1"),
}
"""The host's addresses as each neighbour sees it. On an isolated bridge it has none, unless a test gives it some."""
HOST["bridged"] = HOST["admin"]
HOST["hermit2"] = HOST["hermit"]
NEIGHBOURS = {
    "admin": ("10.1.0.2", "fd00:1::2"),
    "bridged": ("10.1.0.3", "fd00:1::3"),
    "outside": ("10.2.0.2", "fd00:2::2"),
    "storage": ("10.3.0.2", "fd00:3::2"),
    "routed": ("10.4.0.2", "fd00:4::2"),
    "hermit": ("10.5.0.1", "fd00:5::1"),
    "hermit2": ("10.5.0.2", "fd00:5::2"),
    "guest": ("192.168.122.10", "fd00:122::10"),
    "container": ("10.88.0.2", "fd00:88::2"),
}


def build(world: World) -> None:
    """The host with every interface that the goldens name, a neighbour behind each, routes everywhere."""
    world.add("host", *NEIGHBOURS)
    for family in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
        world.sysctl("host", f"net.{family}", 1)

    def with_prefix(addresses: tuple[str, ...]) -> list[str]:
        return [f"{address}/{64 if ':' in address else 24}" for address in addresses]

    for bridge, neighbours in {
        "br0": ("admin", "bridged"),
        "lab0": ("hermit", "hermit2"),
        "virbr0": ("guest",),
        "podman0": ("container",),
    }.items():
        world.bridge("host", bridge, *with_prefix(HOST[neighbours[0]]))
        for number, neighbour in enumerate(neighbours):
            world.cable("host", f"v{number}{bridge}", neighbour, bridge=bridge)
    for link, neighbour in {"uplink": "outside", "storage": "storage", "routed0": "routed"}.items():
        world.cable("host", link, neighbour, addresses=with_prefix(HOST[neighbour]))
    for name, addresses in NEIGHBOURS.items():
        world.neighbour(name, *with_prefix(addresses), via=HOST[name])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    try:
        build(made)
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def empty(world: World) -> None:
    world.run("host", "nft", "flush", "ruleset")


def to_host(source: str, port: int, *, udp: bool = False) -> set[Attempt]:
    """A neighbour asks the host, in both families."""
    return {Attempt(source, "host", address, port, udp) for address in HOST[source]}


def between(source: str, target: str, port: int = 80, *, udp: bool = False) -> set[Attempt]:
    """One neighbour asks another, or the host does."""
    return {Attempt(source, target, address, port, udp) for address in NEIGHBOURS[target]}


def every(*sets: set[Attempt]) -> set[Attempt]:
    return set().union(*sets)


ZONED = every(
    # The management port, from management; and what is open everywhere, from there and outside.
    to_host("admin", 22),
    to_host("admin", 8080),
    to_host("outside", 8080),
    # Guests: names, and the way out. DHCP is below.
    to_host("guest", 53),
    to_host("guest", 53, udp=True),
    between("guest", "outside"),
    between("guest", "outside", 123, udp=True),
    to_host("container", 53, udp=True),
    between("container", "outside"),
    # Bridges are switches.
    between("bridged", "admin"),
    between("admin", "bridged"),
    between("hermit", "hermit2"),
    # Zones of their own.
    to_host("storage", 3260),
    between("host", "storage"),
    between("host", "guest"),
    between("admin", "routed"),
    between("routed", "outside"),
)
"""What passes on the host with every zone."""
ZONED_NOT = every(
    *(to_host(name, 22) for name in NEIGHBOURS if name not in ("admin", "bridged")),
    *(to_host(name, 9999) for name in NEIGHBOURS),
    *(to_host(name, 9999, udp=True) for name in NEIGHBOURS),
    *(to_host(name, 8080) for name in ("guest", "container", "storage", "routed", "hermit")),
    to_host("outside", 53),
    to_host("storage", 53, udp=True),
    to_host("admin", 3260),
    # Guests, containers and storage reach nobody else, and nobody reaches them.
    *(between("guest", name) for name in ("admin", "bridged", "storage", "routed", "hermit", "container")),
    *(between(name, "guest") for name in ("admin", "outside", "storage", "routed", "hermit", "container")),
    *(between("storage", name) for name in ("admin", "outside", "routed", "hermit")),
    *(between(name, "storage") for name in ("admin", "outside", "routed", "container")),
    # The host is no router for others.
    between("admin", "outside"),
    between("outside", "admin"),
    between("outside", "routed"),
    between("routed", "admin"),
    # Isolated, both ways.
    *(between("hermit", name) for name in ("admin", "outside", "routed", "container")),
    *(between(name, "hermit") for name in ("host", "admin", "outside", "routed", "container")),
    between("hermit", "outside", 123, udp=True),
    between("host", "hermit", 123, udp=True),
)
"""What does not."""
PLAIN = every(
    to_host("outside", 22),
    to_host("outside", 8080),
    to_host("guest", 53),
    to_host("guest", 53, udp=True),
    between("guest", "outside"),
    between("host", "guest"),
)
"""What passes on a host whose answers said nothing of the network."""
PLAIN_NOT = every(
    to_host("outside", 9999),
    to_host("outside", 9999, udp=True),
    to_host("outside", 53),
    to_host("guest", 22),
    to_host("guest", 8080),
    to_host("guest", 9999),
    between("outside", "guest"),
)
CASES = {"zoned": (ZONED, ZONED_NOT), "plain": (PLAIN, PLAIN_NOT)}


def told(attempts: set[Attempt]) -> list[str]:
    return sorted(map(str, attempts))


def test_without_rules_everything_passes(world: World) -> None:
    """So that what does not pass below is the rules' doing, and no cable's."""
    attempts = every(*(part for case in CASES.values() for part in case))
    assert told(attempts - world.tried(attempts, attempts).keys()) == []


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("host", CASES)
def test_traffic(world: World, host: str, state: str) -> None:
    passing, refused = CASES[host]
    world.run("host", "nft", "-f", "-", stdin=NAT)
    load(world, "host", network.committed()[f"{host}/{state}"])
    seen = world.tried(passing | refused, passing)
    assert told(passing - seen.keys()) == [], "refused, but should pass"
    assert told(seen.keys() - passing) == [], "passed, but should be refused"
    # Masqueraded by the host's address outside, for IPv4; IPv6 is routed.
    assert {seen[attempt] for attempt in between("guest", "outside")} == {"10.2.0.1", "fd00:122::10"}


PATHS = sorted(network.committed())


@pytest.mark.parametrize("name", PATHS)
def test_a_rebuild_leaves_others_alone(world: World, name: str) -> None:
    """Tables of libvirt, netavark and single guests stay, and so do connections."""
    others = (("ip", "libvirt_network"), ("inet", "netavark"), ("bridge", "hyper-nixos-guests"))
    for family, table in others:
        world.run("host", "nft", f'add table {family} {table} {{ comment "not ours"; }}')
    load(world, "host", network.committed()[name])
    load(world, "host", network.committed()[name])
    tables = world.run("host", "nft", "list", "tables").splitlines()
    assert {f"table {family} {table}" for family, table in others} < {*tables}
    assert "table inet hyper-nixos" in tables


LEASE = """#!/bin/sh
[ "$1" = bound ] && echo "$ip $router $dns"
exit 0
"""
QUESTION = b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x05guest\x04test\x00\x00\x01\x00\x01"
"""A DNS query for the address of guest.test (RFC 1035, section 4)."""
ANSWER = socket.inet_aton("192.0.2.7")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("host", CASES)
def test_guests_get_addresses_and_names(world: World, tmp_path: Path, host: str, state: str) -> None:
    load(world, "host", network.committed()[f"{host}/{state}"])
    script = tmp_path / "script"
    script.write_text(LEASE)
    script.chmod(0o755)
    world.stop_listening("host", 53)
    options = (
        "--keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv --bind-interfaces --interface=virbr0 "
        "--except-interface=lo --no-ping --dhcp-range=192.168.122.50,192.168.122.60 --address=/guest.test/192.0.2.7 "
        f"--dhcp-leasefile={tmp_path}/leases --pid-file={tmp_path}/pid --user=root"
    )
    dnsmasq = subprocess.Popen(world.command("host", "dnsmasq", *options.split()))
    try:
        asked = "udhcpc -i eth0 -n -q -t 20 -T 1 -f -s"
        address, router, names = world.run("guest", *asked.split(), str(script)).split()[-3:]
        assert ip_address(address) in ip_network("192.168.122.48/28")
        assert (router, names) == ("192.168.122.1", "192.168.122.1")
        with world.inside("guest", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
            client.settimeout(PATIENCE)
            client.sendto(QUESTION, (names, 53))
            assert client.recv(512).endswith(ANSWER)
    finally:
        dnsmasq.terminate()
        dnsmasq.wait()


@pytest.mark.parametrize("state", ["strict", "paranoid"])
@pytest.mark.parametrize(("host", "hasty"), [("zoned", "admin"), ("plain", "outside")])
def test_rate_limit_keeps_out_only_who_asks_too_often(
    world: World, host: str, hasty: str, state: str
) -> None:
    load(world, "host", network.committed()[f"{host}/{state}"])
    for address in HOST[hasty]:
        knocks = {Attempt(hasty, "host", address, 22, serial=number) for number in range(20)}
        passed = len(world.tried(knocks, set()))
        # Five at once, and what the rate gives back meanwhile.
        assert 5 <= passed <= 7, f"{passed} of 20"
    # The same person on another port, and somebody else on this one.
    others = to_host(hasty, 8080)
    if host == "zoned":
        others |= to_host("bridged", 22)
    assert told(others - world.tried(others, others).keys()) == []


def test_without_a_rate_limit_all_knocks_are_heard(world: World) -> None:
    load(world, "host", network.committed()["zoned/balanced"])
    knocks = {Attempt("admin", "host", HOST["admin"][0], 22, serial=number) for number in range(20)}
    assert world.tried(knocks, knocks).keys() == knocks


def test_pings(world: World) -> None:
    """Answered but for paranoid; an isolated bridge never hears from the host."""
    for state in STATES:
        load(world, "host", network.committed()[f"zoned/{state}"])
        answered = {
            name: world.pings(name, HOST[name][0]) for name in ("admin", "guest", "outside", "hermit")
        }
        heard = state != "paranoid"
        assert answered == {"admin": heard, "guest": heard, "outside": heard, "hermit": False}
