"""Sizes with units, in and out."""

import re
from fractions import Fraction

_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]+)?)\s*(B|([KMGTP])(i?)(B?))$")
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5}

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


def parse_size(text: str) -> int:
    """Bytes of `2GiB`, `2GB` (decimal), `2G` (binary, as the field's tools mean it); ValueError on anything else."""
    match = _SIZE.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a size; write a number and a unit, e.g. 2GiB")
    number, unit, prefix, binary, byte = match.groups()
    decimal = unit != "B" and byte == "B" and not binary
    factor = 1 if unit == "B" else (1000 if decimal else 1024) ** _POWERS[prefix]
    return int(Fraction(number) * factor)


def format_size(size: int) -> str:
    """Bytes for a person, in binary units with at most one decimal: `1.8 TiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} PiB"
