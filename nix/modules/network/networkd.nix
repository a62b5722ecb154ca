# What hypervisor.network.{links,bonds,vlans,bridges,isolatedBridges} means to systemd-networkd: the same names and keys
# that the installer renders into network.nix (installer/render/network.py); a test holds the two together.
{ lib, asked }:
let
  inherit (asked)
    bonds
    bridges
    links
    vlans
    ;
  # What a bonding mode needs besides its name.
  bondConfig = {
    "802.3ad" = {
      LACPTransmitRate = "fast";
      TransmitHashPolicy = "layer3+4";
    };
    balance-xor.TransmitHashPolicy = "layer3+4";
  };
  ownerOf = made: name: lib.findFirst (owner: lib.elem name made.${owner}.members) null (lib.attrNames made);
  given = lib.filterAttrs (_: value: value != null && value != [ ] && value != { });

  matchOf =
    name:
    let
      mac = links.${name}.mac or null;
    in
    # By the permanent address where it is known: it stays when a bond gives its members its own, and the network still
    # works should the interface not have been renamed.
    if mac != null then { PermanentMACAddress = lib.toLower mac; } else { Name = name; };

  network =
    name:
    { addressing, ... }:
    let
      bond = ownerOf bonds name;
      bridge = if bond == null then ownerOf bridges name else null;
      empty = bridges ? ${name} && bridges.${name}.members == [ ];
      unaddressed = {
        DHCP = "no";
        LinkLocalAddressing = "no";
        IPv6AcceptRA = false;
      };
      addressed = {
        DHCP = addressing.dhcp;
        IPv6AcceptRA = addressing.acceptRA;
      }
      // given {
        Address = addressing.addresses;
        Gateway = addressing.gateways;
        DNS = addressing.dns;
        Domains = addressing.domains;
      };
      required =
        if bond != null || bridge != null then
          "enslaved"
        else if empty || addressing == null then
          "no"
        else
          null;
    in
    {
      matchConfig = matchOf name;
      networkConfig =
        (if addressing == null then unaddressed else addressed)
        // given {
          Bond = bond;
          Bridge = bridge;
          VLAN = lib.attrNames (lib.filterAttrs (_: vlan: vlan.link == name) vlans);
        }
        # It has no carrier before the first guest is plugged in.
        // lib.optionalAttrs empty { ConfigureWithoutCarrier = true; };
    }
    // given {
      linkConfig = given {
        MTUBytes = if addressing == null || addressing.mtu == null then null else toString addressing.mtu;
        RequiredForOnline = required;
      };
      routes = lib.mapAttrsToList (to: via: {
        Destination = to;
        Gateway = via;
      }) (if addressing == null then { } else addressing.routes);
    };

  prefixed = prefix: lib.mapAttrs' (name: lib.nameValuePair "${prefix}-${name}");
  made =
    kind: more:
    lib.mapAttrs (
      name: interface:
      {
        netdevConfig = {
          Name = name;
          Kind = kind;
        };
      }
      // more interface
    );
in
{
  links = prefixed "10" (
    lib.mapAttrs (name: _: {
      matchConfig = matchOf name;
      linkConfig.Name = name;
    }) (lib.filterAttrs (_: link: link.mac != null) links)
  );

  netdevs = prefixed "20" (
    made "bond" (bond: {
      bondConfig = {
        Mode = bond.mode;
        MIIMonitorSec = "100ms";
      }
      // bondConfig.${bond.mode} or { };
    }) bonds
    // made "vlan" (vlan: { vlanConfig.Id = vlan.id; }) vlans
    // made "bridge" (bridge: { bridgeConfig.STP = bridge.stp; }) bridges
  );

  networks = prefixed "40" (lib.mapAttrs network (links // bonds // vlans // bridges));
}
