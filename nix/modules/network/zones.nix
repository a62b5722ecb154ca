# Zones: who may reach what, by the interface that a packet comes in or goes out through.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.network;
  types = import ./types.nix { inherit lib; };
  inherit (config.networking) firewall;
  inherit (config.services) openssh;
  inherit (cfg) zones;
  inherit (zones) management;
  networkd = config.systemd.network;
  networks = lib.attrValues networkd.networks;
  list = lib.concatStringsSep ", ";
  asList = value: if lib.isList value then value else lib.splitString " " value;

  zone =
    { name, ... }:
    {
      options = {
        interfaces = lib.mkOption {
          type = lib.types.listOf types.interfaces;
          default = [ ];
          example = [ "lan0" ];
          description = ''
            Interfaces in this zone. An interface is in one zone at most; `podman*` stands for all that begin so. Of a bridge
            or bond it is the bridge or bond itself, not its members.
          '';
        };
        allow = lib.genAttrs [ "tcp" "udp" ] (
          protocol:
          lib.mkOption {
            type = lib.types.listOf lib.types.port;
            default = [ ];
            example = [ 9090 ];
            description = "${lib.toUpper protocol} ports of the host that this zone reaches.";
          }
        );
        forwardTo = lib.mkOption {
          type = lib.types.listOf lib.types.str;
          default =
            if name == "guests" then
              [
                "outside"
                "management"
              ]
            else
              [ ];
          defaultText = lib.literalMD "`[ \"outside\" \"management\" ]` for `guests`";
          example = [ "storage" ];
          description = "Zones that connections from this one are forwarded to. Answers always come back.";
        };
      };
    };

  # Every interface that the host's configuration knows by name, as networkd has it.
  renamed = lib.listToAttrs (
    lib.concatMap (
      link:
      map (mac: lib.nameValuePair mac (link.linkConfig.Name or "")) (
        asList (link.matchConfig.PermanentMACAddress or [ ])
      )
    ) (lib.attrValues networkd.links)
  );
  namesOf =
    network:
    asList (network.matchConfig.Name or [ ])
    ++ lib.filter (name: name != "") (
      map (mac: renamed.${mac} or "") (asList (network.matchConfig.PermanentMACAddress or [ ]))
    );
  networkdNames = lib.unique (
    map (netdev: netdev.netdevConfig.Name or "") (lib.attrValues networkd.netdevs)
    ++ map (link: link.linkConfig.Name or "") (lib.attrValues networkd.links)
    ++ lib.concatMap namesOf networks
  );
  known = networkdNames ++ cfg.guestBridges ++ cfg.otherInterfaces;
  isPattern = lib.hasSuffix "*";
  begins = pattern: name: isPattern pattern && lib.hasPrefix (lib.removeSuffix "*" pattern) name;
  overlap = left: right: left == right || begins left right || begins right left;

  placed = lib.concatLists (
    lib.mapAttrsToList (name: each: map (interface: { inherit name interface; }) each.interfaces) zones
  );
  unknown = lib.filter (
    place: !isPattern place.interface && !lib.any (overlap place.interface) known
  ) placed;
  clashes = lib.filter (
    place: lib.count (other: overlap place.interface other.interface) placed > 1
  ) placed;
  members = lib.concatMap (
    network: lib.optionals (network.networkConfig ? Bridge || network.networkConfig ? Bond) (namesOf network)
  ) networks;
  placedMembers = lib.filter (place: lib.elem place.interface members) placed;
  missingTargets = lib.concatLists (
    lib.mapAttrsToList (
      name: each: map (target: "${target} in zones.${name}.forwardTo") (lib.filter (target: !zones ? ${target}) each.forwardTo)
    ) zones
  );

  # Whether an interface has a way to an address, as far as networkd's configuration tells.
  addressed =
    interface:
    let
      its = lib.filter (network: lib.elem interface (namesOf network)) networks;
      has =
        network:
        !lib.elem (network.networkConfig.DHCP or "no") [
          "no"
          false
        ]
        || network.networkConfig ? Address
        || network.address or [ ] != [ ]
        || network.addresses or [ ] != [ ]
        || network.networkConfig.IPv6AcceptRA or true;
    in
    its == [ ] || lib.any has its;
  open = lib.any (port: lib.elem port firewall.allowedTCPPorts) openssh.ports;
  openOn =
    interface:
    lib.any (port: lib.elem port (firewall.interfaces.${interface}.allowedTCPPorts or [ ])) openssh.ports;
  # Without an interface of its own, management is what is in no zone: is anything?
  somethingLeft =
    networkdNames == [ ]
    || lib.any (network: namesOf network == [ ]) networks
    || lib.any (name: addressed name && !lib.any (place: overlap place.interface name) placed) networkdNames;
  reachable =
    if management.interfaces != [ ] then
      lib.any addressed management.interfaces
    else
      open && somethingLeft || lib.any openOn (lib.attrNames firewall.interfaces);
