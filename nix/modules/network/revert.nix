# A change made remotely takes itself back unless it is confirmed (hv/guard). NixOS's check before a switch arms the timer;
# what runs then is remembered as a whole system, to which the timer goes back.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
  inherit (cfg.network) revert;
  inherit (config.networking) nftables;
  inherit (config.services) openssh;

  # What decides who gets in over the network: two systems that agree in this have the same network.
  description = {
    networkd = lib.mapAttrs (_: unit: unit.text) config.systemd.network.units;
    netdevs = lib.mapAttrsToList (_: netdev: netdev.netdevConfig.Name) config.systemd.network.netdevs;
    nftables = lib.optionalAttrs nftables.enable {
      inherit (nftables) ruleset;
      tables = lib.mapAttrs (_: table: { inherit (table) content family; }) (
        lib.filterAttrs (_: table: table.enable) nftables.tables
      );
    };
    ssh = lib.optionalAttrs openssh.enable {
      inherit (openssh) listenAddresses ports;
      settings = lib.filterAttrs (_: value: value != null) openssh.settings;
    };
  };
in
{
  options.hypervisor.network.revert = {
    when = lib.mkOption {
      type = lib.types.enum [
        "remote"
        "always"
        "never"
      ];
      default = "remote";
      example = "always";
      description = ''
        Which switches to a system with another network have to be confirmed with {command}`hv net confirm`: those made
        while somebody is logged in over SSH, all (for those who come in by other roads than SSH, mosh for one), or none.
        `nixos-rebuild boot`, which changes nothing yet, never has to.
      '';
    };
    seconds = lib.mkOption {
      type = lib.types.ints.between 60 86400;
      default = 600;
      example = 180;
      description = "How long the new network has before it goes back.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.network.enable && revert.when != "never") {
    environment.etc."hyper-nixos/network.json".text = builtins.toJSON description;

    system.preSwitchChecks.hyper-nixos-network = ''
      ${cfg.package}/bin/hv net guard "''${1-}" "''${2-}" --when ${revert.when} --seconds ${toString revert.seconds} \
        --program ${cfg.package}/bin/hv
    '';
  };
}
