"""systemd.network.* as files below /etc/systemd/network (systemd.network(5), systemd.netdev(5), systemd.link(5))."""

from typing import Any

SECTIONS = {
    "matchConfig": "Match",
    "linkConfig": "Link",
    "networkConfig": "Network",
    "dhcpV4Config": "DHCPv4",
    "dhcpV6Config": "DHCPv6",
    "ipv6AcceptRAConfig": "IPv6AcceptRA",
    "bridgeConfig": "Bridge",
    "netdevConfig": "NetDev",
    "vlanConfig": "VLAN",
    "bondConfig": "Bond",
}
LISTS = {
    "address": "Address",
    "gateway": "Gateway",
    "dns": "DNS",
    "domains": "Domains",
    "ntp": "NTP",
    "vlan": "VLAN",
    "bridge": "Bridge",
    "bond": "Bond",
}
REPEATED = {"routes": ("Route", "routeConfig"), "addresses": ("Address", "addressConfig")}


def files(network: dict[str, Any]) -> dict[str, str]:
    """Files by their path below /etc."""
    found = {}
    for kind, suffix in (("networks", "network"), ("netdevs", "netdev"), ("links", "link")):
        for name, unit in (network.get(kind) or {}).items():
            if unit.get("enable", True):
                found[f"systemd/network/{name}.{suffix}"] = _text(unit)
    return found


def _text(unit: dict[str, Any]) -> str:
    sections: list[tuple[str, list[str]]] = []
    for option, section in SECTIONS.items():
        lines = _lines(unit.get(option) or {})
        if option == "networkConfig":
            for each, name in LISTS.items():
                value = unit.get(each) or []
                lines += [f"{name}={item}" for item in (value if isinstance(value, list) else [value])]
        if lines:
            sections.append((section, lines))
    for option, (section, nested) in REPEATED.items():
        for each in unit.get(option) or []:
            sections.append((section, _lines(each.get(nested, each))))
    if unit.get("DHCP"):
        sections.append(("Network", [f"DHCP={unit['DHCP']}"]))
    return "".join(
        f"[{section}]\n" + "".join(f"{line}\n" for line in lines) + "\n" for section, lines in sections
    )


def _lines(settings: dict[str, Any]) -> list[str]:
    found = []
    for name, value in settings.items():
        for each in value if isinstance(value, list) else [value]:
            found.append(f"{name}={_word(each)}")
    return found


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
