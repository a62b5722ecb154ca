{
  description = "A virtualization host";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    hyper-nixos = {
      # Where installed hosts and the live medium have it; elsewhere, write where you got yours from.
      url = "path:/etc/hyper-nixos/flake";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    { nixpkgs, hyper-nixos, ... }:
    {
      nixosConfigurations.host = nixpkgs.lib.nixosSystem {
        modules = [
          hyper-nixos.nixosModules.default
          ./configuration.nix
        ];
      };
    };
}
