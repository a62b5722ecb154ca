# The outputs of somebody's flake, with a local nixpkgs in place of its locked input, and stand-ins, named as such, for the
# other flakes that the styles use: what they do to modules, and no more. Nix's own `getFlake` would copy the whole of
# nixpkgs into the store first.
{ nixpkgs }:
folder:
let
  lib = import (nixpkgs + "/lib");
  inputs = {
    nixpkgs = {
      outPath = nixpkgs;
      lib = lib // {
        nixosSystem =
          args:
          import (nixpkgs + "/nixos/lib/eval-config.nix") (
            {
              system = null;
              inherit lib;
              # Where the call stands, as the module system finds it out by itself.
              modulesLocation = (builtins.unsafeGetAttrPos "modules" args).file or null;
            }
            // args
          );
      };
    };
    # A stand-in for flake-parts: its modules are evaluated, and `flake` is what they say of outputs.
    flake-parts.lib.mkFlake =
      { inputs }:
      module:
      (lib.evalModules {
        specialArgs = { inherit inputs; };
        modules = [
          module
          {
            options.flake = lib.mkOption { type = lib.types.lazyAttrsOf lib.types.raw; };
            options.systems = lib.mkOption { type = lib.types.listOf lib.types.str; };
            options.perSystem = lib.mkOption { type = lib.types.raw; };
          }
        ];
      }).config.flake;
    # A stand-in for home-manager: homes are declared, and nothing is made of them.
    home-manager.nixosModules.home-manager = {
      options.home-manager = {
        useGlobalPkgs = lib.mkOption { type = lib.types.bool; };
        users = lib.mkOption { type = lib.types.attrsOf lib.types.raw; };
      };
    };
  };
  flake = import (folder + "/flake.nix");
  self = outputs // {
    outPath = folder;
    inherit inputs;
  };
  outputs = flake.outputs (lib.intersectAttrs (flake.inputs or { }) inputs // { inherit self; });
in
outputs
