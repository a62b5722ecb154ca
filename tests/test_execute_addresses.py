"""The last screen says where to log in: what the answers fix, and what only a server will tell."""

from typing import Any

import pytest

from installer.execute.addresses import addresses
from installer.facts.nics import Nic
from tests.plan_cases import answers

MAC = "52:54:00:00:00:01"
SHOWS = "the host's console shows it"


def nic(name: str, mac: str, *now: str, wireless: bool = False) -> Nic:
    return Nic(
        name=name,
        permanent_name=f"permanent-{name}",
        mac=mac,
        driver=None,
        pci_address=None,
        speed=1000,
        link=True,
        wireless=wireless,
        sriov_total=0,
        addresses=now,
    )


NICS = (
    nic("eth0", MAC, "192.0.2.50/24", "fe80::1/64", "2001:db8::50/64"),
    nic("eth1", "52:54:00:00:00:02"),
    nic("wlan0", "52:54:00:00:00:03", "198.51.100.9/24", wireless=True),
)


def said(network: dict[str, Any], nics: tuple[Nic, ...] = NICS, port: int = 22) -> list[str]:
    return list(addresses(answers(network=network, ssh={"port": port}), nics))


def ethernet(name: str, mac: str = MAC, **addressing: Any) -> dict[str, Any]:
    return {"name": name, "match": {"mac": mac}, "addressing": addressing}


NOW = "now 192.0.2.50, 2001:db8::50 and perhaps another for the host"


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ({}, [f"address: by DHCP, {NOW}; {SHOWS}"]),
        ({"ethernets": [ethernet("lan0")]}, [f"address of lan0: by DHCP, {NOW}; {SHOWS}"]),
        (
            {"ethernets": [ethernet("lan0", MAC.upper(), dhcp="ipv4")]},
            [f"address of lan0: by DHCP, {NOW}; {SHOWS}"],
        ),
        (
            {"ethernets": [{"name": "lan0", "match": {"name": "perm*-eth0"}, "addressing": {}}]},
            [f"address of lan0: by DHCP, {NOW}; {SHOWS}"],
        ),
        (
            {"ethernets": [ethernet("lan0", dhcp="no", addresses=["192.0.2.7/24", "2001:db8::7/64"])]},
            ["address of lan0: 192.0.2.7, 2001:db8::7"],
        ),
        (
            {"ethernets": [ethernet("lan0", addresses=["192.0.2.7/24"])]},
            ["address of lan0: 192.0.2.7, and one by DHCP"],
        ),
        (
            {"ethernets": [ethernet("lan0", dhcp="no")]},
            [f"address of lan0: by router advertisements; {SHOWS}"],
        ),
        ({"ethernets": [ethernet("lan0", dhcp="no", accept_ra=False)]}, []),
        (
            {
                "ethernets": [
                    {"name": "lan0", "match": {"mac": MAC}},
                    {"name": "lan1", "match": {"mac": "52:54:00:00:00:02"}},
                ],
                "bonds": [{"name": "bond0", "members": ["lan0", "lan1"], "addressing": {"dhcp": "yes"}}],
                "vlans": [
                    {
                        "name": "vlan7",
                        "id": 7,
                        "link": "bond0",
                        "addressing": {"dhcp": "no", "addresses": ["10.7.0.2/24"]},
                    },
                    {"name": "vlan8", "id": 8, "link": "bond0"},
                ],
                "bridges": [{"name": "br8", "members": ["vlan8"], "addressing": {"dhcp": "ipv4"}}],
            },
            [
                f"address of bond0: by DHCP; {SHOWS}",
                "address of vlan7: 10.7.0.2",
                f"address of br8: by DHCP; {SHOWS}",
            ],
        ),
        (
            {
                "ethernets": [ethernet("lan0", dhcp="no", addresses=["192.0.2.7/24"])],
                "bridges": [
                    {"name": "br0", "addressing": {"dhcp": "no", "addresses": ["10.0.0.1/24"]}},
                ],
                "management": ["lan0"],
            },
            ["address of lan0: 192.0.2.7"],
        ),
    ],
)
def test_each_interface_that_ssh_is_open_on_is_told(network: dict[str, Any], expected: list[str]) -> None:
    assert said(network) == expected


def test_nothing_is_told_of_now_where_nothing_is_there() -> None:
    assert said({}, ()) == [f"address: by DHCP; {SHOWS}"]


def test_a_port_of_its_own_is_told() -> None:
    fixed = {"ethernets": [ethernet("lan0", dhcp="no", addresses=["192.0.2.7/24"])]}
    assert said(fixed, port=2222) == ["address of lan0: 192.0.2.7", "SSH: port 2222"]
