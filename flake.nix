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
      # The live system, on one medium or another.
      live =
        system: medium:
        lib.nixosSystem {
          specialArgs = { inherit self nixpkgs; };
          modules = [
            self.nixosModules.default
            medium
            { nixpkgs.hostPlatform = system; }
          ];
        };
      processor = system: lib.removeSuffix "-linux" system;
      # Hosts as `hv install` renders them, one an example; tests hold them against the answers.
      examples = map (lib.removeSuffix ".toml") (
        lib.filter (lib.hasSuffix ".toml") (lib.attrNames (builtins.readDir ./examples))
      );
      example =
        name:
        lib.nixosSystem {
          modules = [
            self.nixosModules.default
            (./tests/golden/hosts + "/${name}/configuration.nix")
          ];
        };
      tiers = lib.attrNames (lib.importJSON ./installer/answers/tiers.json);
      # Any host's system of a tier: what only one host has are files (nix/modules/prebuilt).
      prebuilt =
        system: tier:
        lib.nixosSystem {
          modules = [
            self.nixosModules.default
            {
              # Several of them are on one medium; they are evaluated with the same packages.
              nixpkgs.pkgs = nixpkgs.legacyPackages.${system};
              hypervisor = {
                enable = true;
                prebuilt.enable = true;
                inherit tier;
              };
            }
          ];
        };
      # Every medium, with what it carries packed for one purpose.
      media =
        pkgs: compression:
        let
          inherit (pkgs.stdenv.hostPlatform) system;
          build =
            medium:
            (live system {
              imports = [ medium ];
              hypervisor.medium = { inherit compression; };
            }).config.system.build;
          image =
            medium:
            (build {
              imports = [ ./iso/media/iso.nix ];
              hypervisor = { inherit medium; };
            }).isoImage;
          inMemory = build ./iso/media/netboot.nix;
          storeByItself = {
            "initrd-without-store" = "${inMemory.initialRamdisk}/initrd";
            "nix-store.squashfs" = inMemory.squashfsStore;
          };
          disk =
            format:
            (build {
              imports = [ ./iso/media/disk.nix ];
              image = { inherit format; };
            }).image;
        in
        {
          iso =
            if compression == "default" then
              self.nixosConfigurations."installer-${processor system}".config.system.build.isoImage
            else
              image { };
          # Without hosts' systems, for those who have a network.
          iso-minimal = image {
            building.enable = false;
            tiers = [ ];
          };
          kexec = inMemory.kexecTree;
          netboot = pkgs.symlinkJoin {
            name = "hyper-nixos-netboot";
            paths = [
              inMemory.kernel
              inMemory.netbootIpxeScript
              inMemory.netbootRamdisk
              # For closures that are too large for one RAM disk: the store is fetched by itself (iso/media/fetched-store.nix).
              (pkgs.linkFarm "store-by-itself" storeByItself)
              # For firmware that has no iPXE of its own: by TFTP, and by HTTP where it is UEFI.
              (pkgs.runCommand "ipxe-for-firmware" { } ''
                mkdir $out
                for each in ipxe.efi undionly.kpxe; do
                  if [ -e ${pkgs.ipxe}/$each ]; then ln -s ${pkgs.ipxe}/$each $out; fi
                done
              '')
            ];
            passthru = {
              inherit storeByItself;
              ipxe = inMemory.netbootIpxeScript;
            };
          };
          qcow2 = disk "qcow2";
          raw = disk "raw";
        }
        // lib.listToAttrs (
          map (tier: lib.nameValuePair "iso-with-${tier}" (image { tiers = [ tier ]; })) tiers
        );
      # The folders of nix/modules.
      topics = lib.attrNames (
        lib.filterAttrs (_: kind: kind == "directory") (builtins.readDir ./nix/modules)
      );
    in
    {
      nixosModules = {
        default = {
          imports = [ ./nix/modules ];
          hypervisor.source = lib.mkDefault self;
        };
      }
      # One topic alone, on any host: switched on, with the rest there to be switched on.
      // lib.genAttrs topics (
        topic:
        { options, ... }:
        {
          imports = [ self.nixosModules.default ];
          hypervisor = lib.optionalAttrs (options.hypervisor ? ${topic}.enable) {
            ${topic}.enable = lib.mkDefault true;
          };
        }
      );

      # What media are made with; nothing for others.
      lib.samples = perSystem (
        packages: import ./iso/live/samples.nix { inherit lib packages self; }
      );

      packages = perSystem (
        pkgs:
        let
          inherit (pkgs.stdenv.hostPlatform) system;
          own = self.packages.${system};
        in
        {
          default = own.hv;
          hv = pkgs.callPackage ./nix/packages/hyper-nixos.nix { flake = self; };
          hv-server = own.hv.override { withServer = true; };
          docs = pkgs.callPackage ./nix/packages/docs.nix { };
          inherit (self.legacyPackages.${system}.media.default)
            iso
            iso-minimal
            kexec
            netboot
            qcow2
            raw
            ;
        }
      );

      # By purpose, as `hv media build` asks for them: media.release.iso, and with one tier's system alone,
      # media.default.iso-with-standard.
      legacyPackages = perSystem (pkgs: {
        media = lib.genAttrs [ "default" "dev" "release" ] (media pkgs);
      });

      nixosConfigurations =
        lib.listToAttrs (
          map (
            system: lib.nameValuePair "installer-${processor system}" (live system ./iso/media/iso.nix)
          ) systems
        )
        // lib.listToAttrs (
          lib.concatMap (
            system:
            map (tier: lib.nameValuePair "prebuilt-${tier}-${processor system}" (prebuilt system tier)) tiers
          ) systems
        )
        // lib.genAttrs examples example;

      apps = perSystem (
        pkgs:
        let
          own = self.packages.${pkgs.stdenv.hostPlatform.system};
        in
        {
          default = {
            type = "app";
            program = lib.getExe own.hv;
            meta.description = "Plan and install a virtualization host";
          };
          try = {
            type = "app";
            program = lib.getExe (
              pkgs.callPackage ./nix/packages/try.nix { iso = own.iso-minimal; }
            );
            meta.description = "Start the live medium in QEMU, with an empty disk";
          };
        }
      );

      templates = rec {
        default = host;
        host = {
          path = ./nix/templates/host;
          description = "A virtualization host, written by hand";
        };
      };

      checks = perSystem (
        pkgs:
        {
          inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) docs hv;
        }
        // import ./nix/checks {
          inherit
            lib
            nixpkgs
            pkgs
            self
            ;
        }
      );

      devShells = perSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.hv ];
          packages = [
            pkgs.mypy
            pkgs.nixfmt
            pkgs.ruff
            (pkgs.python3.withPackages (python: [
              python.hypothesis
              python.jsonschema
              python.mkdocs-material
              python.pytest
              python.pytest-xdist
              python.tree-sitter
              python.tree-sitter-grammars.tree-sitter-nix
            ]))
          ];
        };
      });

      formatter = perSystem (pkgs: pkgs.nixfmt);
    };
}
