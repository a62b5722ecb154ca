# The network.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  networking = {
    hostName = "hv-01";
    useNetworkd = true;
    useDHCP = false;
    domain = "example.org";
    nameservers = [ "2001:db8::53" ];
    timeServers = [ "ntp.example.org" ];
  };
  systemd.network = {
    enable = true;
    links = {
      "10-lan0" = {
        matchConfig.PermanentMACAddress = "52:54:00:aa:bb:01";
        linkConfig.Name = "lan0";
      };
      "10-lan1" = {
        matchConfig.PermanentMACAddress = "52:54:00:aa:bb:02";
        linkConfig.Name = "lan1";
      };
      "10-mgmt0" = {
        matchConfig.PermanentMACAddress = "52:54:00:aa:bb:03";
        linkConfig.Name = "mgmt0";
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
      "20-storage" = {
        netdevConfig = {
          Name = "storage";
          Kind = "vlan";
        };
        vlanConfig.Id = 30;
      };
      "20-br0" = {
        netdevConfig = {
          Name = "br0";
          Kind = "bridge";
        };
        bridgeConfig.STP = false;
      };
      "20-isolated" = {
        netdevConfig = {
          Name = "isolated";
          Kind = "bridge";
        };
        bridgeConfig.STP = true;
      };
    };
    networks = {
      "40-lan0" = {
        matchConfig.PermanentMACAddress = "52:54:00:aa:bb:01";
        networkConfig = {
          DHCP = "no";
          LinkLocalAddressing = "no";
          IPv6AcceptRA = false;
          Bond = "bond0";
        };
        linkConfig.RequiredForOnline = "enslaved";
      };
      "40-lan1" = {
        matchConfig.PermanentMACAddress = "52:54:00:aa:bb:02";
        networkConfig = {
          DHCP = "no";
          LinkLocalAddressing = "no";
          IPv6AcceptRA = false;
          Bond = "bond0";
        };
        linkConfig.RequiredForOnline = "enslaved";
      };
      "40-mgmt0" = {
        matchConfig.PermanentMACAddress = "52:54:00:aa:bb:03";
        networkConfig = {
          DHCP = "ipv4";
          IPv6AcceptRA = false;
        };
      };
      "40-bond0" = {
        matchConfig.Name = "bond0";
        networkConfig = {
          DHCP = "no";
          LinkLocalAddressing = "no";
          IPv6AcceptRA = false;
          Bridge = "br0";
          VLAN = [ "storage" ];
        };
        linkConfig.RequiredForOnline = "enslaved";
      };
      "40-storage" = {
        matchConfig.Name = "storage";
        networkConfig = {
          DHCP = "no";
          IPv6AcceptRA = true;
          Address = [ "10.30.0.2/24" ];
        };
        linkConfig.MTUBytes = "9000";
      };
      "40-br0" = {
        matchConfig.Name = "br0";
        networkConfig = {
          DHCP = "no";
          IPv6AcceptRA = true;
          Address = [
            "192.0.2.10/24"
            "2001:db8::10/64"
          ];
          Gateway = [
            "192.0.2.1"
            "2001:db8::1"
          ];
          DNS = [ "192.0.2.53" ];
          Domains = [ "example.org" ];
        };
        routes = [
          {
            Destination = "10.0.0.0/8";
            Gateway = "192.0.2.2";
          }
        ];
      };
      "40-isolated" = {
        matchConfig.Name = "isolated";
        networkConfig = {
          DHCP = "no";
          LinkLocalAddressing = "no";
          IPv6AcceptRA = false;
          ConfigureWithoutCarrier = true;
        };
        linkConfig.RequiredForOnline = "no";
      };
    };
  };
}
