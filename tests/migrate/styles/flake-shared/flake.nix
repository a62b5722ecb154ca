{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  outputs =
    { nixpkgs, ... }:
    let
      modules = [
        ./host.nix
        ./hardware.nix
      ];
      host = name: nixpkgs.lib.nixosSystem {
        inherit modules;
        specialArgs = { inherit name; };
      };
    in
    {
      nixosConfigurations.box = host "box";
      nixosConfigurations.bax = host "bax";
    };
}
