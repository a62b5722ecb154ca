"""Our NixOS modules, evaluated with a real nixpkgs; and each Nix file of the repository, read by Nix."""

import tomllib
from pathlib import Path

import pytest

from tests.nixeval import units
from tests.nixeval.host import MODULES, TOPLEVEL, evaluate
from tests.nixeval.nix import REPOSITORY, require

NIX_FILES = [
    REPOSITORY / "flake.nix",
    *sorted(path for folder in ("nix", "iso", "tests/nixeval") for path in (REPOSITORY / folder).rglob("*.nix")),
]


@pytest.mark.nix
@pytest.mark.parametrize("path", NIX_FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_each_nix_file_parses(path: Path) -> None:
    assert require().parse(path.read_text())


@pytest.mark.nixpkgs
def test_a_host_by_hand_evaluates_to_a_system() -> None:
    host = evaluate(TOPLEVEL, [MODULES, units.EXAMPLE])
    assert host.value.endswith(".drv")
    assert (host.failed_assertions, host.warnings) == ((), ())


@pytest.mark.nixpkgs
def test_units_are_as_committed() -> None:
    assert units.units() == units.committed(), "if wanted: python -m tests.nixeval.units"


@pytest.mark.nix
def test_nobody_is_locked_out_by_the_first_run() -> None:
    unit = units.committed()["hyper-nixos-firstrun.service"]
    assert "After=multi-user.target" in unit
    assert "Before=" not in unit
    assert "ConditionPathExists=/var/lib/hyper-nixos/handoff.json" in unit


def test_the_nix_package_lists_the_dependencies_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["host"]]
    names = {requirement.split(">=")[0].removesuffix("-python") for requirement in wanted}
    text = (REPOSITORY / "nix/packages/hyper-nixos.nix").read_text()
    listed = text.split("dependencies = with python3Packages; [")[1].split("]")[0].split()
    assert sorted(names) == listed
