{
  description = "From a bare machine to a hardened NixOS virtualization host";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "aarch64-linux"
        "x86_64-linux"
      ];
      perSystem = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      medium =
        system:
        lib.nixosSystem {
          specialArgs = { inherit self nixpkgs; };
          modules = [
            self.nixosModules.default
            ./iso/live.nix
            { nixpkgs.hostPlatform = system; }
          ];
        };
    in
    {
      nixosModules.default = {
        imports = [ ./nix/modules ];
        hypervisor.source = lib.mkDefault self;
      };

      packages = perSystem (pkgs: rec {
        hv = pkgs.callPackage ./nix/packages/hyper-nixos.nix { };
        default = hv;
        iso = self.nixosConfigurations."medium-${pkgs.stdenv.hostPlatform.system}".config.system.build.isoImage;
      });

      nixosConfigurations = lib.listToAttrs (
        map (system: lib.nameValuePair "medium-${system}" (medium system)) systems
      );

      checks = perSystem (pkgs: {
        inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) hv;
      });

      devShells = perSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.hv ];
          packages = [
            pkgs.mypy
            pkgs.ruff
            (pkgs.python3.withPackages (python: [
              python.hypothesis
              python.jsonschema
              python.pytest
              python.pytest-xdist
            ]))
          ];
        };
      });

      formatter = perSystem (pkgs: pkgs.nixfmt);
    };
}
