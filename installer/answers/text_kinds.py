"""Kinds of text and numbers in the answer file: names, addresses, sizes, paths."""

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

HostName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
    Field(
        title="a host name: lower-case letters, digits and hyphens, at most 63, no domain", examples=["kvm1"]
    ),
]
"""RFC 1123 label in lower case: NixOS names the configuration after it."""
UserName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,30}$"),
    Field(
        title="a login name: lower-case letters, digits, `_` and `-`, at most 31, not starting with a digit",
        examples=["anna"],
    ),
]
"""As useradd(8) accepts it."""
GroupName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,30}$"),
    Field(title="a group name: lower-case letters, digits, `_` and `-`, at most 31", examples=["kvm"]),
]
"""As groupadd(8) accepts it."""
InterfaceName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$"),
    Field(title="an interface name: letters, digits, `_`, `.` and `-`, at most 15", examples=["lan0"]),
]
"""At most 15 characters (IFNAMSIZ)."""
Mac = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"),
    Field(
        title="a MAC address: six pairs of hexadecimal digits with colons", examples=["52:54:00:12:34:56"]
    ),
]
"""Six octets with colons, upper or lower case."""
PciAddressAnswer = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$"),
    Field(title="a PCI address in lower case", examples=["01:00.0"]),
]
"""PCI address, with or without domain."""
PciIds = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$"),
    Field(title="vendor and device id in lower case", examples=["10de:2684"]),
]
"""As `lspci -n` prints them."""
SizeText = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?\s*(B|[KMGTP]i?B?)$"),
    Field(title="a size with its unit", examples=["512GiB"]),
]
"""A size with its unit: `2GiB` is 2·2³⁰ bytes, `2GB` is 2·10⁹; `2G` means `2GiB`."""
AbsolutePath = Annotated[
    str,
    StringConstraints(pattern=r"^/\S*$"),
    Field(title="an absolute path without blanks", examples=["/run/secrets/name"]),
]
"""A path from the root, in text that goes into configuration files."""
DomainName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$"
    ),
    Field(title="a domain name: letters, digits, `-` and `.`", examples=["example.org"]),
]
"""A DNS name."""


def _address(value: object) -> IPv4Address | IPv6Address:
    try:
        return ip_address(_text(value))
    except ValueError:
        raise PydanticCustomError("not_title", "not an IP address") from None


def _interface(value: object) -> IPv4Interface | IPv6Interface:
    """An address that says its prefix: without one, Python would take it for a network of one."""
    try:
        text = _text(value)
        if isinstance(value, str) and "/" not in text:
            raise ValueError
        return ip_interface(text)
    except ValueError:
        raise PydanticCustomError("not_title", "not an address with prefix length") from None


def _network(value: object) -> str:
    try:
        text = _text(value)
        if "/" not in text:
            raise ValueError
        return str(ip_network(text))
    except ValueError:
        raise PydanticCustomError("not_title", "not a network") from None


def _text(value: object) -> str:
    """Text, or an address already made; numbers, which Python takes for addresses too, are wrong types."""
    if isinstance(value, str | IPv4Address | IPv6Address):  # interfaces are addresses as well
        return str(value)
    raise PydanticCustomError("string_type", "not text")


_WITH_PREFIX = r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$"
"""For editors; the validators look closer."""

IpAddress = Annotated[
    IPv4Address | IPv6Address,
    PlainValidator(_address),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
            "title": "an IPv4 or IPv6 address",
            "examples": ["192.0.2.1"],
        }
    ),
]
IpInterface = Annotated[
    IPv4Interface | IPv6Interface,
    PlainValidator(_interface),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": _WITH_PREFIX,
            "title": "an address with its prefix length",
            "examples": ["192.0.2.10/24"],
        }
    ),
]
NetworkText = Annotated[
    str,
    BeforeValidator(_network),
    Field(
        title="a network with its prefix length and no host bits",
        examples=["10.0.0.0/8"],
        json_schema_extra={"pattern": _WITH_PREFIX},
    ),
]


def none_word(value: object) -> object:
    """TOML has no null."""
    return None if value == "none" else value


def true_or_false(value: object) -> bool:
    """To Python, 1 is true and true is 1, even in a Literal."""
    if isinstance(value, bool):
        return value
    raise PydanticCustomError("bool_type", "not true or false")


def no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "not a number")
    return value
