{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  outputs =
    { nixpkgs, ... }:
    let
      mkHost = import ./lib/mkHost.nix { inherit nixpkgs; };
    in
    {
      nixosConfigurations = builtins.mapAttrs mkHost {
        box = { };
        nas.system = "x86_64-linux";
      };
    };
}
