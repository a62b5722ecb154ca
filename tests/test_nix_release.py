"""One file knows the NixOS release; and what pyproject.toml asks for is in nixpkgs."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tree_sitter import Node

from tests.nixeval.host import nixpkgs
from tests.nixeval.nix import REPOSITORY, require
from tests.nixeval.reader import PARSER

COMPAT = "nix/modules/compat.nix"
ASKS = {
    "versionAtLeast",
    "versionOlder",
    "compareVersions",
    "trivial.release",
    "trivial.version",
    "lib.version",
    "lib.release",
    "nixosVersion",
}
"""How Nix text finds out which release it is in."""
ALLOWED: dict[tuple[str, str], str] = {
    ("iso/media/disk.nix", "lib.trivial.release"): "a medium's data begin with its own release",
    (
        "iso/live/sampler.nix",
        "lib.trivial.release",
    ): "a sample is a new host, whose data begin with this release",
}
"""Where a module looks for an option all the same: file and text, and why it is no question of the release."""


def questions(path: Path) -> Iterator[str]:
    """Where a file asks for the release, or whether an option exists."""
    yield from _questions(PARSER.parse(path.read_bytes()).root_node)


def _questions(node: Node) -> Iterator[str]:
    text = re.sub(r"\s+", " ", (node.text or b"").decode())
    names = {"select_expression", "variable_expression"}
    if node.type in names and any(text == word or text.endswith(f".{word}") for word in ASKS):
        yield text
    if node.type == "has_attr_expression" and text.startswith("options"):
        yield text
    for child in node.named_children:
        yield from _questions(child)


def test_one_file_knows_the_release() -> None:
    asked = {
        (str(path.relative_to(REPOSITORY)), text)
        for folder in ("nix", "iso")
        for path in (REPOSITORY / folder).rglob("*.nix")
        for text in questions(path)
    }
    assert {(file, text) for file, text in asked if file != COMPAT} == ALLOWED.keys()
    assert any(file == COMPAT for file, _ in asked)


@pytest.mark.parametrize(
    "text",
    [
        'lib.versionAtLeast lib.version "26.11"',
        "options.services ? thing",
        "options ? thing",
        "lib.trivial.release",
    ],
)
def test_a_question_is_seen(tmp_path: Path, text: str) -> None:
    path = tmp_path / "new.nix"
    path.write_text(f"{{ lib, options, ... }}: {{ a = {text}; b = config.x ? y; }}")
    assert list(questions(path))


def names() -> list[str]:
    """What the package depends on, as nixpkgs calls it."""
    text = (REPOSITORY / "nix/packages/hyper-nixos.nix").read_text()
    return text.split("(with python3Packages; [")[1].split("]")[0].split()


@pytest.mark.nixpkgs
@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_every_dependency_is_in_nixpkgs(system: str) -> None:
    """For the Python that `hv` is packaged with, and the ones before and after it."""
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = tuple(map(int, wanted.removeprefix(">=").split(".")))
    read = f"""let
      pkgs = import {nixpkgs()} {{ system = "{system}"; config = {{ }}; overlays = [ ]; }};
      of = python: {{
        version = python.pythonVersion;
        packages = [ {" ".join(f"python.pkgs.{name}.drvPath" for name in names())} ];
      }};
    in map of [ pkgs.python3 pkgs.python312 pkgs.python314 ]"""
    for python in require().evaluate(read):
        assert tuple(map(int, python["version"].split("."))) >= oldest
        assert all(path.endswith(".drv") for path in python["packages"])
