"""The page that the live system shows until somebody installs: what machine this is, and how to go on from here.

Pure: what it says goes in, lines come out. It fits the 80 columns and 24 lines of a serial line and of every screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from textwrap import wrap

from installer.answers.sizes import format_size
from installer.embed import ANSWERS
from installer.facts import Facts
from installer.facts.common import Unknown
from iso.login import ACCOUNT, FOLDER

COLUMNS = 80
LINES = 24
MARGIN = 2
"""Light modules around the code; ISO/IEC 18004 asks for four, and scanners manage with two."""
GAP = 2
"""Columns between text and code."""
BESIDE = 41
"""Columns of text beside the largest code: two blanks and an IPv6 address."""
BLOCKS = {(True, True): " ", (True, False): "▄", (False, True): "▀", (False, False): "█"}
"""Two modules above each other, dark or not, as one character in light on dark."""
BRIGHT = "\x1b[0;97;40m"
"""White on black, whatever the terminal's own colours are: scanners want the dark modules dark."""
BOLD = "\x1b[1m"
PLAIN = "\x1b[0m"
ADDRESSES = 4
"""Addresses shown; `ip address` has them all."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """One address of this machine that others can reach."""

    interface: str
    """Its interface."""
    address: str
    """Without prefix length."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that the page is made of."""

    version: str
    """Ours."""
    release: str | None
    """NixOS's; none when there is no medium description."""
    facts: Facts | None
    """The machine; none when it could not be read."""
    addresses: tuple[Address, ...]
    """Where it can be reached."""
    password: str | None
    """Made at boot; none when the medium has keys."""
    keys: tuple[str, ...]
    """Fingerprint and comment of each key that may log in."""
    host_keys: tuple[tuple[str, str], ...]
    """Kind and fingerprint."""
    answers: bool
    """Whether the medium holds an answer file."""
    problem: str | None
    """Why what was embedded into the medium is not taken."""
    locked: bool = False
    """Whether secrets of the medium wait for their passphrase or identity."""


def page(situation: Situation, *, styled: bool, way_out: str = "") -> list[str]:
    """The lines, at most 24 of at most 80 columns.

    Args:
        situation: What to tell.
        styled: Whether the terminal takes colours and block characters; the code is left out otherwise.
        way_out: How to get a shell from here.
    """
    upper = _upper(situation)
    lower = [*_lower(situation), way_out]
    code = qr(_invitation(situation)) if styled else []
    width = len(code[0]) if code else 0
    column = COLUMNS - width - GAP if code else COLUMNS
    rows = max(len(upper), len(code))
    if code and (any(len(line) > column for _, line in upper) or rows + len(lower) > LINES):
        return page_without_code(upper, lower, styled=styled)
    lines = []
    for number in range(rows):
        bold, text = upper[number] if number < len(upper) else (False, "")
        left = _style(text, bold=bold and styled)
        if number < len(code):
            left += " " * (column + GAP - len(text)) + f"{BRIGHT}{code[number]}{PLAIN}"
        lines.append(left)
    return [*lines, *(_cut(line) for line in lower)][:LINES]


def page_without_code(upper: Sequence[tuple[bool, str]], lower: Sequence[str], *, styled: bool) -> list[str]:
    """The same in plain lines; where there is too little room, blank lines go first."""
    lines = [(bold, _cut(text)) for bold, text in (*upper, *((False, line) for line in lower))]
    while len(lines) > LINES and any(not text for _, text in lines):
        lines.remove((False, ""))
    return [_style(text, bold=bold and styled) for bold, text in lines[:LINES]]


