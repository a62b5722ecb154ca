# The host desk.
# The inputs are pinned in flake.lock; `nix flake update --flake /etc/nixos` renews them.
{
  description = "The virtualization host desk";
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    hyper-nixos = {
      url = "path:/etc/hyper-nixos/flake";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };
  outputs =
    { nixpkgs, hyper-nixos, ... }:
    {
      nixosConfigurations.desk = nixpkgs.lib.nixosSystem {
        modules = [
          hyper-nixos.nixosModules.default
          ./configuration.nix
        ];
      };
    };
}
