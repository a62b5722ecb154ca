"""Interfaces, addresses, proxies."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from installer.answers.text_kinds import DomainName, InterfaceName, IpAddress, IpInterface, Mac, NetworkText
from installer.frozen import Frozen


class LinkMatch(Frozen):
    """Which network interface."""

    mac: Mac | None = None
    """Permanent address."""
    name: str | None = Field(default=None, examples=["enp1s0"])
    """Interface name; shell wildcards allowed. Prefer the MAC."""


class Vlan(Frozen):
    """A VLAN on top of an interface, bond, or bridge."""

    name: InterfaceName
    """Name of the interface to make."""
    id: int = Field(ge=1, le=4094)
    """VLAN id (IEEE 802.1Q)."""
    link: InterfaceName
    """What it runs over: a `name` of another entry."""


class Route(Frozen):
    """A static route."""

    to: NetworkText
    """Destination network."""
    via: IpAddress
    """Gateway."""


class Addressing(Frozen):
    """How an interface gets its addresses."""

    dhcp: Literal["yes", "no", "ipv4", "ipv6"] = "yes"
    """DHCP for both families, none, or one."""
    accept_ra: bool = True
    """Take IPv6 router advertisements."""
    addresses: tuple[IpInterface, ...] = ()
    """Static addresses with prefix length, IPv4 and IPv6."""
    gateways: tuple[IpAddress, ...] = ()
    """Default gateways, at most one a family."""
    dns: tuple[IpAddress, ...] = ()
    """Name servers for this interface."""
    domains: tuple[DomainName, ...] = ()
    """Search domains."""
    routes: tuple[Route, ...] = ()
    """Static routes."""
    mtu: int | None = Field(default=None, ge=576, le=9216, examples=[1500])
    """MTU in bytes."""


class Ethernet(Frozen):
    """A physical interface."""

    name: InterfaceName
    """What the rest of this file calls it; the host's interface is renamed so when matched by MAC."""
    match: LinkMatch
    """Which one it is."""
    addressing: Addressing | None = None
    """Its addresses; leave out when it is part of a bond or bridge."""


class Bond(Frozen):
    """Several interfaces as one."""

    name: InterfaceName
    """Name of the interface to make."""
    members: tuple[InterfaceName, ...] = Field(min_length=1, examples=[["lan0", "lan1"]])
    """Names of physical interfaces."""
    mode: Literal["802.3ad", "active-backup", "balance-alb", "balance-xor"] = "active-backup"
    """Bonding mode (kernel doc networking/bonding)."""
    addressing: Addressing | None = None
    """Its addresses."""


class Bridge(Frozen):
    """A switch that guests can be plugged into."""

    name: InterfaceName
    """Name of the interface to make."""
    members: tuple[InterfaceName, ...] = ()
    """Names of interfaces, bonds or VLANs."""
    stp: bool = False
    """Spanning tree."""
    addressing: Addressing | None = None
    """Its addresses."""


class VlanInterface(Vlan):
    """A VLAN with its addresses."""

    addressing: Addressing | None = None
    """Its addresses."""


class NetworkAnswers(Frozen):
    """The network. With nothing said, every wired interface asks by DHCP."""

    ethernets: tuple[Ethernet, ...] = ()
    """Physical interfaces."""
    bonds: tuple[Bond, ...] = ()
    """Bonds."""
    vlans: tuple[VlanInterface, ...] = ()
    """VLANs."""
    bridges: tuple[Bridge, ...] = ()
    """Bridges."""
    management: tuple[InterfaceName, ...] = Field(default=(), examples=[["br0"]])
    """Interfaces that administrators come in through: SSH is open there alone; without any, everywhere."""
    dns: tuple[IpAddress, ...] = ()
    """Name servers for the whole host."""
    ntp: tuple[str, ...] = Field(default=(), examples=[["ntp.example.org"]])
    """Time servers; NixOS's pool without it."""
    proxy: (
        Annotated[
            str,
            StringConstraints(pattern=r"^https?://\S+$"),
            Field(title="the URL of an HTTP proxy", examples=["http://proxy.example.org:3128"]),
        ]
        | None
    ) = None
    """HTTP proxy for the live system and the host; no password in it."""
    no_proxy: tuple[str, ...] = Field(default=(), examples=[["localhost", ".example.org"]])
    """Names and networks reached without the proxy."""
