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
  ready = lib.mapAttrsToList (name: toplevel: {
    inherit name;
    toplevel = "${toplevel}";
  }) config.hypervisor.medium.closures;
  infos = map (toplevel: pkgs.closureInfo { rootPaths = [ toplevel ]; }) (
    lib.attrValues config.hypervisor.medium.closures
  );
in
{
  options.hypervisor.medium.closures = lib.mkOption {
    type = lib.types.attrsOf lib.types.package;
    default = { };
    example = lib.literalExpression "{ kvm1 = self.nixosConfigurations.kvm1.config.system.build.toplevel; }";
    description = ''
      Systems of hosts that this medium carries whole, by the name that answers call them (`system.closure`). Such a host
      is installed without a network and without evaluating anything. Each is for one host: the file systems and the
      accounts in it are that host's.
    '';
  };

  config = {
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
