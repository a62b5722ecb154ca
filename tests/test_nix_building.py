"""What media carry for hosts that no ready system fits: each example's own system is built from it without a network.

Evaluation tells what every derivation is made of. What is on the medium is counted strictly here: inputs that are named
there, and not what these refer to once they are built.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from tests.nixeval import hosts
from tests.nixeval.cases import CASES, inputs, rendered_on
from tests.nixeval.derivations import Inputs, build_with, instantiate, outputs_beside, read
from tests.nixeval.host import flakes, nixpkgs

pytestmark = pytest.mark.nixpkgs
PARTS = """let
  inherit (FLAKES.own.nixosConfigurations.installer-ARCHITECTURE) config;
  parts = config.hypervisor.medium.building.inputs;
  paths = map (part: builtins.unsafeDiscardStringContext part.outPath);
  carried = builtins.listToAttrs (
    map (name: { inherit name; value = null; }) (paths config.system.extraDependencies)
  );
in
assert config.hypervisor.medium.building.enable;
assert builtins.all (path: carried ? ${path}) (paths parts);
derivation { name = "parts"; system = "ARCHITECTURE-linux"; builder = "/bin/sh"; inherit parts; }"""
"""What the ISO image carries, as inputs of one derivation."""
HOST = """((import NIXPKGS/nixos/lib/eval-config.nix) {
  system = null;
  modules = FLAKES.modulesOf DIRECTORY "NAME" ++ [ { nixpkgs.pkgs = FLAKES.nixpkgsFlake.legacyPackages.ARCHITECTURE-linux; } ];
}).config.system.build.toplevel"""
LONGEST = 900
"""More derivations are not built for one host: a compiler on the way would bring thousands."""


def filled(text: str, **more: str) -> str:
    for name, value in {"FLAKES": flakes(), "NIXPKGS": str(nixpkgs()), **more}.items():
        text = text.replace(name, value)
    return text


@cache
def on_the_medium(architecture: str) -> tuple[str, ...]:
    """Derivations whose outputs refer to everything that hosts are built of."""
    (parts,) = instantiate(filled(PARTS, ARCHITECTURE=architecture))
    return tuple(read(parts).inputs)


def there(parts: Iterable[str]) -> Inputs:
    return outputs_beside(parts)


def system_of(name: str, architecture: str, folder: Path) -> str:
    """The derivation of a case's system, rendered on a processor architecture into a folder."""
    directory = hosts.write(rendered_on(name, architecture).files, folder)
    hostname = inputs(name)[1].hostname
    (goal,) = instantiate(filled(HOST, DIRECTORY=str(directory), NAME=hostname, ARCHITECTURE=architecture))
    return goal


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
@pytest.mark.parametrize("name", CASES)
def test_a_host_s_own_system_is_built_from_what_is_on_the_medium(
    name: str, architecture: str, tmp_path: Path
) -> None:
    build = build_with(there(on_the_medium(architecture)), system_of(name, architecture, tmp_path))
    assert build.missing == {}
    assert 10 < len(build.made) < LONGEST


def test_what_is_left_out_is_missed(tmp_path: Path) -> None:
    """The strict count can fail: without the programs that check texts, and what they are made of."""
    without = {
        path: outputs
        for path, outputs in there(on_the_medium("x86_64")).items()
        if not read(path).name.startswith("nftables-")
    }
    assert build_with(without, system_of("home-lab", "x86_64", tmp_path)).missing
