"""How the host is reached: by which port, with which address; and whether the live system's own network works."""

from collections.abc import Generator
from ipaddress import ip_address, ip_interface
from typing import Any

from installer.facts.common import Unknown
from installer.facts.nics import Nic
from installer.guided.questions import Dialogue, Failed, Item, Line, Notice, One, Option, Work
from installer.guided.situation import Situation
from installer.guided.words import _

BRIDGE = "br0"


def title() -> str:
    """For the head of the page."""
    return _("Network")


def dialogue(situation: Situation) -> Dialogue:
    """Which port, how addressed, whether guests are plugged into the same network."""
    wired = [nic for nic in situation.facts.nics if not nic.wireless]
    tested = yield Work(title=_("trying the network"), task="try_network")
    if not wired:
        yield Notice(
            title=_("No wired network"),
            prompt=_("Noted?"),
            lines=(
                _("This machine shows no wired network port, so the host would have no network."),
                _("Way on: go on all the same and set it up later at the console, or add a port first."),
            ),
        )
        return {("network",): None}
    kind = yield One(
        title=_("Network"),
        prompt=_("How does the host get its addresses?"),
        lines=(
            "\n".join(f" {_port(nic)}" for nic in wired),
            tested,
            _(
                "Recommended: DHCP; fixed where others rely on the address. Guests reach the network either way; a "
                "bridge lets them be reached from it as well, and be attacked."
            ),
        ),
        more=(
            _(
                "With DHCP the router of your network gives the host an address. A server that others rely on "
                "often has one that is fixed."
            ),
        ),
        options=(
            Option("dhcp", _("by DHCP, on every wired port")),
            Option("static", _("fixed, on one port")),
            Option("bridge", _("by DHCP, on a bridge that guests can be plugged into")),
            Option("static-bridge", _("fixed, on a bridge that guests can be plugged into")),
        ),
        default="dhcp",
        field=("network",),
    )
    if kind == "dhcp":
        return {("network",): None}
    answering = [nic.name for nic in wired if nic.link is True]
    name = yield One(
        title=_("Port"),
        prompt=_("Which port?"),
        lines=(
            _("It is known by its address (MAC) from now on, and called lan0 on the host."),
            _("Recommended: {port}, whose cable answers.").format(port=answering[0])
            if answering
            else _("Recommended: the one whose cable leads to your network; none answers now."),
        ),
        options=tuple(Option(nic.name, _port(nic)) for nic in wired),
        default=answering[0] if answering else wired[0].name,
        field=("network", "ethernets"),
    )
    nic = next(each for each in wired if each.name == name)
    addressing: dict[str, Any] = {"dhcp": "yes"}
    if kind.startswith("static"):
        addressing = yield from _fixed(nic)
    ethernet: dict[str, Any] = {"name": "lan0", "match": {"mac": nic.mac}}
    if kind.endswith("bridge"):
        return {
            ("network",): {
                "ethernets": [ethernet],
                "bridges": [{"name": BRIDGE, "members": ["lan0"], "addressing": addressing}],
            }
        }
    return {("network",): {"ethernets": [{**ethernet, "addressing": addressing}]}}


def _fixed(nic: Nic) -> Generator[Item, Any, dict[str, Any]]:
    """An address that is typed, and tried on the wire: again, if that speaks against it and the person agrees."""
    while True:
        found = yield from _typed(nic)
        address = str(ip_interface(found["addresses"][0]).ip)
        tried = yield Work(
            title=_("trying the address on {port}").format(port=nic.name),
            task="try_address",
            arguments=(nic.name, address, next(iter(found.get("gateways", ())), "")),
        )
        if not isinstance(tried, Failed):
            return found
        keep = yield One(
            title=_("Fixed address"),
            prompt=_("Keep this address?"),
            lines=(
                tried.reason,
                _(
                    "Recommended: no, unless you know why, and that it will be otherwise when the host starts."
                ),
            ),
            options=(Option(False, _("No, type it again")), Option(True, _("Yes, keep it"))),
            default=False,
            field=("network", "ethernets", 0, "addressing", "addresses"),
        )
        if keep:
            return found


def _typed(nic: Nic) -> Generator[Item, Any, dict[str, Any]]:
    now = nic.addresses[0] if nic.addresses else ""
    address = yield Line(
        title=_("Fixed address"),
        prompt=_("Address with prefix length:"),
        lines=(
            _("For example {example}.").format(example="192.0.2.10/24"),
            _("Now the port has {addresses}.").format(addresses=", ".join(nic.addresses)) if now else "",
        ),
        default=now,
        check=_address_problem,
        field=("network", "ethernets", 0, "addressing", "addresses"),
    )
    inside = ip_interface(address)

    def check(text: str) -> str | None:
        if not text:
            return None
        try:
            gateway = ip_address(text)
        except ValueError:
            return _("This is no address. For example {example}.").format(example="192.0.2.1")
        if gateway.version != inside.version or gateway not in inside.network:
            return _("It is not in the network {network}, so it could not be reached.").format(
                network=inside.network
            )
        return None

    gateway = yield Line(
        title=_("Fixed address"),
        prompt=_("Gateway:"),
        lines=(_("The router that leads out of the network; empty for none."),),
        default=str(next(inside.network.hosts(), "")) if not now else "",
        check=check,
        field=("network", "ethernets", 0, "addressing", "gateways"),
    )
    servers = yield Line(
        title=_("Fixed address"),
        prompt=_("Name servers:"),
        lines=(_("One or more addresses, with blanks between them; empty for none."),),
        default=gateway,
        check=_servers_problem,
        field=("network", "ethernets", 0, "addressing", "dns"),
    )
    found: dict[str, Any] = {"dhcp": "no", "addresses": [address]}
    if gateway:
        found["gateways"] = [gateway]
    if servers:
        found["dns"] = servers.split()
    return found


def _address_problem(text: str) -> str | None:
    try:
        if "/" in text:
            found = ip_interface(text)
            if found.ip not in (found.network.network_address, found.network.broadcast_address):
                return None
            if found.network.num_addresses <= 2:
                return None
            return _(
                "This is the name of the whole network, or its broadcast address: write the host's own."
            )
    except ValueError:
        pass
    return _("Write an address with its prefix length, for example {example}.").format(
        example="192.0.2.10/24"
    )


def _servers_problem(text: str) -> str | None:
    for word in text.split():
        try:
            ip_address(word)
        except ValueError:
            return _("{word} is no address.").format(word=word)
    return None


def _port(nic: Nic) -> str:
    speed = "" if isinstance(nic.speed, Unknown) or not nic.speed else f", {nic.speed} Mbit/s"
    cable = _("cable unknown")
    if not isinstance(nic.link, Unknown):
        cable = _("cable answers") if nic.link else _("no cable")
    addresses = f", {nic.addresses[0]}" if nic.addresses else ""
    return f"{nic.name}  {nic.mac}  {cable}{speed}{addresses}"
