"""Job network: libvirt's network `default`, NAT with DHCP, active and started with the host.

libvirt ships it with 192.168.122.0/24. Where that is taken, which it is in every host that is itself a guest of such a
network, the next free private /24 is used and said.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any
from xml.etree import ElementTree as ET

from hv.firstrun.world import World
from hv.libvirt_python import libvirt_module
from installer.errors import HyperError
from installer.handoff import Handoff

NETWORK = "default"
USUAL = IPv4Network("192.168.122.0/24")
"""libvirt's own choice (src/network/default.xml.in)."""


@dataclass(frozen=True)
class NetworkJob:
    """Makes it."""

    name: str = "network"
    requires: tuple[str, ...] = ("libvirt",)
    timeout: float = 120

    def applies(self, handoff: Handoff) -> str | None:  # noqa: ARG002
        """Always."""
        return None

    def run(self, world: World) -> None:
        """Definition, autostart, start. An active network is never touched: guests may be on it."""
        with world.libvirt() as connection:
            network = find_network(connection, NETWORK)
            if network is None or not network.isActive():
                network = _settle(world, connection, network)
                network.create()
            if not network.autostart():
                network.setAutostart(1)

    def verify(self, world: World) -> None:
        """Active, persistent, autostarted, with an address and its bridge."""
        with world.libvirt() as connection:
            network = find_network(connection, NETWORK)
            if network is None or not (
                network.isActive() and network.isPersistent() and network.autostart()
            ):
                raise HyperError(
                    f"The network {NETWORK} is not active and started with the host.",
                    why="libvirt reads it back otherwise, right after it was made",
                    remedy=f"See `virsh net-info {NETWORK}`, then `hv firstrun retry network`.",
                )
            world.say(
                f"checked: network {NETWORK} on {network.bridgeName()}, {subnet(network) or 'no subnet'}"
            )


def find_network(connection: Any, name: str) -> Any | None:
    """A network by name, if there is one."""
    libvirt = libvirt_module()
    try:
        return connection.networkLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:
            return None
        raise


def subnet(network: Any) -> IPv4Network | None:
    """IPv4 subnet of a libvirt network (https://libvirt.org/formatnetwork.html#addressing)."""
    for ip in ET.fromstring(network.XMLDesc(0)).findall("ip"):  # noqa: S314 - libvirt's own words
        if ip.get("family", "ipv4") == "ipv4" and (address := ip.get("address")):
            return IPv4Network(f"{address}/{ip.get('prefix') or ip.get('netmask')}", strict=False)
    return None


def routed_subnets(table: str) -> Iterator[IPv4Network]:
    """Subnets in /proc/net/route but the default one; addresses are hexadecimal, last octet first (proc(5))."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(fields[at])[::-1], "big") for at in (1, 7))
        if mask:
            yield IPv4Network((destination, mask.bit_count()))


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network:
    """The usual /24, else the next free one above it, below it, then in 172.16/12 and 10/8 (RFC 1918)."""
    above_first = sorted(
        ip_network("192.168.0.0/16").subnets(new_prefix=24), key=lambda net: (net < USUAL, net)
    )
    busy = tuple(taken)
    for block in (
        above_first,
        *(ip_network(text).subnets(new_prefix=24) for text in ("172.16.0.0/12", "10.0.0.0/8")),
    ):
        for candidate in block:
            if isinstance(candidate, IPv4Network) and not any(candidate.overlaps(other) for other in busy):
                return candidate
    raise HyperError(
        f"There is no room for the network {NETWORK}.",
        why="every private /24 overlaps a route of this host or another libvirt network",
        remedy="Narrow the host's routes, or define the network by hand and `hv firstrun skip network --reason …`.",
    )


def _settle(world: World, connection: Any, network: Any | None) -> Any:
    """The network, defined and inactive, on a subnet that nobody has."""
    taken = set(routed_subnets(world.path("/proc/net/route").read_text(encoding="ascii")))
    taken |= {
        used
        for other in connection.listAllNetworks(0)
        if other.name() != NETWORK and (used := subnet(other)) is not None
    }
    wanted = (network and subnet(network)) or USUAL
    rivals = sorted(str(other) for other in taken if other.overlaps(wanted))
    if network is not None and not rivals:
        return network
    chosen = free_subnet(taken) if rivals else wanted
    if rivals:
        world.warn(f"{wanted} is taken ({', '.join(rivals)}): network {NETWORK} uses {chosen} instead")
    world.say(f"defining network {NETWORK}, NAT, {chosen}")
    description = _moved(network, chosen) if network is not None else _new(chosen)
    return connection.networkDefineXML(ET.tostring(description, encoding="unicode"))


def _new(chosen: IPv4Network) -> ET.Element:
    root = ET.Element("network")
    ET.SubElement(root, "name").text = NETWORK
    ET.SubElement(root, "forward", mode="nat")
    ET.SubElement(root, "bridge", name="virbr0", stp="on", delay="0")
    _put_ip(root, chosen)
    return root


def _moved(network: Any, chosen: IPv4Network) -> ET.Element:
    """The definition as it is, UUID, bridge and MAC included, on another subnet."""
    libvirt = libvirt_module()
    root = ET.fromstring(network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE))  # noqa: S314 - libvirt's own words
    for ip in root.findall("ip"):
        if ip.get("family", "ipv4") == "ipv4":
            root.remove(ip)
    _put_ip(root, chosen)
    return root


def _put_ip(root: ET.Element, chosen: IPv4Network) -> None:
    """The host is .1, guests get .2 to .254."""
    ip = ET.SubElement(root, "ip", address=str(chosen[1]), netmask=str(chosen.netmask))
    ET.SubElement(ET.SubElement(ip, "dhcp"), "range", start=str(chosen[2]), end=str(chosen[-2]))
