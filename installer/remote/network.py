"""The network of a machine that is taken over, as connections of NetworkManager for the live system in its place. Pure.

What was fixed stays so: addresses, routes, name servers, VLANs, bonds; ports are known by their MAC, since they may have
other names then. What came from DHCP or router advertisements is asked for again. A bridge's addresses go to the port below
it. Sources: ip-address(8), ip-route(8), resolv.conf(5), nm-settings-keyfile(5).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import (
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from types import MappingProxyType
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from installer.errors import Exit, HyperError

Json = Mapping[str, Any]
Family = Literal["inet", "inet6"]
SECTION: Mapping[Family, str] = MappingProxyType({"inet": "ipv4", "inet6": "ipv6"})
BY_HAND = ("boot", "static")
"""Protocols of routes that somebody set; the others come by themselves, or from programs that end."""
BOND_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "miimon": "miimon",
        "ad_lacp_rate": "lacp_rate",
        "xmit_hash_policy": "xmit_hash_policy",
    }
)
"""Of a bond, as ip(8) and as NetworkManager calls them."""


@dataclass(frozen=True)
class NetworkThere:
    """What the machine says of its network."""

    links: Sequence[Json]
    """`ip -json -details address`."""
    routes: Mapping[Family, Sequence[Json]]
    """`ip -json route`, of the main table."""
    resolver: str
    """resolv.conf, the one with real name servers."""
    reached: str
    """The machine's address of this connection; empty: unknown."""

    def link(self, name: object) -> Json | None:
        """By name."""
        return next((link for link in self.links if link.get("ifname") == name), None)


@dataclass(frozen=True)
class Carried:
    """What the live system is given."""

    files: Mapping[str, bytes]
    """NAME.nmconnection; none where it would do the same by itself."""
    lines: tuple[str, ...]
    """For a person: each port with what it will have."""
    answers: str
    """The fixed address by which the machine is reached, as lines of an answer file; empty where there is none."""


@dataclass(frozen=True)
class _Stack:
    """What addresses of an interface need below them."""

    ports: tuple[Json, ...]
    """Wired ports: one, or those of a bond."""
    bond: Json | None = None
    vlans: tuple[int, ...] = ()
    """From the wire upwards."""


@dataclass(frozen=True)
class _Part:
    """One family's part of a connection."""

    family: Family
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    """Fixed."""
    asked: bool
    """Whether more come from DHCP or router advertisements."""
    routes: tuple[str, ...] = ()
    """Values of the keyfile; those that end with `!` are on the link."""
    gateway: str = ""
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """The keyfile's section."""
        yield f"\n[{SECTION[self.family]}]"
        nothing = "disabled" if self.family == "inet" else "auto"
        yield f"method={'auto' if self.asked else 'manual' if self.addresses else nothing}"
        for number, address in enumerate(self.addresses, 1):
            yield f"address{number}={address.with_prefixlen}"
        for number, route in enumerate(self.routes, 1):
            yield f"route{number}={route.removesuffix('!')}"
            if route.endswith("!"):
                yield f"route{number}_options=onlink=true"
        if self.servers:
            yield f"dns={';'.join(self.servers)};"
        if self.search and self.addresses and not self.asked:
            yield f"dns-search={';'.join(self.search)};"
        if self.family == "inet6":
            # The same address again from the same router: privacy has no part in it.
            yield "addr-gen-mode=eui64"


def parse(told: Sequence[str]) -> NetworkThere | None:
    """The machine's words: addresses, routes of both families, resolv.conf, $SSH_CONNECTION (ssh(1)), names of radios. None
    where its ip(8) knows no JSON.
    """
    address, routes, routes6, resolver, connection, radios = told
    try:
        links = [each for each in json.loads(address) if each.get("ifname") not in radios.split()]
        main: dict[Family, Sequence[Json]] = {
            "inet": json.loads(routes or "[]"),
            "inet6": json.loads(routes6 or "[]"),
        }
    except ValueError:
        return None
    words = connection.split()
    return NetworkThere(links, main, resolver, words[2].partition("%")[0] if len(words) == 4 else "")


