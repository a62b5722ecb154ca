# Interfaces by what they are: links, bonds, VLANs, bridges. All of it becomes systemd-networkd's own configuration, beside
# what a host file says in systemd.network.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.network;
  types = import ./types.nix { inherit lib; };
  made = import ./networkd.nix {
    inherit lib;
    asked = {
      inherit (cfg) bonds links vlans;
      bridges =
        cfg.bridges
        // lib.genAttrs cfg.isolatedBridges (_: {
          members = [ ];
          stp = false;
          addressing = null;
        });
    };
  };
  networkd = config.systemd.network;

  repeated = list: lib.unique (lib.filter (element: lib.count (other: other == element) list > 1) list);
  list = lib.concatStringsSep ", ";
  asList = value: if lib.isList value then value else lib.splitString " " value;

  # From what networkd is given, wherever it was declared.
  macs = lib.concatMap (
    link: map lib.toLower (asList (link.matchConfig.PermanentMACAddress or link.matchConfig.MACAddress or [ ]))
  ) (lib.attrValues networkd.links);
  netdevNames = map (netdev: netdev.netdevConfig.Name or "") (lib.attrValues networkd.netdevs);
  missingNetdevs = lib.subtractLists netdevNames (
    lib.concatMap (
      network:
      lib.concatMap (key: asList (network.networkConfig.${key} or [ ])) [
        "Bond"
        "Bridge"
        "VLAN"
      ]
    ) (lib.attrValues networkd.networks)
  );

  # From the options.
  names =
    lib.concatMap lib.attrNames [
      cfg.links
      cfg.bonds
      cfg.vlans
      cfg.bridges
    ]
    ++ cfg.isolatedBridges;
  members = lib.concatMap (made: made.members) (lib.attrValues cfg.bonds ++ lib.attrValues cfg.bridges);
  unknown = lib.subtractLists (names ++ netdevNames) (
    lib.unique (members ++ map (vlan: vlan.link) (lib.attrValues cfg.vlans))
  );
  addressedMembers = lib.filter (
    name: (cfg.links // cfg.bonds // cfg.vlans // cfg.bridges).${name}.addressing or null != null
  ) members;
  sameVlan = repeated (
    map (vlan: "VLAN ${toString vlan.id} on ${vlan.link}") (lib.attrValues cfg.vlans)
  );
in
{
  options.hypervisor.network = {
    links = lib.mkOption {
      type = lib.types.attrsOf (
        lib.types.submodule {
          options = {
            mac = lib.mkOption {
              type = lib.types.nullOr types.mac;
              default = null;
              example = "52:54:00:12:34:56";
              description = ''
                Permanent MAC address of the interface, which is renamed to this option's name. `ip -details link` shows it
                as `permaddr`, or as `link/ether` where there is no `permaddr`. With `null` the name is the kernel's own.
              '';
            };
            addressing = types.addressed;
          };
        }
      );
      default = { };
      example.lan0.mac = "52:54:00:12:34:56";
      description = "Physical interfaces, by name.";
    };

    bonds = lib.mkOption {
      type = lib.types.attrsOf (
        lib.types.submodule {
          options = {
            members = lib.mkOption {
              type = lib.types.nonEmptyListOf types.interface;
              example = [
                "lan0"
                "lan1"
              ];
              description = "Names of its links.";
            };
            mode = lib.mkOption {
              type = lib.types.enum [
                "802.3ad"
                "active-backup"
                "balance-alb"
                "balance-xor"
              ];
              default = "active-backup";
              example = "802.3ad";
              description = "How it spreads frames; `802.3ad` and `balance-xor` need a switch that is set up for it.";
            };
            addressing = types.addressed;
          };
        }
      );
      default = { };
      example.bond0.members = [
        "lan0"
        "lan1"
      ];
      description = "Several links as one, by name.";
    };

    vlans = lib.mkOption {
      type = lib.types.attrsOf (
        lib.types.submodule {
          options = {
            id = lib.mkOption {
              type = lib.types.ints.between 1 4094;
              example = 20;
              description = "Its number on the wire (IEEE 802.1Q).";
            };
            link = lib.mkOption {
              type = types.interface;
              example = "bond0";
              description = "The interface that it runs over.";
            };
            addressing = types.addressed;
          };
        }
      );
      default = { };
      example.storage = {
        id = 20;
        link = "bond0";
      };
      description = "VLANs, by name.";
    };

    bridges = lib.mkOption {
      type = lib.types.attrsOf (
        lib.types.submodule {
          options = {
            members = lib.mkOption {
              type = lib.types.listOf types.interface;
              default = [ ];
              example = [ "bond0" ];
              description = "Names of links, bonds or VLANs plugged in for good; guests are plugged in as they start.";
            };
            stp = lib.mkOption {
              type = lib.types.bool;
              default = false;
              example = true;
              description = "Whether it speaks the spanning tree protocol.";
            };
            addressing = types.addressed;
          };
        }
      );
      default = { };
      example.br0.members = [ "lan0" ];
      description = "Switches that guests can be plugged into, by name.";
    };

    isolatedBridges = lib.mkOption {
      type = lib.types.listOf types.interface;
      default = [ ];
      example = [ "lab0" ];
      description = ''
        Switches with no way out and no way in: guests on one see each other and nothing else, not even the host.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    systemd.network = { inherit (made) links netdevs networks; };
    hypervisor.network.zones.isolated.interfaces = cfg.isolatedBridges;

    assertions = [
      {
        assertion = repeated macs == [ ];
        message = ''
          Two interfaces would get their name from the same MAC address: ${list (repeated macs)}. Give each link its own;
          `ip -details link` shows them as permaddr, or as link/ether where there is no permaddr.
        '';
      }
      {
        assertion = repeated names == [ ];
        message = ''
          hypervisor.network has more than one interface named ${list (repeated names)}. Names are shared by links, bonds,
          vlans, bridges and isolatedBridges: choose another for one of them.
        '';
      }
      {
        assertion = repeated members == [ ];
        message = ''
          hypervisor.network: ${list (repeated members)} cannot be a member twice. An interface belongs to one bond or one
          bridge: take it out of the other.
        '';
      }
      {
        assertion = unknown == [ ];
        message = ''
          hypervisor.network: ${list unknown} is named as a member or a VLAN's link, but there is no such interface. Add it
          to links, bonds, vlans or bridges, or correct the name.
        '';
      }
      {
        assertion = addressedMembers == [ ];
        message = ''
          hypervisor.network: ${list addressedMembers} has addresses and is a member too. Members have none: move
          `addressing` to the bond or bridge.
        '';
      }
      {
        assertion = sameVlan == [ ];
        message = ''
          hypervisor.network.vlans has ${list sameVlan} more than once. Give each its own id, or run one of them over another
          link.
        '';
      }
      {
        assertion = missingNetdevs == [ ];
        message = ''
          systemd.network.networks names ${list missingNetdevs} as Bond=, Bridge= or VLAN=, but no netdev makes it. Add it to
          hypervisor.network.bonds, vlans or bridges, or to systemd.network.netdevs.
        '';
      }
    ];
  };
}
