# One NixOS configuration made of `modules`, and what a test wants to know of it. Nothing is built.
{
  nixpkgs,
  modules,
  system ? "x86_64-linux",
  # What to read: a function of the evaluated system ({ config, pkgs, lib, options, extendModules, … }).
  select,
}:
let
  host = import (nixpkgs + "/nixos/lib/eval-config.nix") {
    system = null;
    modules = modules ++ [ ({ lib, ... }: { nixpkgs.hostPlatform = lib.mkDefault system; }) ];
  };
  inherit (host.pkgs) lib;
  # Specialisations have assertions and warnings of their own that nobody reads unless they are built.
  systems = {
    "" = host.config;
  }
  // lib.mapAttrs (_: child: child.configuration) host.config.specialisation;
  collect =
    read:
    lib.concatLists (lib.mapAttrsToList (name: config: map (text: "${name}: ${text}") (read config)) systems);
in
{
  value = select host;
  failedAssertions = collect (
    config: map (entry: entry.message) (lib.filter (entry: !entry.assertion) config.assertions)
  );
  warnings = collect (config: config.warnings);
}