def carry(there: NetworkThere) -> Carried:
    """What the live system needs, to be reached as the machine is now.

    Raises:
        HyperError: it is reached by an address that nothing wired has (Exit.unsuitable).
    """
    found = [
        (link, stack, parts)
        for link in there.links
        if (parts := _parts(there, link)) and (stack := _stack(there, link)) is not None
    ]
    needed = [each for each in found if not _by_itself(*each)]
    ports = {port["ifname"] for _, stack, _ in needed for port in stack.ports}
    files: dict[str, str] = {}
    for link, stack, parts in found:
        # A plain port asks by itself, unless it is told to carry something else as well.
        if ports & {port["ifname"] for port in stack.ports}:
            _connections(files, link, stack, parts)
    here = [each for each in found if there.reached in {each["local"] for each in _addresses(each[0])}]
    local = (
        not there.reached or ip_address(there.reached).is_loopback or ip_address(there.reached).is_link_local
    )
    if not here and not local:
        raise HyperError(
            "the machine could not be reached any more afterwards",
            why=f"this connection goes to its address {there.reached}, which no wired port, VLAN or bond of it has: "
            "a tunnel, a radio, or an address of a service",
            remedy="name an address of one of its wired ports in the target; or start it from our medium",
            code=Exit.unsuitable,
        )
    return Carried(
        files={f"{name}.nmconnection": text.encode() for name, text in files.items()},
        lines=tuple(f"{_called(link, stack)}: {_described(parts)}" for link, stack, parts in found),
        answers="".join(_answers(stack, parts, there.reached) for _, stack, parts in here[:1]),
    )


def _addresses(link: Json) -> list[Json]:
    return [
        each
        for each in link.get("addr_info", ())
        if each.get("scope") == "global" and not each.get("temporary") and "local" in each
    ]


def _parts(there: NetworkThere, link: Json) -> tuple[_Part, ...]:
    """Both families of an interface; none where it has no address that others reach."""
    if not _addresses(link):
        return ()
    servers, search = _resolver(there.resolver)
    found = tuple(_part(there, link, family) for family in SECTION)
    # Name servers belong to the interface that leads out; DHCP tells its own.
    fixed = any(part.addresses and not part.asked for part in found)
    out = any(part.gateway for part in found) or not _leads_out(there)
    if not (fixed and out):
        return found
    return tuple(
        replace(
            part,
            servers=tuple(
                each
                for each in servers
                if (ip_address(each).version == 4) == (part.family == "inet")
                and (part.family == "inet6" or part.addresses or part.asked)
            ),
            search=search,
        )
        for part in found
    )


def _part(there: NetworkThere, link: Json, family: Family) -> _Part:
    told = [each for each in _addresses(link) if each.get("family") == family]
    routes = [through for route in there.routes[family] if (through := _through(link, route))]
    asked = any(each.get("dynamic") for each in told) or any(
        route.get("protocol") in ("dhcp", "ra") for route in routes
    )
    fixed = [
        ip_interface(f"{each['local']}/{each['prefixlen']}")
        for each in told
        if not each.get("dynamic") or (family == "inet6" and each["local"] == there.reached)
    ]
    if asked and family == "inet":
        return _Part(family, tuple(fixed), asked=True)
    peers = [f"{each['address']}/{each['prefixlen']}" for each in told if "address" in each]
    by_hand = [route for route in routes if route.get("protocol", "boot") in BY_HAND]
    values = peers
    gateway = ""
    for route in by_hand:
        value = _route(route, family, fixed)
        if value is None:
            continue
        values.append(value)
        if route.get("dst") == "default":
            gateway = gateway or str(route.get("gateway", ""))
    return _Part(family, tuple(fixed), asked=asked, routes=tuple(dict.fromkeys(values)), gateway=gateway)


