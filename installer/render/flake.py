"""flake.nix and flake.lock: the host as one configuration of two pinned inputs."""

import json

from installer.medium import Medium, flake_lock
from installer.render.nix import Call, Function, Nix, Path, Reference


def flake(hostname: str, medium: Medium) -> dict[str, Nix]:
    """flake.nix. `nixos-rebuild` finds the configuration by the host's name."""
    host = Call(
        Reference("nixpkgs", "lib", "nixosSystem"),
        {"modules": [Reference("hyper-nixos", "nixosModules", "default"), Path("./configuration.nix")]},
    )
    return {
        "description": f"The virtualization host {hostname}",
        "inputs": {
            "nixpkgs": {"url": medium.nixpkgs.url},
            "hyper-nixos": {
                "url": medium.hyper_nixos.url,
                "inputs": {"nixpkgs": {"follows": "nixpkgs"}},
            },
        },
        "outputs": Function(("nixpkgs", "hyper-nixos"), {"nixosConfigurations": {hostname: host}}),
    }


def lock(medium: Medium) -> str:
    """flake.lock, as Nix writes it."""
    return json.dumps(flake_lock(medium), indent=2, sort_keys=True) + "\n"
