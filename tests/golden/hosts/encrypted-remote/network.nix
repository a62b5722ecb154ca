# The network.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  networking = {
    hostName = "kvm5";
    useNetworkd = true;
    useDHCP = false;
  };
  systemd.network = {
    enable = true;
    links."10-lan0" = {
      matchConfig.PermanentMACAddress = "52:54:00:12:34:56";
      linkConfig.Name = "lan0";
    };
    netdevs."20-manage" = {
      netdevConfig = {
        Name = "manage";
        Kind = "vlan";
      };
      vlanConfig.Id = 20;
    };
    networks = {
      "40-lan0" = {
        matchConfig.PermanentMACAddress = "52:54:00:12:34:56";
        networkConfig = {
          DHCP = "no";
          LinkLocalAddressing = "no";
          IPv6AcceptRA = false;
          VLAN = [ "manage" ];
        };
        linkConfig.RequiredForOnline = "no";
      };
      "40-manage" = {
        matchConfig.Name = "manage";
        networkConfig = {
          DHCP = "no";
          IPv6AcceptRA = false;
          Address = [ "192.0.2.20/24" ];
          Gateway = [ "192.0.2.1" ];
        };
      };
    };
  };
}
