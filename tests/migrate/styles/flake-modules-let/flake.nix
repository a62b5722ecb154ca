{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  outputs =
    { nixpkgs, ... }:
    let
      system = "x86_64-linux";
      modules = [
        ./hardware.nix
        ./system.nix
      ];
    in
    {
      nixosConfigurations.box = nixpkgs.lib.nixosSystem { inherit modules system; };
    };
}
