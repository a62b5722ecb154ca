"""network.nix: interfaces through systemd-networkd. Keys are those of systemd.network(5), .netdev(5), .link(5).

They are written in systemd's own terms, not as `hypervisor.network.links` and the like, so that the host's network does
not rest on our modules; a test holds that both make the same units.
"""

from collections.abc import Iterable, Mapping

from installer.answers.model import (
    Addressing,
    Answers,
    Bond,
    Bridge,
    Ethernet,
    NetworkAnswers,
    VlanInterface,
)
from installer.render.nix import Nix

Sections = dict[str, Nix]

UNADDRESSED: Mapping[str, Nix] = {"DHCP": "no", "LinkLocalAddressing": "no", "IPv6AcceptRA": False}
WIRED: Mapping[str, Nix] = {"Type": "ether", "Kind": "!*"}
"""Every physical wired interface: guests' taps, bridges and the like have a kind."""
BOND_CONFIG: Mapping[str, Mapping[str, Nix]] = {
    "802.3ad": {"LACPTransmitRate": "fast", "TransmitHashPolicy": "layer3+4"},
    "balance-xor": {"TransmitHashPolicy": "layer3+4"},
}
"""What a mode needs besides its name."""


def network(answers: Answers) -> dict[str, Nix]:
    """Options that follow from the network answers."""
    asked = answers.network
    networking: dict[str, Nix] = {"hostName": answers.hostname, "useNetworkd": True, "useDHCP": False}
    if answers.domain:
        networking["domain"] = answers.domain
    if asked.dns:
        networking["nameservers"] = [str(server) for server in asked.dns]
    if asked.ntp:
        networking["timeServers"] = list(asked.ntp)
    options: dict[str, Nix] = {
        "networking": networking,
        "systemd": {"network": {"enable": True, **networkd(asked)}},
    }
    if asked.management:
        zones: Nix = {"management": {"interfaces": list(asked.management)}}
        options["hypervisor"] = {"network": {"zones": zones}}
    return options


def networkd(asked: NetworkAnswers) -> dict[str, Nix]:
    """Sections `links`, `netdevs` and `networks`, of stage 1 and of the host alike."""
    if not (asked.ethernets or asked.bonds or asked.vlans or asked.bridges):
        return {"networks": {"40-wired": {"matchConfig": WIRED, "networkConfig": {"DHCP": "yes"}}}}
    sections: dict[str, Nix] = {}
    links: dict[str, Nix] = {
        f"10-{ethernet.name}": {
            "matchConfig": _ethernet_match(ethernet),
            "linkConfig": {"Name": ethernet.name},
        }
        for ethernet in asked.ethernets
        if ethernet.match.mac
    }
    if links:
        sections["links"] = links
    if netdevs := _netdevs(asked):
        sections["netdevs"] = netdevs
    return {**sections, "networks": _networks(asked)}


def _netdevs(asked: NetworkAnswers) -> dict[str, Nix]:
    netdevs: dict[str, Nix] = {}
    for bond in asked.bonds:
        netdevs[f"20-{bond.name}"] = {"netdevConfig": _netdev(bond.name, "bond"), "bondConfig": _bond(bond)}
    for vlan in asked.vlans:
        netdevs[f"20-{vlan.name}"] = {
            "netdevConfig": _netdev(vlan.name, "vlan"),
            "vlanConfig": {"Id": vlan.id},
        }
    for bridge in asked.bridges:
        netdevs[f"20-{bridge.name}"] = {
            "netdevConfig": _netdev(bridge.name, "bridge"),
            "bridgeConfig": {"STP": bridge.stp},
        }
    return netdevs


def _netdev(name: str, kind: str) -> Sections:
    return {"Name": name, "Kind": kind}


def _bond(bond: Bond) -> Sections:
    return {"Mode": bond.mode, "MIIMonitorSec": "100ms", **BOND_CONFIG.get(bond.mode, {})}


def _networks(asked: NetworkAnswers) -> dict[str, Nix]:
    """One .network file for each interface; who is a member of what stands with the member."""
    networks: dict[str, Nix] = {}
    made: tuple[Bond | VlanInterface | Bridge, ...] = (*asked.bonds, *asked.vlans, *asked.bridges)
    named: list[tuple[str, Sections, Addressing | None]] = []
    named += [
        (ethernet.name, _ethernet_match(ethernet), ethernet.addressing) for ethernet in asked.ethernets
    ]
    named += [(interface.name, {"Name": interface.name}, interface.addressing) for interface in made]
    bonds = _owners(asked.bonds)
    bridges = _owners(asked.bridges)
    empty_bridges = {bridge.name for bridge in asked.bridges if not bridge.members}
    for name, match, addressing in named:
        config: Sections = {}
        link: Sections = {}
        if owner := bonds.get(name) or bridges.get(name):
            config["Bond" if name in bonds else "Bridge"] = owner
            link["RequiredForOnline"] = "enslaved"
        elif name in empty_bridges:
            # It has no carrier before the first guest is plugged in.
            config["ConfigureWithoutCarrier"] = True
            link["RequiredForOnline"] = "no"
        elif addressing is None:
            link["RequiredForOnline"] = "no"
        if vlans := [vlan.name for vlan in asked.vlans if vlan.link == name]:
            config["VLAN"] = vlans
        networks[f"40-{name}"] = {"matchConfig": match, **_addressed(addressing, config, link)}
    return networks


def _owners(made: Iterable[Bond | Bridge]) -> dict[str, str]:
    return {member: owner.name for owner in made for member in owner.members}


def _ethernet_match(ethernet: Ethernet) -> Sections:
    """By the permanent address where it is known: it stays when a bond gives its members its own, and the network
    still works should the interface not have been renamed.
    """
    if ethernet.match.mac:
        return {"PermanentMACAddress": ethernet.match.mac.lower()}
    return {"Name": ethernet.match.name or ethernet.name}


def _addressed(addressing: Addressing | None, config: Sections, link: Sections) -> dict[str, Nix]:
    sections: dict[str, Nix] = {}
    if addressing is None:
        config = {**UNADDRESSED, **config}
    else:
        config = {**_addresses(addressing), **config}
        if addressing.mtu is not None:
            link = {"MTUBytes": str(addressing.mtu), **link}
        if addressing.routes:
            sections["routes"] = [
                {"Destination": route.to, "Gateway": str(route.via)} for route in addressing.routes
            ]
    if link:
        sections["linkConfig"] = link
    return {"networkConfig": config, **sections}


def _addresses(addressing: Addressing) -> Sections:
    config: Sections = {"DHCP": addressing.dhcp, "IPv6AcceptRA": addressing.accept_ra}
    for key, values in (
        ("Address", addressing.addresses),
        ("Gateway", addressing.gateways),
        ("DNS", addressing.dns),
        ("Domains", addressing.domains),
    ):
        if values:
            config[key] = [str(value) for value in values]
    return config
