"""The network of a machine that is taken over: asked of a real one in a network namespace, and made again in another by a
real NetworkManager, where ports have other names.
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.answers.network import NetworkAnswers
from installer.embed import NETWORK as FOLDER
from installer.embed import pack, unpack
from installer.errors import Exit, HyperError
from installer.remote.kexec import NETWORK
from installer.remote.network import Carried, NetworkThere, carry, parse
from tests import network_manager

OLD, NEW, OTHER = "hv-taken-old", "hv-taken-new", "hv-taken-other"
REACH = "import socket, sys; socket.create_connection((sys.argv[1], 9), 30)"
"""Somebody who is there refuses it."""
MACS = ("52:54:00:aa:bb:01", "52:54:00:aa:bb:02")


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def machine() -> Iterator[None]:
    """Two ports before and after, with the same MACs and other names, each with a cable to somebody."""
    for name in (OLD, NEW, OTHER):
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        ip("netns", "add", name)
    try:
        for name, prefix in ((OLD, "old"), (NEW, "en")):
            for number, mac in enumerate(MACS):
                port, end = f"{prefix}{number}", f"{prefix}-end{number}"
                words = ("link", "add", port, "address", mac, "type", "veth", "peer", "name", end)
                ip("-n", name, *words, "netns", OTHER)
                ip("-n", OTHER, "link", "set", end, "up")
        for number in range(2):
            ip("-n", OLD, "link", "set", f"old{number}", "up")
        yield
    finally:
        for name in (OLD, NEW, OTHER):
            ip("netns", "delete", name)


def asked(reached: str, resolver: str) -> NetworkThere:
    """What the machine says, by the very commands that it is asked with."""
    told = []
    for words in NETWORK:
        command = ["ip", "netns", "exec", OLD, "sh", "-c", f"{{ {words}; }} 2>/dev/null; true"]
        environment = os.environ | {"SSH_CONNECTION": f"203.0.113.99 40000 {reached} 22"}
        told.append(
            subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        )
    told[3] = resolver
    there = parse(told)
    assert there is not None
    return there


def shown(namespace: str) -> dict[str, Any]:
    """Addresses of each MAC, and routes with the MAC of their port; what the kernel sets by itself is left out."""
    links = {link["ifname"]: link for link in json.loads(ip("-n", namespace, "-json", "address"))}
    routes = set()
    for family in ("-4", "-6"):
        for route in json.loads(ip("-n", namespace, "-json", family, "route") or "[]"):
            if route.get("protocol") != "kernel":
                onlink = "onlink" in route.get("flags", ())
                routes.add((route["dst"], route.get("gateway"), links[route["dev"]]["address"], onlink))
    return {
        "addresses": {
            (link["address"], f"{each['local']}/{each['prefixlen']}")
            for link in links.values()
            for each in link["addr_info"]
            if each["scope"] == "global"
        },
        "routes": routes,
    }


def fixed(words: str) -> None:
    """Commands of ip(8) for the machine as it is before."""
    for line in words.strip().splitlines():
        ip("-n", OLD, *line.split())


PLAIN = """
address add 192.0.2.10/24 dev old0
address add 192.0.2.11/24 dev old0
address add 2001:db8::10/64 dev old0 nodad
route add default via 192.0.2.1 dev old0
route add 198.51.100.0/24 via 192.0.2.7 dev old0
route add default via 2001:db8::1 dev old0 metric 512
"""
RENTED = """
address add 192.0.2.10/32 dev old0
route add default via 203.0.113.1 dev old0 onlink
"""
POINT_TO_POINT = """
address add 192.0.2.10 peer 203.0.113.1/32 dev old0
route add default via 203.0.113.1 dev old0
"""
TWO = """
address add 192.0.2.10/24 dev old0
address add 10.1.0.10/16 dev old1
route add default via 192.0.2.1 dev old0
route add 10.0.0.0/8 via 10.1.0.1 dev old1 metric 7
"""
SHAPES = {"plain": PLAIN, "rented": RENTED, "point-to-point": POINT_TO_POINT, "two ports": TWO}


@pytest.mark.networkmanager
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_fixed_is_so_again(shape: str, tmp_path: Path) -> None:
    fixed(SHAPES[shape])
    before = shown(OLD)
    carried = carry(
        asked("192.0.2.10", "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.org\n")
    )
    assert shown(NEW) != before
    area = unpack(pack({f"{FOLDER}/{name}": content for name, content in carried.files.items()}))
    files = {name.removeprefix(f"{FOLDER}/"): content for name, content in area.items()}
    said = network_manager.configure(NEW, files, tmp_path)
    after = shown(NEW)
    assert after["addresses"] == before["addresses"], said
    # A route on the link to the router may be told by a mark or by a route of its own.
    ways = {route[:3] for route in before["routes"]}
    assert ways <= {route[:3] for route in after["routes"]}, said
    # And a packet gets there.
    ip("-n", OTHER, "address", "add", "192.0.2.1/24", "dev", "en-end0")
    ip("-n", OTHER, "address", "add", "203.0.113.1/32", "dev", "en-end0")
    ip("-n", OTHER, "route", "add", "192.0.2.10/32", "dev", "en-end0")
    gateway = "192.0.2.1" if shape in ("plain", "two ports") else "203.0.113.1"
    reach = [sys.executable, "-c", REACH, gateway]
    done = subprocess.run(["ip", "netns", "exec", NEW, *reach], check=False, capture_output=True, text=True)
    assert "Connection refused" in done.stderr, done.stderr


@pytest.mark.networkmanager
@pytest.mark.usefixtures("machine")
def test_without_the_connections_it_would_have_none(tmp_path: Path) -> None:
    """The test above can fail."""
    fixed(PLAIN)
    network_manager.configure(NEW, {}, tmp_path)
    assert not shown(NEW)["addresses"]


@pytest.mark.root
@pytest.mark.usefixtures("machine")
def test_what_came_by_dhcp_is_asked_for_again() -> None:
    fixed("address add 192.0.2.10/24 dev old0 valid_lft 3600 preferred_lft 1800")
    fixed("route add default via 192.0.2.1 dev old0 proto dhcp")
    carried = carry(asked("192.0.2.10", "nameserver 192.0.2.53\n"))
    assert carried == Carried({}, (f"old0 ({MACS[0]}): asked for again, by DHCP or from the router",), "")


@pytest.mark.root
@pytest.mark.usefixtures("machine")
def test_an_address_that_a_router_gave_stays_when_the_machine_is_reached_by_it() -> None:
    """The live system might choose another one in the same network."""
    fixed("address add 2001:db8::1234:5678/64 dev old0 nodad valid_lft 3600 preferred_lft 1800")
    assert not carry(asked("127.0.0.1", "")).files
    [text] = carry(asked("2001:db8::1234:5678", "")).files.values()
    section = text.decode().partition("[ipv6]")[2]
    assert "method=auto\naddress1=2001:db8::1234:5678/64\n" in section


@pytest.mark.root
@pytest.mark.usefixtures("machine")
def test_an_address_that_nothing_wired_has_is_refused() -> None:
    fixed(PLAIN)
    with pytest.raises(HyperError, match="could not be reached") as raised:
        carry(asked("10.9.0.1", ""))
    assert raised.value.code is Exit.unsuitable
    assert "10.9.0.1" in raised.value.why
    # By way of a tunnel of SSH itself, or the machine's own address: nothing can be said.
    for reached in ("127.0.0.1", "fe80::1%old0"):
        assert carry(asked(reached, "")).files


# What this kernel has no modules for: as ip(8) of iproute2 6.1 prints it.


def link(name: str, mac: str, kind: str = "", data: Any = None, **more: Any) -> dict[str, Any]:
    addresses = [
        {
            "family": "inet",
            "local": text.split("/")[0],
            "prefixlen": int(text.split("/")[1]),
            "scope": "global",
        }
        for text in more.pop("addresses", ())
    ]
    detail = {"linkinfo": {"info_kind": kind, "info_data": data or {}}} if kind else {}
    return {"ifname": name, "link_type": "ether", "address": mac, "addr_info": addresses, **detail, **more}


def told(*links: dict[str, Any], device: str, radios: str = "") -> Carried:
    route = {"dst": "default", "gateway": "192.0.2.1", "dev": device, "protocol": "static", "flags": []}
    words = (json.dumps(links), json.dumps([route]), "[]", "nameserver 127.0.0.53\n")
    there = parse((*words, "198.51.100.1 1 192.0.2.10 22", radios))
    assert there is not None
    return carry(there)


A, B, C = (f"52:54:00:aa:bb:0{number}" for number in (1, 2, 3))
VLAN = link(
    "eth0.100", A, "vlan", {"protocol": "802.1Q", "id": 100}, link="eth0", addresses=["192.0.2.10/24"]
)
BOND = {"mode": "802.3ad", "miimon": 100, "ad_lacp_rate": "fast", "xmit_hash_policy": "layer3+4"}
STACKS = {
    "vlan": ((link("eth0", A), VLAN), "eth0.100"),
    "bridge": (
        (
            link("veth1", B, "veth", master="br0", operstate="UP"),
            link("eth0", A, master="br0", operstate="UP"),
            link("br0", C, "bridge", addresses=["192.0.2.10/24"]),
        ),
        "br0",
    ),
    "bond": (
        (
            link("eth0", A, master="bond0"),
            link("eth1", A, master="bond0", permaddr=B),
            link("bond0", A, "bond", BOND, addresses=["192.0.2.10/24"]),
        ),
        "bond0",
    ),
    "bridge on a VLAN on a bond": (
        (
            link("eth0", A, master="bond0"),
            link("eth1", A, master="bond0", permaddr=B),
            link("bond0", A, "bond", BOND),
            link("bond0.7", A, "vlan", {"protocol": "802.1Q", "id": 7}, link="bond0", master="br0"),
            link("br0", A, "bridge", addresses=["192.0.2.10/24"]),
        ),
        "br0",
    ),
}


@pytest.mark.parametrize("shape", STACKS)
def test_what_addresses_stand_on(shape: str) -> None:
    links, device = STACKS[shape]
    files = {name: content.decode() for name, content in told(*links, device=device).files.items()}
    [holder] = [text for text in files.values() if "address1=192.0.2.10/24" in text]
    assert "route1=0.0.0.0/0,192.0.2.1,0" in holder
    assert "dns=" not in holder  # 127.0.0.53 is nobody on the live system
    others = [text for text in files.values() if text != holder]
    assert all("[ipv4]" not in text or "method=disabled" in text for text in others)
    match shape:
        case "vlan":
            parent = files["carried-port-525400aabb01.nmconnection"]
            uuid = parent.split("uuid=")[1].split()[0]
            assert f"[vlan]\nid=100\nparent={uuid}\n" in holder
            assert f"mac-address={A}" in parent
        case "bridge":
            # The network knows the bridge's address, and the cable is the port's.
            assert f"[ethernet]\nmac-address={A}\ncloned-mac-address={C}\n" in holder
            assert B not in "".join(files.values())
        case "bond":
            assert "mode=802.3ad\nmiimon=100\nlacp_rate=fast\nxmit_hash_policy=layer3+4\n" in holder
            assert sorted(text.split("\nmac-address=")[1].split()[0] for text in others) == [A, B]
        case _:
            assert "[vlan]\nid=7\n" in holder
            assert len(files) == 4


@pytest.mark.networkmanager
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("shape", STACKS)
def test_networkmanager_takes_them(shape: str, tmp_path: Path) -> None:
    """It reads them, begins with the port, and gets as far as this kernel lets it."""
    links, device = STACKS[shape]
    said = network_manager.configure(NEW, told(*links, device=device).files, tmp_path)
    assert "keyfile: load:" not in said
    assert "invalid" not in said
    assert "auto-activating connection 'carried-" in said
    assert ("vlan100" in said) is (shape == "vlan")
    if shape == "bridge":
        assert shown(NEW)["addresses"] == {(C, "192.0.2.10/24")}


def test_a_port_that_asks_keeps_asking_below_a_vlan_that_is_fixed() -> None:
    below = link("eth0", A)
    below["addr_info"] = [
        {"family": "inet", "local": "10.0.0.9", "prefixlen": 24, "scope": "global", "dynamic": True}
    ]
    files = told(below, VLAN, device="eth0.100").files
    assert b"[ipv4]\nmethod=auto\n" in files["carried-port-525400aabb01.nmconnection"]


def test_a_radio_is_no_way_in() -> None:
    radio = link("wlan0", A, addresses=["192.0.2.10/24"])
    with pytest.raises(HyperError, match="could not be reached"):
        told(radio, device="wlan0", radios="wlan0\n")
    assert told(radio, device="wlan0").files


def test_an_ip_that_knows_no_json() -> None:
    assert parse(["1: lo: <LOOPBACK,UP>", "", "", "", "", ""]) is None


def test_the_answers_that_keep_the_address() -> None:
    """They are taken by the answer file's model."""
    lines = told(link("eth0", A, addresses=["192.0.2.10/24"]), device="eth0").answers
    network = NetworkAnswers.model_validate(tomllib.loads(lines)["network"])
    [port] = network.ethernets
    assert port.match.mac == A
    assert port.addressing is not None
    assert (port.addressing.dhcp, [str(each) for each in port.addressing.addresses]) == (
        "no",
        ["192.0.2.10/24"],
    )
    assert [str(each) for each in port.addressing.gateways] == ["192.0.2.1"]
    links, device = STACKS["bond"]
    assert not told(*links, device=device).answers
