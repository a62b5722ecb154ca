# Flakes as Nix would hand them to each other, without fetching: `outputs` called with its inputs.
{ nixpkgs, repository }:
let
  # A flake's outputs know themselves; its files are where they lie instead of in the store.
  flakeOf =
    directory: inputs:
    let
      self = (import (directory + "/flake.nix")).outputs (inputs // { inherit self; }) // {
        outPath = toString directory;
        narHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
      };
    in
    self;
in
rec {
  nixpkgsFlake = flakeOf nixpkgs { };
  own = flakeOf repository { nixpkgs = nixpkgsFlake; };
  # The modules that a rendered host's flake hands to nixosSystem.
  modulesOf =
    directory: hostname:
    (flakeOf directory {
      hyper-nixos = own;
      nixpkgs = nixpkgsFlake // {
        lib = nixpkgsFlake.lib // {
          nixosSystem = arguments: arguments.modules;
        };
      };
    }).nixosConfigurations.${hostname};
}
