"""Whether the interfaces of an answer file make a network: names, members, links, addresses, gateways."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

from installer.answers.model import Addressing, IpInterface, NetworkAnswers
from installer.answers.problems import Path, Problem

_RESERVED = {"lo", "all", "default"}
"""Names the kernel has for itself."""

_KERNEL_NAME = re.compile(r"(eth|wlan|usb|bond|ib)[0-9]+")

Address = IPv4Address | IPv6Address


def check_network(network: NetworkAnswers) -> Iterator[Problem]:
    """Every contradiction in the network."""
    yield from _names(network)
    yield from _matches(network)
    yield from _members(network)
    yield from _links(network)
    yield from _loops(network)
    yield from _addressings(network)
    yield from _management(network)
    for number, address in enumerate(network.dns):
        yield from _address(address, ("network", "dns", number))


def _kinds(network: NetworkAnswers) -> dict[str, str]:
    """What each name is; the first entry of a name counts."""
    kinds: dict[str, str] = {}
    for path, name, _ in _entries(network):
        kinds.setdefault(name, str(path[1]).removesuffix("s"))
    return kinds


def _entries(network: NetworkAnswers) -> Iterator[tuple[Path, str, Addressing | None]]:
    for number, ethernet in enumerate(network.ethernets):
        yield ("network", "ethernets", number), ethernet.name, ethernet.addressing
    for number, bond in enumerate(network.bonds):
        yield ("network", "bonds", number), bond.name, bond.addressing
    for number, vlan in enumerate(network.vlans):
        yield ("network", "vlans", number), vlan.name, vlan.addressing
    for number, bridge in enumerate(network.bridges):
        yield ("network", "bridges", number), bridge.name, bridge.addressing


def _names(network: NetworkAnswers) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, name, _ in _entries(network):
        if name in seen:
            yield Problem(
                (*path, "name"), f"a second interface {name}", "give each interface a name of its own"
            )
        seen.add(name)
        if name in _RESERVED or name.startswith("virbr"):
            yield Problem(
                (*path, "name"), "is a name that the kernel or libvirt uses", "choose another, e.g. `lan0`"
            )


def _matches(network: NetworkAnswers) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, ethernet in enumerate(network.ethernets):
        path = ("network", "ethernets", number, "match")
        mac = (ethernet.match.mac or "").lower()
        if not mac and not ethernet.match.name:
            yield Problem(
                path, "has no condition, so it would match any interface", 'add `mac = "…"`, see `hv probe`'
            )
        if any(char.isspace() for char in ethernet.match.name or ""):
            yield Problem((*path, "name"), "is not one name", "write one name, or one with `*` for several")
        if mac and (mac == "00:00:00:00:00:00" or int(mac[:2], 16) & 1):
            yield Problem(
                (*path, "mac"), "is no address of an interface", "`hv probe` lists the permanent addresses"
            )
        if mac and mac in seen:
            yield Problem(
                (*path, "mac"), "another interface has the same", "match each interface by its own address"
            )
        seen.add(mac)
        if mac and _KERNEL_NAME.fullmatch(ethernet.name):
            yield Problem(
                ("network", "ethernets", number, "name"),
                "is of the form that the kernel gives out itself, so renaming an interface to it can fail",
                "choose another, e.g. `lan0` (systemd.link(5), Name=)",
            )


def _members(network: NetworkAnswers) -> Iterator[Problem]:
    """Members exist, are of the right kind, belong to one only, and have no addresses of their own."""
    kinds = _kinds(network)
    owners: dict[str, str] = {}
    entries = (
        *(
            (("network", "bonds", number), bond.name, bond.members, {"ethernet"})
            for number, bond in enumerate(network.bonds)
        ),
        *(
            (("network", "bridges", number), bridge.name, bridge.members, {"ethernet", "bond", "vlan"})
            for number, bridge in enumerate(network.bridges)
        ),
    )
    addressed = {name for _, name, addressing in _entries(network) if addressing is not None}
    for path, owner, members, allowed in entries:
        for number, member in enumerate(members):
            where = (*path, "members", number)
            if member not in kinds:
                known = ", ".join(name for name, kind in kinds.items() if kind in allowed) or "none yet"
                yield Problem(
                    where, "is no interface of this file", f"add it, or name one of these: {known}"
                )
                continue
            if kinds[member] not in allowed:
                yield Problem(
                    where,
                    f"is a {kinds[member]}; members are {' or '.join(sorted(allowed))}",
                    "name another",
                )
            if member in owners:
                yield Problem(
                    where, f"is a member of {owners[member]} already", "let it belong to one of the two"
                )
            elif member in addressed:
                yield Problem(where, "has addresses of its own", f"move its `addressing` to {owner}")
            owners.setdefault(member, owner)


def _links(network: NetworkAnswers) -> Iterator[Problem]:
    kinds = _kinds(network)
    seen: set[tuple[str, int]] = set()
    bonded = {member: bond.name for bond in network.bonds for member in bond.members}
    for number, vlan in enumerate(network.vlans):
        path = ("network", "vlans", number)
        if vlan.link not in kinds:
            known = ", ".join(name for name in kinds if name != vlan.name) or "none yet"
            yield Problem(
                (*path, "link"), "is no interface of this file", f"add it, or name one of these: {known}"
            )
        elif vlan.link in bonded:
            yield Problem(
                (*path, "link"),
                f"is a member of {bonded[vlan.link]}",
                f'write `link = "{bonded[vlan.link]}"`',
            )
        if (vlan.link, vlan.id) in seen:
            yield Problem((*path, "id"), f"is there twice over {vlan.link}", "give each VLAN its own id")
        seen.add((vlan.link, vlan.id))


def _loops(network: NetworkAnswers) -> Iterator[Problem]:
    """A VLAN over a bridge whose member it is, directly or not, has nothing to stand on."""
    below: dict[str, tuple[str, ...]] = {vlan.name: (vlan.link,) for vlan in network.vlans}
    below |= {bridge.name: bridge.members for bridge in network.bridges}
    for number, vlan in enumerate(network.vlans):
        reached: set[str] = set()
        ahead = [vlan.link]
        while ahead:
            name = ahead.pop()
            if name not in reached:
                reached.add(name)
                ahead += below.get(name, ())
        if vlan.name in reached:
            yield Problem(
                ("network", "vlans", number, "link"),
                "leads back to this VLAN",
                "let it run over something else",
            )


def _management(network: NetworkAnswers) -> Iterator[Problem]:
    """Each is an interface of its own whose name is known, and one of them has an address: nobody is locked out."""
    kinds = _kinds(network)
    owners = {
        **{member: bridge.name for bridge in network.bridges for member in bridge.members},
        **{member: bond.name for bond in network.bonds for member in bond.members},
    }
    unnamed = {ethernet.name for ethernet in network.ethernets if not ethernet.match.mac}
    for number, name in enumerate(network.management):
        where = ("network", "management", number)
        if name not in kinds:
            known = ", ".join(other for other in kinds if other not in owners) or "none yet"
            yield Problem(where, "is no interface of this file", f"add it, or name one of these: {known}")
        elif name in owners:
            yield Problem(
                where,
                f"is a member of {owners[name]}, through which its packets come in",
                f'write "{owners[name]}"',
            )
        elif name in unnamed:
            yield Problem(
                where,
                "is matched by a name, so the host may call it otherwise",
                "match it by its `mac`, which `hv probe` lists",
            )
    addressed = {name for _, name, addressing in _entries(network) if addressing is not None}
    if network.management and addressed.isdisjoint(network.management):
        yield Problem(
            ("network", "management"),
            "has no interface with an address, so nobody could come in",
            "give one of them `addressing`, or name another",
        )


def _addressings(network: NetworkAnswers) -> Iterator[Problem]:
    seen: dict[Address, str] = {}
    defaults: dict[int, str] = {}
    for path, name, addressing in _entries(network):
        if addressing is None:
            continue
        here = (*path, "addressing")
        for number, interface in enumerate(addressing.addresses):
            where = (*here, "addresses", number)
            yield from _interface(interface, where)
            if interface.ip in seen:
                yield Problem(
                    where, f"is an address of {seen[interface.ip]} already", "give each interface its own"
                )
            seen[interface.ip] = name
        yield from _gateways(addressing, here, name, defaults)
        for number, route in enumerate(addressing.routes):
            where = (*here, "routes", number)
            if ip_network(route.to).version != route.via.version:
                yield Problem(
                    (*where, "via"),
                    f"is not of the same family as {route.to}",
                    "use a gateway of the same family",
                )
            elif ip_network(route.to).prefixlen == 0:
                yield Problem(
                    (*where, "to"), "is the default route", "write it as `gateways` of the same interface"
                )
            yield from _reach(route.via, addressing, (*where, "via"))
        for number, address in enumerate(addressing.dns):
            yield from _address(address, (*here, "dns", number))
        if addressing.dhcp == "no" and not addressing.addresses and not addressing.accept_ra:
            yield Problem(
                here, "gives no address at all", "leave `addressing` out for an interface without addresses"
            )


def _gateways(addressing: Addressing, here: Path, name: str, defaults: dict[int, str]) -> Iterator[Problem]:
    for number, gateway in enumerate(addressing.gateways):
        where = (*here, "gateways", number)
        if other := defaults.get(gateway.version):
            yield Problem(
                where,
                f"is a second default gateway for IPv{gateway.version}; {other} has one",
                "keep one, and write `routes` for the rest",
            )
        defaults[gateway.version] = name
        yield from _reach(gateway, addressing, where)


def _reach(gateway: Address, addressing: Addressing, where: Path) -> Iterator[Problem]:
    """A gateway is a neighbour: link-local, or in a network of the same interface, and not the host itself."""
    if any(gateway == interface.ip for interface in addressing.addresses):
        yield Problem(where, "is the host's own address", "write the address of the router")
    elif gateway.version == 6 and gateway.is_link_local:
        return
    elif not any(gateway in interface.network for interface in addressing.addresses):
        networks = (
            ", ".join({str(interface.network): None for interface in addressing.addresses})
            or "no static address"
        )
        yield Problem(
            where,
            f"is in none of the interface's networks ({networks})",
            "correct the gateway or the prefix length; with DHCP leave the gateway out",
        )


def _interface(interface: IpInterface, where: Path) -> Iterator[Problem]:
    yield from _address(interface.ip, where)
    network = interface.network
    ends = [network.network_address, *([network.broadcast_address] if interface.version == 4 else [])]
    if network.prefixlen < network.max_prefixlen - 1 and interface.ip in ends:
        yield Problem(
            where, f"is the network {network} itself, not a host in it", "write the host's address"
        )


def _address(address: Address, where: Path) -> Iterator[Problem]:
    if isinstance(address, IPv6Address) and address.scope_id:
        yield Problem(
            where, "names an interface after `%`", "leave the `%…` out; the entry is of one interface anyway"
        )
    elif address.is_unspecified or address.is_multicast or (address.is_loopback and "dns" not in where):
        yield Problem(where, "is no address of one host", "write the address that the network's owner gave")
