# The network.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  networking = {
    hostName = "kvm1";
    useNetworkd = true;
    useDHCP = false;
    domain = "example.org";
    timeServers = [
      "ntp1.example.org"
      "ntp2.example.org"
    ];
  };
  systemd.network = {
    enable = true;
    links = {
      "10-lan0" = {
        matchConfig.PermanentMACAddress = "52:54:00:00:00:01";
        linkConfig.Name = "lan0";
      };
      "10-lan1" = {
        matchConfig.PermanentMACAddress = "52:54:00:00:00:02";
        linkConfig.Name = "lan1";
      };
    };
    netdevs = {
      "20-bond0" = {
        netdevConfig = {
          Name = "bond0";
          Kind = "bond";
        };
        bondConfig = {
          Mode = "802.3ad";
          MIIMonitorSec = "100ms";
          LACPTransmitRate = "fast";
          TransmitHashPolicy = "layer3+4";
        };
      };
      "20-manage" = {
        netdevConfig = {
          Name = "manage";
          Kind = "vlan";
        };
        vlanConfig.Id = 20;
      };
    };
    networks = {
      "40-lan0" = {
        matchConfig.PermanentMACAddress = "52:54:00:00:00:01";
        networkConfig = {
          DHCP = "no";
          LinkLocalAddressing = "no";
          IPv6AcceptRA = false;
          Bond = "bond0";
        };
        linkConfig.RequiredForOnline = "enslaved";
      };
      "40-lan1" = {
        matchConfig.PermanentMACAddress = "52:54:00:00:00:02";
        networkConfig = {
          DHCP = "no";
          LinkLocalAddressing = "no";
          IPv6AcceptRA = false;
          Bond = "bond0";
        };
        linkConfig.RequiredForOnline = "enslaved";
      };
      "40-bond0" = {
        matchConfig.Name = "bond0";
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
          Address = [
            "192.0.2.10/24"
            "2001:db8:20::10/64"
          ];
          Gateway = [
            "192.0.2.1"
            "2001:db8:20::1"
          ];
          DNS = [
            "192.0.2.53"
            "2001:db8:20::53"
          ];
          Domains = [ "example.org" ];
        };
      };
    };
  };
}