def qr(text: str) -> list[str]:
    """A QR code (ISO/IEC 18004) of a text, two rows of modules a line; nothing for no text."""
    if not text:
        return []
    import segno  # what else runs at every boot does without it

    rows = [
        list(map(bool, row)) for row in segno.make(text, error="l", micro=False).matrix_iter(border=MARGIN)
    ]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    return [
        "".join(BLOCKS[above, below] for above, below in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    ]


def _invitation(situation: Situation) -> str:
    """What the code says: the two lines that a person would type elsewhere."""
    address = best(situation.addresses)
    if address is None or situation.password is None:
        return ""
    return f"ssh {ACCOUNT}@{address}\n{situation.password}"


def best(addresses: Sequence[Address]) -> str | None:
    """The address to be typed: a short one."""
    ordered = sorted(addresses, key=lambda each: (ip_address(each.address).version, len(each.address)))
    return ordered[0].address if ordered else None


def _upper(situation: Situation) -> list[tuple[bool, str]]:
    release = f", NixOS {situation.release}" if situation.release else ""
    lines = [(True, f"Hyper-NixOS {situation.version}{release}")]
    lines += [(False, text) for text in machine(situation.facts)]
    lines += [(False, ""), (True, "Network")]
    shown = sorted(situation.addresses, key=lambda each: (ip_address(each.address).version, each.interface))
    lines += [(False, _address(each)) for each in shown[:ADDRESSES]]
    if not shown:
        lines += [(False, "  no address yet; without DHCP: nmtui")]
    if len(shown) > ADDRESSES:
        lines += [(False, f"  and {len(shown) - ADDRESSES} more: ip address")]
    lines += [(False, ""), (True, "Log in from elsewhere")]
    address = best(situation.addresses)
    if address:
        whole = f"  ssh {ACCOUNT}@{address}"
        lines += [(False, whole if len(whole) <= BESIDE else f"  ssh {ACCOUNT}@ the first address above")]
    if situation.password:
        lines += [(False, f"  password   {situation.password}")]
    elif situation.keys:
        count = len(situation.keys)
        lines += [(False, f"  with {'the key' if count == 1 else f'one of the {count} keys'} on the medium")]
    else:
        lines += [(False, "  not yet: sudo passwd root")]
    return lines


def _address(each: Address) -> str:
    whole = f"  {each.address}  {each.interface}"
    return whole if len(whole) <= BESIDE else f"  {each.address}"


def machine(facts: Facts | None) -> list[str]:
    """What this machine is, in lines that fit beside the code."""
    if facts is None:
        return ["Which machine this is cannot be read."]
    firmware = facts.firmware
    names = [name for name in (firmware.vendor, firmware.product) if not isinstance(name, Unknown)]
    disks = sum(not disk.install_medium for disk in facts.disks)
    memory = format_size(facts.memory.total)
    return [
        _cut(" ".join(names) or "Unnamed machine", BESIDE),
        _cut(facts.cpu.model, BESIDE),
        f"{_count(facts.cpu.threads, 'thread')}, {memory}, {_count(disks, 'disk')}, {firmware.kind.split()[0]}",
        f"KVM {facts.cpu.virtualization.state}, IOMMU {facts.iommu.state}",
    ]


def _lower(situation: Situation) -> list[str]:
    lines = [f"Host key {kind:<8} {print_}" for kind, print_ in situation.host_keys[:2]]
    if situation.problem:
        lines += wrap(f"NOT TAKEN from the medium: {situation.problem}", COLUMNS)[:2]
    if situation.locked:
        lines.append("Secrets on the medium are locked; open them: hv live unlock")
    if situation.answers:
        lines += [
            "To install as the answers on the medium say: hv install --unattended, or look:",
            f"  hv install --answers /{FOLDER}/{ANSWERS} --plan",
        ]
    else:
        lines += [
            "To install: hv install asks, and writes nothing before you confirm it.",
            "  From a file: hv install --answers FILE; by itself: hv install --unattended",
        ]
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _cut(text: str, columns: int = COLUMNS) -> str:
    return text if len(text) <= columns else text[: columns - 1] + "…"


def _style(text: str, *, bold: bool) -> str:
    return f"{BOLD}{text}{PLAIN}" if bold and text else text
