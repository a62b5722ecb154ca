"""A host that is installed from a ready system and one that is built: the same /etc/nixos, whose lock needs no network.

Nix itself reads the rendered flake in a network namespace with nothing in it, from a store that holds the sources alone.
What those sources are is beside the point here, so they are a few lines each.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.medium import Medium, flake_lock
from installer.plan.planner import make_plan
from installer.plan.prebuilt import FILE_SYSTEMS
from installer.render import load_templates, render
from tests.nixeval import hosts
from tests.nixeval.cases import HASH, MEDIUM, SERVER
from tests.nixeval.nix import CONFIGURATION, require

NIXPKGS = """{
  outputs = _: {
    lib.nixosSystem = { modules }: {
      config.system.build.toplevel = derivation {
        name = "system"; system = "x86_64-linux"; builder = "/bin/sh"; modules = builtins.toJSON (map toString modules);
      };
    };
  };
}"""
OURS = """{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
  outputs = { nixpkgs, ... }: { nixosModules.default = "ours, with ${toString nixpkgs}"; };
}"""
BASE: dict[str, Any] = {
    "version": 1,
    "hostname": "both",
    "storage": {"disk": {"serial": "S4EWNX0R123456"}},
    "users": [{"name": "alice", "admin": True, "password_hash": HASH}],
}
READY = {"source": "closure", "closure": "standard", "offline": True}
BUILT = {"source": "flake", "offline": True}


class Store:
    """A store of its own, used without a network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def nix(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "NIX_CACHE_HOME": str(self.folder),
            "NIX_CONFIG": CONFIGURATION,
            "NIX_REMOTE": str(self.folder / "store"),
        }
        argv = ["unshare", "--net", *require().command("nix"), *map(str, arguments)]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    def add(self, name: str, text: str) -> dict[str, Any]:
        """A flake's store path, and the hash of its content."""
        source = self.folder / name
        source.mkdir()
        (source / "flake.nix").write_text(text)
        added = self.nix("store", "add-path", "--name", "source", source)
        assert added.returncode == 0, added.stderr
        path = added.stdout.strip()
        info = json.loads(self.nix("path-info", "--json", path).stdout)
        return {"store_path": path, "narHash": info[path]["narHash"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def carrying(store: Store) -> Medium:
    """A medium with both sources, described as iso/live/medium.nix does, and a ready system."""
    described = MEDIUM.model_dump()
    for field, text in (("nixpkgs", NIXPKGS), ("hyper_nixos", OURS)):
        added = store.add(field, text)
        described[field]["store_path"] = added["store_path"]
        described[field]["locked"]["narHash"] = added["narHash"]
    toplevel = f"/nix/store/{'1' * 32}-nixos-system-prebuilt"
    modules = ["nvme", *FILE_SYSTEMS]
    ready = {"name": "standard", "tier": "standard", "toplevel": toplevel, "nar_size": 1, "modules": modules}
    return Medium.model_validate(described | {"closures": [ready]})


def written(medium: Medium, system: dict[str, Any]) -> dict[str, str]:
    answers = Answers.model_validate(BASE | {"system": system})
    plan = make_plan(SERVER, answers, medium)
    return dict(render(SERVER, answers, plan, medium, load_templates()).files)


@pytest.mark.nix
@pytest.mark.root
def test_both_ways_end_with_the_same_configuration_whose_lock_needs_no_network(store: Store) -> None:
    medium = carrying(store)
    files = written(medium, READY)
    assert files == written(medium, BUILT) == written(medium, BUILT | {"offline": False})
    locked = json.loads(files["flake.lock"])
    assert locked == flake_lock(medium)
    directory = hosts.write(files, store.folder / "nixos")
    attribute = f"path:{directory}#nixosConfigurations.both.config.system.build.toplevel"
    said = store.nix("eval", "--json", "--no-update-lock-file", f"{attribute}.modules")
    assert said.returncode == 0, said.stderr
    ours, configuration = json.loads(json.loads(said.stdout))
    assert ours == f"ours, with {medium.nixpkgs.store_path}"
    assert configuration.endswith("/configuration.nix")
    # Nix found the lock whole.
    assert (directory / "flake.lock").read_text() == files["flake.lock"]


@pytest.mark.nix
@pytest.mark.root
@pytest.mark.parametrize("field", ["nixpkgs", "hyper_nixos"])
def test_a_source_that_is_not_in_the_store_is_missed(store: Store, field: str) -> None:
    medium = carrying(store)
    source = getattr(medium, field)
    other = source.model_copy(update={"locked": source.locked | {"narHash": "sha256-" + "A" * 43 + "="}})
    files = written(medium.model_copy(update={field: other}), BUILT)
    directory = hosts.write(files, store.folder / "nixos")
    said = store.nix(
        "eval", f"path:{directory}#nixosConfigurations.both.config.system.build.toplevel.modules"
    )
    assert said.returncode != 0
