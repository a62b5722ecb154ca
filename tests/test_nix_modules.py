"""Our NixOS modules, evaluated with a real nixpkgs; and each Nix file of the repository, read by Nix."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.nixeval import units
from tests.nixeval.host import MODULES, TOPLEVEL, Evaluated, evaluate
from tests.nixeval.nix import REPOSITORY, require

NIX_FILES = [
    REPOSITORY / "flake.nix",
    *sorted(
        path for folder in ("nix", "iso", "tests/nixeval") for path in (REPOSITORY / folder).rglob("*.nix")
    ),
]


@pytest.mark.nix
@pytest.mark.parametrize("path", NIX_FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_each_nix_file_parses(path: Path) -> None:
    assert require().parse(path.read_text())


def example(select: str, *modules: str) -> Evaluated:
    """The example host with more modules."""
    return evaluate(select, [MODULES, units.EXAMPLE, *modules])


@pytest.mark.nixpkgs
def test_a_host_by_hand_evaluates_to_a_system() -> None:
    host = example(TOPLEVEL)
    assert host.value.endswith(".drv")
    assert (host.failed_assertions, host.warnings) == ((), ())


@pytest.mark.nixpkgs
def test_libvirt_is_closed() -> None:
    select = """host: {
      inherit (host.config.virtualisation.libvirtd.qemu) runAsRoot verbatimConfig;
      rules = host.config.networking.nftables.tables.nixos-fw.content;
      flush = host.config.networking.nftables.flushRuleset;
      trusted = host.config.networking.firewall.trustedInterfaces;
    }"""
    found = example(select).value
    assert found["runAsRoot"] is False
    assert "namespaces = []" not in found["verbatimConfig"]
    assert found["flush"] is False
    assert "virbr0" not in found["trusted"]
    assert "iifname virbr0 udp dport { 53, 67, 547 } accept" in found["rules"]


LOCKED = """{ lib, ... }: {
  users.users.alice.openssh.authorizedKeys.keys = lib.mkForce [ ];
  users.users.alice.hashedPassword = "!$6$locked";
}"""


@pytest.mark.nixpkgs
@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("{ lib, ... }: { users.users.alice.extraGroups = lib.mkForce [ ]; }", "Nobody could log in"),
        (
            LOCKED,
            "Nobody could log in",
        ),
    ],
    ids=["no administrator", "no key and a locked password"],
)
def test_each_assertion_fires(module: str, message: str) -> None:
    failed = example("host: null", module).failed_assertions
    assert any(message in text for text in failed)


@pytest.mark.nixpkgs
def test_units_are_as_committed() -> None:
    assert units.units() == units.committed(), "if wanted: python -m tests.nixeval.units"


def test_nobody_is_locked_out_by_the_first_run() -> None:
    unit = units.committed()["hyper-nixos-firstrun.service"]
    assert "After=multi-user.target" in unit
    assert "Before=" not in unit
    assert "ConditionPathExists=/var/lib/hyper-nixos/handoff.json" in unit


def test_systemd_accepts_the_first_run_unit(tmp_path: Path) -> None:
    unit = tmp_path / "hyper-nixos-firstrun.service"
    text = units.committed()[unit.name].replace("@hv@/bin/hv", "/bin/true")
    unit.write_text(re.sub(r"@[a-z-]+@", "/usr", text))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_nix_package_lists_the_dependencies_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    more = project["optional-dependencies"]
    text = (REPOSITORY / "nix/packages/hyper-nixos.nix").read_text()
    base, server = (
        piece.split("[")[1].split("]")[0].split() for piece in text.split("with python3Packages;")[1:3]
    )
    for listed, wanted in (
        (base, [*project["dependencies"], *more["host"]]),
        (server, [*more["server"], *more["postgresql"]]),
    ):
        names = {requirement.split(">=")[0].removesuffix("-python") for requirement in wanted}
        # nixpkgs has grammars in a set of their own.
        assert sorted(names) == [name.rpartition(".")[2] for name in listed]
