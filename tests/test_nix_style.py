"""Nix files have nothing that nobody uses."""

from pathlib import Path

import pytest

from tests.nixeval import style
from tests.nixeval.nix import REPOSITORY


@pytest.mark.parametrize("path", style.files(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_is_left_over(path: Path) -> None:
    assert list(style.faults(path)) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("let a = 1; in 2", "1: a is not used"),
        ("let inherit (x) a b; in a", "1: b is not used"),
        ("let in 2", "1: let without a name"),
        ("{ lib, pkgs, ... }: lib.id", "1: the argument pkgs is not used"),
        ("name: 1", "1: the argument name is not used"),
        ("{ lib }: with lib; { a = id 1; }", "1: with over more than a list"),
        ("rec { a = 1; }", "1: rec, but no name is used"),
        ("x: { x = x; }", "1: x = x is inherit"),
        ("x: x == true", "1: compared with a truth value"),
        ("_: python: with python; [ a b ]", ""),
        ("{ lib, ... }@all: rec { inherit lib; a = all; b = a; }", ""),
    ],
)
def test_a_fault_is_seen(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "new.nix"
    path.write_text(text)
    assert list(style.faults(path)) == ([fault] if fault else [])
