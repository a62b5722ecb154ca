"""Where the installed host can be reached, as far as its answers and this machine tell before it has started."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_interface

from installer.answers.model import Addressing, Answers, Bond, Bridge, Ethernet, VlanInterface
from installer.facts.nics import Nic

SSH_PORT = 22
"""Which clients try by themselves."""


def addresses(answers: Answers, nics: Sequence[Nic]) -> Iterator[str]:
    """A line for each interface that SSH is open on, for the last screen."""
    net = answers.network
    links: tuple[Ethernet | Bond | VlanInterface | Bridge, ...]
    links = (*net.ethernets, *net.bonds, *net.vlans, *net.bridges)
    if not links:
        # Then every wired interface asks by DHCP (installer/render/network.py).
        yield _by_dhcp("", [nic for nic in nics if not nic.wireless])
    for link in links:
        if link.addressing is None or (net.management and link.name not in net.management):
            continue
        # A bond, bridge or VLAN asks with another hardware address than its members have now.
        now = [nic for nic in nics if _is(link, nic)] if isinstance(link, Ethernet) else []
        if said := _of(link.name, link.addressing, now):
            yield said
    if answers.ssh.port != SSH_PORT:
        yield f"SSH: port {answers.ssh.port}"


def _of(name: str, addressing: Addressing, now: Sequence[Nic]) -> str | None:
    fixed = ", ".join(str(address.ip) for address in addressing.addresses)
    asks = addressing.dhcp != "no"
    if fixed and asks:
        return f"address of {name}: {fixed}, and one by DHCP"
    if fixed:
        return f"address of {name}: {fixed}"
    if asks:
        return _by_dhcp(name, now)
    if addressing.accept_ra:
        return f"address of {name}: by router advertisements; the host's console shows it"
    return None


def _by_dhcp(name: str, now: Sequence[Nic]) -> str:
    """A server need not give the host what it gave the live system, which asks under another identity."""
    here = ", ".join(address for nic in now for address in _routable(nic))
    where = f"address of {name}" if name else "address"
    if here:
        return f"{where}: by DHCP, now {here} and perhaps another for the host; the host's console shows it"
    return f"{where}: by DHCP; the host's console shows it"


def _routable(nic: Nic) -> Iterator[str]:
    for each in nic.addresses:
        address = ip_interface(each).ip
        if not (address.is_link_local or address.is_loopback):
            yield str(address)


def _is(link: Ethernet, nic: Nic) -> bool:
    if link.match.mac:
        return link.match.mac.lower() == nic.mac
    names = (nic.name, nic.permanent_name or nic.name)
    return bool(link.match.name) and any(fnmatchcase(name, link.match.name or "") for name in names)
