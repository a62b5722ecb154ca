"""The live system's page, on recorded machines: it fits, says the truth, and its code reads back."""

import re
from itertools import product

import pytest
import segno

from iso import page as subject
from iso.page import Address, Situation, page
from tests import machines

V4 = Address(interface="enp1s0f0np0", address="192.168.100.200")
V6 = Address(interface="enp1s0f0np0", address="2001:db8:1234:5678:9abc:def0:1234:5678")
PASSWORD = "abcd-efgh-jkmn"
PRINT = "SHA256:" + "x" * 43
WAY_OUT = "Enter: install, asked step by step. Alt+F2: a shell. Alt+F1: here."


def situation(name: str | None = "server-md-lvm", **more: object) -> Situation:
    """One of a running live system."""
    values: dict[str, object] = {
        "version": "0.1.0",
        "release": "26.05",
        "facts": machines.load(name) if name else None,
        "addresses": (V4, V6),
        "password": PASSWORD,
        "keys": (),
        "host_keys": (("ED25519", PRINT), ("RSA", PRINT)),
        "answers": False,
        "problem": None,
    }
    return Situation(**(values | more))  # type: ignore[arg-type]


def seen(lines: list[str]) -> list[str]:
    """Lines without escape sequences."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]


ADDRESSES = ((), (V4,), (V6,), (V4, V6), (V6,) * 9)


@pytest.mark.parametrize("name", [*machines.names(), None])
@pytest.mark.parametrize("styled", [True, False])
def test_it_fits_80_columns_and_24_lines(name: str | None, styled: bool) -> None:
    problems = (None, "its checksum does not fit: it was cut off or altered " * 5)
    for addresses, password, problem in product(ADDRESSES, (PASSWORD, None), problems):
        told = situation(name, addresses=addresses, password=password, problem=problem)
        lines = page(told, styled=styled, way_out=WAY_OUT)
        assert len(lines) <= 24
        assert max(map(len, seen(lines))) <= 80
        assert lines[-1] == WAY_OUT, "the way to a shell is always there"
        assert styled or not re.search("[^\\x20-\\x7e…]", "".join(lines))


def code_in(lines: list[str]) -> list[list[int]]:
    """The modules that the page shows, from its block characters."""
    rows: list[list[int]] = []
    for line in lines:
        if found := re.search(re.escape(subject.BRIGHT) + r"(.+?)\x1b", line):
            halves = {" ": (1, 1), "▄": (1, 0), "▀": (0, 1), "█": (0, 0)}
            pairs = [halves[character] for character in found[1]]
            rows += [[above for above, _ in pairs], [below for _, below in pairs]]
    return rows


@pytest.mark.parametrize(
    ("addresses", "best"), [((V4,), V4), ((V6,), V6), ((V6, V4), V4)], ids=["IPv4", "IPv6", "both"]
)
def test_the_code_says_what_a_person_would_type(addresses: tuple[Address, ...], best: Address) -> None:
    lines = page(situation(addresses=addresses), styled=True, way_out=WAY_OUT)
    wanted = segno.make(f"ssh root@{best.address}\n{PASSWORD}", error="l", micro=False)
    modules = [list(row) for row in wanted.matrix_iter(border=2)]
    assert code_in(lines)[: len(modules)] == modules


def test_it_says_how_to_get_in_and_to_know_the_machine() -> None:
    text = "\n".join(seen(page(situation(), styled=False)))
    for told in ("192.168.100.200", V6.address, "ssh root@192.168.100.200", PASSWORD, f"ED25519  {PRINT}"):
        assert told in text
    assert "by itself: hv install --unattended" in text
    assert "Supermicro SYS-6029P-TR" in text
    assert "KVM ready, IOMMU on" in text


def test_with_keys_there_is_no_password_and_no_code() -> None:
    told = situation(password=None, keys=("SHA256:abc anna",))
    lines = page(told, styled=True)
    assert not code_in(lines)
    assert "  with the key on the medium" in seen(lines)


def test_nothing_is_promised_that_is_not_there() -> None:
    text = "\n".join(page(situation(None, addresses=(), password=None, host_keys=()), styled=True))
    assert "cannot be read" in text
    assert "no address yet" in text
    assert "ssh root@" not in text
    assert "not yet: sudo passwd root" in text


def test_embedded_answers_and_a_refused_area_are_told() -> None:
    told = situation(answers=True, problem="its checksum does not fit")
    text = "\n".join(seen(page(told, styled=False)))
    assert "hv install --answers /run/hyper-nixos/live/answers.toml --plan" in text
    assert "NOT TAKEN from the medium: its checksum does not fit" in text
