"""What media carry for hosts that no ready system fits: each example's own system is built from it without a network.

Evaluation tells what every derivation is made of. What is on the medium is counted strictly here: inputs that are named
there, and not what these refer to once they are built.
"""

from collections.abc import Iterable
from functools import cache

import pytest

from tests.nixeval import hosts
from tests.nixeval.cases import MADE, inputs
from tests.nixeval.derivations import Inputs, build_with, instantiate, outputs_beside, read
from tests.nixeval.host import flakes, nixpkgs

pytestmark = pytest.mark.nixpkgs
PARTS = """let
  inherit (FLAKES.own.nixosConfigurations.installer-x86_64) config;
  parts = config.hypervisor.medium.building.inputs;
  paths = map (part: builtins.unsafeDiscardStringContext part.outPath);
  carried = builtins.listToAttrs (
    map (name: { inherit name; value = null; }) (paths config.system.extraDependencies)
  );
in
assert config.hypervisor.medium.building.enable;
assert builtins.all (path: carried ? ${path}) (paths parts);
derivation { name = "parts"; system = "x86_64-linux"; builder = "/bin/sh"; inherit parts; }"""
"""What the ISO image carries, as inputs of one derivation."""
HOST = """((import NIXPKGS/nixos/lib/eval-config.nix) {
  system = null;
  modules = FLAKES.modulesOf DIRECTORY "NAME" ++ [ { nixpkgs.pkgs = FLAKES.nixpkgsFlake.legacyPackages.x86_64-linux; } ];
}).config.system.build.toplevel"""
LONGEST = 900
"""More derivations are not built for one host: a compiler on the way would bring thousands."""


def filled(text: str, **more: str) -> str:
    for name, value in {"FLAKES": flakes(), "NIXPKGS": str(nixpkgs()), **more}.items():
        text = text.replace(name, value)
    return text


@cache
def on_the_medium() -> tuple[str, ...]:
    """Derivations whose outputs refer to everything that hosts are built of."""
    (parts,) = instantiate(filled(PARTS))
    return tuple(read(parts).inputs)


def there(parts: Iterable[str]) -> Inputs:
    return outputs_beside(parts)


@pytest.mark.parametrize("name", [*MADE, "workstation-passthrough"])
def test_a_host_s_own_system_is_built_from_what_is_on_the_medium(name: str) -> None:
    (goal,) = instantiate(filled(HOST, DIRECTORY=str(hosts.GOLDEN / name), NAME=inputs(name)[1].hostname))
    build = build_with(there(on_the_medium()), goal)
    assert build.missing == {}
    assert 10 < len(build.made) < LONGEST


def test_what_is_left_out_is_missed() -> None:
    """The strict count can fail: without the programs that check texts, and what they are made of."""
    (goal,) = instantiate(
        filled(HOST, DIRECTORY=str(hosts.GOLDEN / "home-lab"), NAME=inputs("home-lab")[1].hostname)
    )
    without = {
        path: outputs
        for path, outputs in there(on_the_medium()).items()
        if not read(path).name.startswith("nftables-")
    }
    assert build_with(without, goal).missing