in
{
  options.hypervisor.network = {
    zones = lib.mkOption {
      type = lib.types.attrsOf (lib.types.submodule zone);
      default = { };
      example = {
        management.interfaces = [ "manage" ];
        storage.interfaces = [ "storage" ];
      };
      description = ''
        Zones, by name. Always there are:

        `outside`, every interface that is in no other zone: {option}`networking.firewall` says what it reaches.

        `management`: SSH besides. As long as it has no interface, {option}`services.openssh.openFirewall` opens SSH
        everywhere outside; once it has, SSH is open here alone.

        `guests`: guests of libvirt's own networks ({option}`hypervisor.network.guestBridges`) get addresses and names.

        `isolated`: nothing gets in or out, to other zones or to the host.

        In every zone but `outside` and `management` ports stay closed that {option}`networking.firewall` opens everywhere.
      '';
    };
    guestBridges = lib.mkOption {
      type = lib.types.listOf types.interface;
      default = [ "virbr0" ];
      example = [
        "virbr0"
        "virbr1"
      ];
      description = ''
        Bridges on which libvirt's dnsmasq serves guests; they are the zone `guests`. DHCP and DNS are opened there, and
        nothing else of the host.
      '';
    };
    otherInterfaces = lib.mkOption {
      type = lib.types.listOf types.interface;
      default = [ ];
      example = [ "wg0" ];
      description = "Interfaces that other programs make or the kernel names, so that zones may have them.";
    };
  };

  config = lib.mkIf cfg.enable {
    hypervisor.network.zones = {
      outside = { };
      management.allow.tcp = lib.mkIf openssh.enable openssh.ports;
      guests = {
        interfaces = cfg.guestBridges;
        allow.tcp = [ 53 ];
        allow.udp = [
          53
          67
          547
        ];
      };
      isolated = { };
      containers = lib.mkIf config.virtualisation.podman.enable {
        interfaces = [ "podman*" ];
        allow.udp = [ 53 ];
        # Containers of one network meet on its bridge, which is forwarding where bridges are filtered.
        forwardTo = [
          "containers"
          "management"
          "outside"
        ];
      };
    };
    # The port is opened by the zone then, and nowhere else.
    services.openssh.openFirewall = lib.mkIf (management.interfaces != [ ]) (lib.mkDefault false);

    assertions = [
      {
        assertion = unknown == [ ];
        message = ''
          There is no such interface: ${
            list (map (place: "${place.interface} in hypervisor.network.zones.${place.name}.interfaces") unknown)
          }. Correct the name, declare the interface in hypervisor.network or systemd.network, or, if another program makes
          it, name it in hypervisor.network.otherInterfaces.
        '';
      }
      {
        assertion = clashes == [ ];
        message = ''
          An interface is in two zones: ${
            list (lib.unique (map (place: "${place.interface} (${place.name})") clashes))
          }. Take it out of one of them in hypervisor.network.zones.
        '';
      }
      {
        assertion = placedMembers == [ ];
        message = ''
          A member of a bridge or bond is in a zone: ${
            list (map (place: "${place.interface} (${place.name})") placedMembers)
          }. Packets come in through the bridge or bond: name that in hypervisor.network.zones instead.
        '';
      }
      {
        assertion = missingTargets == [ ];
        message = ''
          There is no such zone: ${list missingTargets} (hypervisor.network). The zones are ${list (lib.attrNames zones)}.
        '';
      }
      {
        assertion = zones.outside.interfaces == [ ] && zones.outside.allow.tcp ++ zones.outside.allow.udp == [ ];
        message = ''
          hypervisor.network.zones.outside is what is in no other zone: it has no interfaces of its own, and its ports are
          networking.firewall.allowedTCPPorts and allowedUDPPorts. Only its forwardTo can be set.
        '';
      }
      {
        assertion = openssh.enable && firewall.enable -> reachable;
        message = ''
          Nobody could reach this host's SSH server (port ${list (map toString openssh.ports)}): ${
            if management.interfaces != [ ] then
              "no interface of hypervisor.network.zones.management has an address"
            else if open then
              "every interface is in a zone without SSH"
            else
              "no firewall rule lets it in"
          }. Give hypervisor.network.zones.management the interface, with an address, that you administer the host through.
        '';
      }
    ];
  };
}
