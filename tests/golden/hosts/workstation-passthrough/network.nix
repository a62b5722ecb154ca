# The network.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  networking = {
    hostName = "studio";
    useNetworkd = true;
    useDHCP = false;
    domain = "example.org";
  };
  systemd.network = {
    enable = true;
    links."10-lan0" = {
      matchConfig.PermanentMACAddress = "04:42:1a:00:11:22";
      linkConfig.Name = "lan0";
    };
    netdevs."20-br0" = {
      netdevConfig = {
        Name = "br0";
        Kind = "bridge";
      };
      bridgeConfig.STP = false;
    };
    networks = {
      "40-lan0" = {
        matchConfig.PermanentMACAddress = "04:42:1a:00:11:22";
        networkConfig = {
          DHCP = "no";
          LinkLocalAddressing = "no";
          IPv6AcceptRA = false;
          Bridge = "br0";
        };
        linkConfig.RequiredForOnline = "enslaved";
      };
      "40-br0" = {
        matchConfig.Name = "br0";
        networkConfig = {
          DHCP = "yes";
          IPv6AcceptRA = true;
        };
      };
    };
  };
}
