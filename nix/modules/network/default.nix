# networkd, a firewall that is always on, and the way out for guests of libvirt's own network.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
in
{
  options.hypervisor.network.guestBridges = lib.mkOption {
    type = lib.types.listOf lib.types.str;
    default = [ "virbr0" ];
    description = ''
      Bridges on which libvirt's dnsmasq serves guests. DHCP and DNS are opened there, and nothing else: with nftables
      the firewall would drop both.
    '';
  };

  config = lib.mkIf cfg.enable {
    networking = {
      useNetworkd = lib.mkDefault true;
      useDHCP = lib.mkDefault false;
      firewall.enable = lib.mkDefault true;
      nftables.enable = lib.mkDefault true;
      # Never the whole ruleset: loading it would wipe the tables that libvirt makes at run time.
      nftables.flushRuleset = lib.mkDefault false;
      firewall.interfaces = lib.genAttrs cfg.network.guestBridges (_: {
        allowedTCPPorts = [ 53 ];
        allowedUDPPorts = [
          53
          67
        ];
      });
    };
    # One link that works is a network; unplugged ports do not hold the boot up.
    systemd.network.wait-online.anyInterface = lib.mkDefault true;
  };
}
