# The network: systemd-networkd, zones, a firewall that is always on, and changes that take themselves back.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
in
{
  imports = [
    ./firewall.nix
    ./interfaces.nix
    ./revert.nix
    ./zones.nix
  ];

  options.hypervisor.network.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.hypervisor.enable";
    example = false;
    description = "Whether systemd-networkd and nftables make the host's network as {option}`hypervisor.network` says.";
  };

  config = lib.mkIf cfg.network.enable {
    networking = {
      useNetworkd = lib.mkDefault true;
      useDHCP = lib.mkDefault false;
      firewall.enable = lib.mkDefault true;
      nftables.enable = lib.mkDefault true;
      # Never the whole ruleset: loading it would wipe the tables that libvirt makes at run time. Stronger than a default,
      # because nixpkgs makes it one as soon as there is a `ruleset`.
      nftables.flushRuleset = lib.mkOverride 900 false;
    };
    # One link that works is a network; unplugged ports do not hold the boot up.
    systemd.network.wait-online.anyInterface = lib.mkDefault true;
  };
}
