"""Checks of what can be reached from outside: the firewall and the open ports."""

import re
from collections.abc import Iterator
from itertools import chain

from hv.security.audit.check import Check, Severity
from hv.security.audit.view import View


def _firewall(view: View) -> Iterator[str]:
    rules = view.ask("nft", "list", "ruleset")
    if not re.search(r"hook input [^}]*?policy drop", rules):
        yield "no table's input chain drops what nobody asked for"


def _open_ports(view: View) -> Iterator[str]:
    ports = view.declared.ports
    every = (ports, *ports.interfaces.values())
    allowed = {
        "tcp": {*ports.ssh, *chain.from_iterable(each.tcp for each in every)},
        "udp": set(chain.from_iterable(each.udp for each in every)),
    }
    ranges = {
        "tcp": [each for some in every for each in some.tcpRanges],
        "udp": [each for some in every for each in some.udpRanges],
    }
    # DHCP and DHCPv6 clients; the neighbours' names, which the firewall keeps in.
    allowed["udp"] |= {68, 546}
    seen = set()
    for each in view.listeners:
        inside = any(span["from"] <= each.port <= span["to"] for span in ranges[each.protocol])
        if each.reachable and each.port not in allowed[each.protocol] and not inside:
            seen.add(f"{each.protocol} {each.port} at {each.address} is not among the declared ports")
    yield from sorted(seen)


CHECKS: tuple[Check, ...] = (
    Check(
        "firewall",
        "A firewall drops what nobody asked for",
        Severity.critical,
        "Every service that listens is reached by everybody.",
        "networking.firewall.enable = true",
        _firewall,
        cis=("4.3.8",),
    ),
    Check(
        "ports",
        "Only declared ports are open",
        Severity.high,
        "A service that nobody knows of waits for connections.",
        "stop it (ss -ltunp names it), or declare its port in networking.firewall",
        _open_ports,
        cis=("2.1.22",),
    ),
)
