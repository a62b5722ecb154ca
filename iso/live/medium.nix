# What the medium says it carries (installer/medium.py), and the sources that hosts are pinned to.
{
  config,
  lib,
  nixpkgs,
  pkgs,
  self,
  ...
}:
let
  # A flake input as the host's flake.lock names it; Nix takes the copy in the medium's store because narHash fits.
  # A locked reference has a revision and no branch: with both, Nix refuses it.
  source = url: original: flake: {
    inherit url original;
    store_path = "${flake}";
    locked =
      removeAttrs original [ "ref" ]
      // {
        inherit (flake) narHash;
        lastModified = flake.lastModified or 0;
      }
      // lib.optionalAttrs (original.type == "github" && flake ? rev) { inherit (flake) rev; };
  };
  medium = {
    version = 1;
    label = "Hyper-NixOS ${config.hypervisor.package.version}";
    inherit (config.system.nixos) release;
    inherit (pkgs.stdenv.hostPlatform) system;
    nixpkgs = source "github:NixOS/nixpkgs/nixos-${config.system.nixos.release}" {
      type = "github";
      owner = "NixOS";
      repo = "nixpkgs";
      ref = "nixos-${config.system.nixos.release}";
    } nixpkgs;
    hyper_nixos = source "path:/etc/hyper-nixos/flake" {
      type = "path";
      path = "/etc/hyper-nixos/flake";
    } self;
    # Generous: what a standard host needs is known only once it is built.
    estimated_closure = 6 * 1024 * 1024 * 1024;
    closures = [ ];
    images = { };
  };
in
{
  # The text refers to both sources, so that every medium has them in its store.
  environment.etc."hyper-nixos/medium.json".text = builtins.toJSON medium;
  # Where hosts have our flake too (hypervisor.source).
  environment.etc."hyper-nixos/flake".source = self;
}