def _through(link: Json, route: Json) -> Json | None:
    """What of a route goes through an interface: all of it, one of its several ways, or nothing."""
    if route.get("type", "unicast") != "unicast":
        return None
    ways = ({**route, **hop} for hop in (route, *route.get("nexthops", ())))
    return next((way for way in ways if way.get("dev") == link["ifname"]), None)


def _route(route: Json, family: Family, fixed: Sequence[IPv4Interface | IPv6Interface]) -> str | None:
    """As the keyfile has it: destination, gateway, metric."""
    size = 32 if family == "inet" else 128
    target = str(route.get("dst", ""))
    if target == "default":
        target = "0.0.0.0/0" if family == "inet" else "::/0"
    target = target if "/" in target else f"{target}/{size}"
    gateway = route.get("gateway")
    if gateway is None:
        # An IPv4 route by way of an IPv6 router has no place in a keyfile.
        return None if "via" in route or target.endswith("/0") else target
    metric = route.get("metric", 0 if family == "inet" else None)
    there = ip_address(gateway)
    off = not there.is_link_local and not any(there in each.network for each in fixed)
    mark = "!" if off or "onlink" in route.get("flags", ()) else ""
    return f"{target},{gateway}" + (f",{metric}" if metric is not None else "") + mark


def _leads_out(there: NetworkThere) -> bool:
    return any(route.get("dst") == "default" for routes in there.routes.values() for route in routes)


def _resolver(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    servers, search = [], []
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest:
            try:
                # One with a scope is an interface's own, which may have another name then.
                if not ip_address(rest[0]).is_loopback and "%" not in rest[0]:
                    servers.append(rest[0])
            except ValueError:
                continue
        elif word == "search":
            search = [each for each in rest if each != "."]
    return tuple(servers), tuple(search)


def _kind(link: Json) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _stack(there: NetworkThere, link: Json, depth: int = 4) -> _Stack | None:
    """What is below an interface, down to the wire; none where it has none."""
    if not depth or link.get("link_type") != "ether":
        return None
    below = [each for each in there.links if each.get("master") == link["ifname"]]
    data = link.get("linkinfo", {}).get("info_data", {})
    match _kind(link):
        case "" | "veth":
            return _Stack((link,))
        case "bond":
            ports = tuple(each for each in below if not _kind(each))
            return _Stack(ports, link) if ports else None
        case "vlan":
            parent = there.link(link.get("link"))
            under = (
                _stack(there, parent, depth - 1)
                if parent and data.get("protocol", "802.1Q") == "802.1Q"
                else None
            )
            return replace(under, vlans=(*under.vlans, int(data["id"]))) if under else None
        case "bridge":
            # Guests' and containers' ends of it are no way out; a cable that answers comes first.
            for each in sorted(below, key=lambda each: each.get("operstate") != "UP"):
                if _kind(each) != "veth" and (under := _stack(there, each, depth - 1)):
                    return under
    return None


def _permanent(port: Json) -> str:
    return str(port.get("permaddr", port["address"]))


def _by_itself(link: Json, stack: _Stack, parts: Sequence[_Part]) -> bool:
    """Whether the live system would do just this untold: DHCP on a plain port with its own address."""
    plain = stack.bond is None and not stack.vlans and link["address"] == _permanent(stack.ports[0])
    return plain and all(not part.addresses and (part.asked or not part.routes) for part in parts)


def _connections(files: dict[str, str], link: Json, stack: _Stack, parts: Sequence[_Part]) -> None:
    """Keyfiles for an interface and what is below it. Those of lower ones are made once, or given addresses later."""
    own = "".join(line + "\n" for part in parts for line in part.lines())
    none = "\n[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=disabled\n"

    def put(name: str, head: str, last: bool) -> str:
        text = files.get(name)
        if text is None or last:
            files[name] = f"{head}{own if last else none}"
        return name

    if stack.bond is not None:
        name = f"carried-bond-{_bare(stack.bond['address'])}"
        data = stack.bond.get("linkinfo", {}).get("info_data", {})
        options = {"mode": data.get("mode", "active-backup")}
        options |= {ours: str(data[theirs]) for theirs, ours in BOND_OPTIONS.items() if data.get(theirs)}
        body = f"interface-name={stack.bond['ifname']}\n\n[bond]\n"
        body += "".join(f"{option}={value}\n" for option, value in options.items())
        body += f"\n[ethernet]\ncloned-mac-address={stack.bond['address']}\n"
        put(name, _head(name, "bond", body), last=not stack.vlans)
        for port in stack.ports:
            member = f"carried-port-{_bare(_permanent(port))}"
            body = f"master={_uuid(name)}\nslave-type=bond\n\n[ethernet]\nmac-address={_permanent(port)}\n"
            files[member] = _head(member, "ethernet", body)
    else:
        port = stack.ports[0]
        name = f"carried-port-{_bare(_permanent(port))}"
        shown = link["address"] if not stack.vlans else port["address"]
        other = f"cloned-mac-address={shown}\n" if shown != _permanent(port) else ""
        body = f"\n[ethernet]\nmac-address={_permanent(port)}\n{other}"
        put(name, _head(name, "ethernet", body), last=not stack.vlans)
    for number, vlan in enumerate(stack.vlans, 1):
        parent, name = name, f"{name}.{vlan}"
        body = f"interface-name=vlan{'.'.join(map(str, stack.vlans[:number]))}\n"
        body += f"\n[vlan]\nid={vlan}\nparent={_uuid(parent)}\n"
        put(name, _head(name, "vlan", body), last=number == len(stack.vlans))


def _head(name: str, kind: str, body: str) -> str:
    settings = f"id={name}\nuuid={_uuid(name)}\ntype={kind}\nautoconnect-priority=100\n"
    return f"[connection]\n{settings}{body}"


def _bare(mac: object) -> str:
    return str(mac).replace(":", "")


def _uuid(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"hyper-nixos:{name}"))


