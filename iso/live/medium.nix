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
    sources_only = !cfg.building.enable;
    closures = [ ];
    images = { };
  };
  cfg = config.hypervisor.medium;
  squashfs = {
    dev = "zstd -Xcompression-level 1";
    default = "zstd -Xcompression-level 6";
    release = "zstd -Xcompression-level 19";
  };
  tierNames = lib.attrNames (lib.importJSON ../../installer/answers/tiers.json);
  # Any host's system of a tier, for the processor that this medium is for.
  prebuilt =
    tier: self.nixosConfigurations."prebuilt-${tier}-${pkgs.stdenv.hostPlatform.parsed.cpu.name}".config;
  closures =
    lib.mapAttrs (_: toplevel: { inherit toplevel; }) cfg.closures
    // lib.genAttrs cfg.tiers (
      tier:
      let
        system = prebuilt tier;
      in
      {
        inherit (system.system.build) toplevel;
        inherit tier;
        modules = lib.unique (
          system.boot.initrd.availableKernelModules ++ system.boot.initrd.kernelModules
        );
      }
    );
  ready = lib.mapAttrsToList (
    name: closure:
    closure
    // {
      inherit name;
      toplevel = "${closure.toplevel}";
    }
  ) closures;
  infos = lib.mapAttrsToList (
    _: closure: pkgs.closureInfo { rootPaths = [ closure.toplevel ]; }
  ) closures;
in
{
  options.hypervisor.medium = {
    closures = lib.mkOption {
      type = lib.types.attrsOf lib.types.package;
      default = { };
      example = lib.literalExpression "{ kvm1 = self.nixosConfigurations.kvm1.config.system.build.toplevel; }";
      description = ''
        Systems of hosts that this medium carries whole, by the name that answers call them (`system.closure`). Such a
        host is installed without a network and without evaluating anything. Each is for one host: the file systems and
        the accounts in it are that host's.
      '';
    };
    compression = lib.mkOption {
      type = lib.types.enum (lib.attrNames squashfs);
      default = "default";
      example = "release";
      description = ''
        How the medium's squashfs is packed: `dev` in the shortest time, `release` into the fewest bytes, `default` between
        them. It is unpacked about equally fast in each case.
      '';
    };
    squashfs = lib.mkOption {
      type = lib.types.str;
      readOnly = true;
      internal = true;
      default = squashfs.${cfg.compression};
      description = "The same in mksquashfs's words.";
    };
    tiers = lib.mkOption {
      type = lib.types.listOf (lib.types.enum tierNames);
      default = [ ];
      example = [ "standard" ];
      description = ''
        Tiers of which this medium carries a system for any host, whole. Answers name it by its tier (`system.closure`);
        host name, file systems, network and people are files that the installer writes beside it. Hosts that need more
        than that are refused before anything is written; the manual's page on media lists what.
      '';
    };
  };

  config = {
    assertions = [
      {
        assertion = lib.intersectLists cfg.tiers (lib.attrNames cfg.closures) == [ ];
        message = ''
          hypervisor.medium.closures has a host that is called like a tier in hypervisor.medium.tiers:
          ${lib.concatStringsSep ", " (lib.intersectLists cfg.tiers (lib.attrNames cfg.closures))}. Give the host another name there.
        '';
      }
    ];
    # It refers to the sources and the systems, so that every medium has them in its store.
    environment.etc."hyper-nixos/medium.json".source =
      pkgs.runCommand "medium.json"
        {
          nativeBuildInputs = [ pkgs.buildPackages.jq ];
          description = builtins.toJSON medium;
          ready = builtins.toJSON ready;
          infos = map toString infos;
        }
        ''
          sizes=$(for info in $infos; do cat "$info/total-nar-size"; done | jq --slurp .)
          jq --null-input --argjson medium "$description" --argjson ready "$ready" --argjson sizes "$sizes" \
            '$medium + { closures: [ range($ready | length) as $n | $ready[$n] + { nar_size: $sizes[$n] } ] }' >"$out"
        '';
    # Where hosts have our flake too (hypervisor.source).
    environment.etc."hyper-nixos/flake".source = self;
  };
}
