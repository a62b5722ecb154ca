{ nixpkgs }:
name:
{ system ? "x86_64-linux", extra ? [ ] }:
nixpkgs.lib.nixosSystem {
  inherit system;
  modules = [
    ../modules/base.nix
    (../machines + "/${name}.nix")
    { networking.hostName = name; }
  ] ++ extra;
}