def _called(link: Json, stack: _Stack) -> str:
    macs = ", ".join(_permanent(port) for port in stack.ports)
    return f"{link['ifname']} ({macs}{''.join(f', VLAN {each}' for each in stack.vlans)})"


def _described(parts: Sequence[_Part]) -> str:
    fixed = [address.with_prefixlen for part in parts for address in part.addresses]
    ways = [part.gateway for part in parts if part.gateway]
    words = [", ".join(fixed)] if fixed else []
    words += [f"by way of {', '.join(ways)}"] if ways else []
    if any(part.asked for part in parts):
        words.append("asked for again, by DHCP or from the router" if not fixed else "more asked for again")
    return "; ".join(words)


def _answers(stack: _Stack, parts: Sequence[_Part], reached: str) -> str:
    """For a plain port alone: what else stands in the answer file's reference."""
    fixed = [address for part in parts if not part.asked for address in part.addresses]
    if stack.bond is not None or stack.vlans or not any(str(address.ip) == reached for address in fixed):
        return ""

    def listed(values: Sequence[object]) -> str:
        return f"[{', '.join(json.dumps(str(value)) for value in values)}]"

    gateways = [part.gateway for part in parts if part.gateway]
    servers = [server for part in parts for server in part.servers]
    addressing = f'dhcp = "no", addresses = {listed([each.with_prefixlen for each in fixed])}'
    addressing += f", gateways = {listed(gateways)}" if gateways else ""
    addressing += f", dns = {listed(servers)}" if servers else ""
    return (
        "[[network.ethernets]]\n"
        f'name = "lan0"\nmatch = {{ mac = "{_permanent(stack.ports[0])}" }}\n'
        f"addressing = {{ {addressing} }}"
    )
