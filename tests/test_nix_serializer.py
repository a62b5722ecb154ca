"""Whatever text goes in, Nix reads the same text back: judged by Nix itself."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from installer.errors import HyperError
from installer.render.nix import (
    KEYWORDS,
    Call,
    Commented,
    Function,
    Nix,
    Path,
    Reference,
    default,
    force,
    to_nix,
)
from tests.nixeval.nix import require

# Pieces that mean something to Nix's lexer, so that random text meets its corners often.
PIECES = (
    "${",
    "$",
    "''",
    "'",
    '"',
    "\\",
    "\\n",
    "\n",
    "\r",
    "\r\n",
    "\t",
    "  ",
    "{",
    "}",
    "/*",
    "#",
    "é",
    "\u2028",
)
CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=40),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(CHARACTERS, max_size=4)), max_size=12).map("".join),
    st.lists(st.sampled_from(["", "a", "b ", " c", "- d", "$e", "'f"]), max_size=6)
    .map("\n".join)
    .map(lambda t: t + "\n"),
)
NAMES = st.one_of(
    TEXTS, st.sampled_from(sorted(KEYWORDS | {"true", "null", "a.b", "__toString", "outPath", "", "-", "9"}))
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63) + 1, 2**63 - 1), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        # Nix's JSON prints a set with these two as the text they stand for.
        st.dictionaries(NAMES.filter(lambda name: name not in {"__toString", "outPath"}), inner, max_size=4),
    ),
    max_leaves=20,
)
property_of_nix = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def read_back(value: Nix) -> Any:
    return require().evaluate(to_nix(value))


@pytest.mark.nix
@property_of_nix
@given(st.lists(TEXTS, min_size=20, max_size=80))
def test_every_text_comes_back(texts: list[str]) -> None:
    assert read_back(texts) == texts


@pytest.mark.nix
@property_of_nix
@given(st.lists(NAMES, min_size=10, max_size=60, unique=True))
def test_every_name_comes_back(names: list[str]) -> None:
    # As attrNames, since JSON gives some names a meaning of their own.
    text = to_nix({name: position for position, name in enumerate(names)})
    assert require().evaluate(f"builtins.attrNames ({text})") == sorted(names, key=str.encode)


@pytest.mark.nix
@property_of_nix
@given(st.lists(VALUES, min_size=3, max_size=10))
def test_every_value_comes_back(values: list[Nix]) -> None:
    assert json.dumps(read_back(values), sort_keys=True) == json.dumps(values, sort_keys=True)


@pytest.mark.nix
@property_of_nix
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=5, max_size=30))
def test_a_comment_is_only_a_comment(pairs: Sequence[tuple[str, str]]) -> None:
    texts = [text for _, text in pairs]
    assert read_back([Commented(comment, text) for comment, text in pairs]) == texts
    value = {f"key{position:02}": Commented(comment, text) for position, (comment, text) in enumerate(pairs)}
    assert list(read_back(Commented("head", value)).values()) == texts


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "ok\udfff"])
@pytest.mark.parametrize(
    "shape", [lambda text: text, lambda text: {text: 1}, lambda text: Commented(text, 1)]
)
def test_text_that_nix_cannot_hold_is_refused(text: str, shape: Any) -> None:
    with pytest.raises(HyperError, match="cannot be written as Nix") as refused:
        to_nix(shape(text))
    assert refused.value.remedy


@pytest.mark.parametrize("number", [2**63, -(2**63)])
def test_numbers_beyond_64_bits_are_refused(number: int) -> None:
    with pytest.raises(HyperError, match="cannot be written as Nix"):
        to_nix(number)


@pytest.mark.parametrize("text", ["/etc/shadow", "./a b", "disks.nix", "./${x}", "../", "./a;b"])
def test_a_path_literal_is_only_a_plain_relative_path(text: str) -> None:
    with pytest.raises(HyperError):
        Path(text)


@pytest.mark.parametrize("variable", ["or", "a.b", "", "1a", "x\n"])
def test_a_variable_is_only_an_identifier(variable: str) -> None:
    with pytest.raises(HyperError):
        Reference(variable)


def test_the_layout_is_that_of_nixfmt() -> None:
    value = Function(
        ("lib",),
        {
            "imports": [Path("./disks.nix")],
            "boot": {"loader": {"timeout": default(5)}, "kernelParams": ["quiet", "a" * 60]},
            "empty": {"set": {}, "list": []},
            "networking.hostName": "odd",
            "numbers": [-1, 2],
            "nested": [{"a": {"b": True}}, force([{}])],
            "one": {"by": {"one": Commented("Why one.", ["a"])}},
            "motd": Commented("Two lines,\nas a person reads them.", "Welcome\n\nto 'this' host\n"),
        },
    )
    assert to_nix(value) == LAYOUT


LAYOUT = """\
{ lib, ... }:
{
  imports = [ ./disks.nix ];
  boot = {
    loader.timeout = lib.mkDefault 5;
    kernelParams = [
      "quiet"
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    ];
  };
  empty = {
    set = { };
    list = [ ];
  };
  "networking.hostName" = "odd";
  numbers = [
    (-1)
    2
  ];
  nested = [
    {
      a.b = true;
    }
    (lib.mkForce [ { } ])
  ];
  # Why one.
  one.by.one = [ "a" ];
  # Two lines,
  # as a person reads them.
  motd = ''
    Welcome

    to 'this' host
  '';
}
"""


@pytest.mark.nix
def test_calls_functions_and_references_mean_what_they_say() -> None:
    function = Function(
        ("lib",), Call(Reference("lib", "or"), -1, {"a": Reference("lib", "odd name")}), open=False
    )
    text = to_nix(function)
    expression = f'({text}) {{ lib = {{ or = a: b: [ a b.a ]; "odd name" = 7; }}; }}'
    assert require().evaluate(expression) == [-1, 7]
