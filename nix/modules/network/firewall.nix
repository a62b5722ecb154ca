# The firewall: NixOS's own table (nixos-fw) lets in what is open, and a table of ours beside it, `inet hyper-nixos`, holds
# zones apart and forwards for guests. A packet passes when every table lets it pass; a drop in one is final. Neither
# flushes what others made: libvirt's tables, netavark's.
#
# A clean room: the table `hyper-nixos-guests`, in any family, is kept for rules of single guests. Nothing here makes,
# loads or deletes it, so that whatever writes it as guests come and go is not disturbed by a rebuild.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.network;
  inherit (cfg) firewall zones;
  inherit (config.services) openssh;
  reserved = [
    "hyper-nixos-guests"
    "libvirt_network"
    "netavark"
  ];

  quoted = names: lib.concatMapStringsSep ", " (name: ''"${name}"'') names;
  ports = numbers: lib.concatMapStringsSep ", " toString (lib.sort lib.lessThan (lib.unique numbers));
  lines = lib.concatStringsSep "\n";
  chain =
    name: rules:
    lines (
      [ "chain ${name} {" ] ++ map (rule: "  ${rule}") (lib.filter (rule: rule != "") rules) ++ [ "}" ]
    );
  set =
    name: interfaces:
    lines (
      [
        "set ${name} {"
        "  type ifname"
        "  flags interval"
      ]
      ++ lib.optional (interfaces != [ ]) "  elements = { ${quoted (lib.unique interfaces)} }"
      ++ [ "}" ]
    );

  # Zones with interfaces, without `outside`, which is the rest.
  named = lib.filterAttrs (name: _: name != "outside") zones;
  closed = lib.removeAttrs named [
    "isolated"
    "management"
  ];
  forwarding = lib.filterAttrs (name: zone: name != "isolated" && zone.forwardTo != [ ]) zones;
  from = name: if name == "outside" then "iifname != @inside" else "iifname @zone-${name}";
  to = name: if name == "outside" then "oifname != @inside" else "oifname @zone-${name}";

  # Frames between two ports of one bridge: only where bridges are filtered like routers (br_netfilter, which container
  # programs load) do they come by here, and then they are none of a router's business.
  bridges = lib.unique (
    lib.concatMap (
      netdev: lib.optional (netdev.netdevConfig.Kind or "" == "bridge") netdev.netdevConfig.Name
    ) (lib.attrValues config.systemd.network.netdevs)
    ++ cfg.guestBridges
  );
  sameBridge = lib.optionalString (bridges != [ ]) (
    "iifname . oifname { "
    + lib.concatMapStringsSep ", " (bridge: ''"${bridge}" . "${bridge}"'') bridges
    + " } accept"
  );

  log =
    what:
    lib.optionalString firewall.logRefused ''limit rate 10/second burst 20 packets log prefix "refused ${what}: " level info'';
  # Errors, neighbours and listeners always; whether pings are answered is networking.firewall.allowPing's to say.
  icmpv6 =
    name:
    "icmpv6 type { "
    + lib.concatStringsSep ", " [
      "destination-unreachable"
      "packet-too-big"
      "time-exceeded"
      "parameter-problem"
      "echo-request"
      "nd-neighbor-solicit"
      "nd-neighbor-advert"
      "mld-listener-query"
      "mld-listener-report"
      "mld-listener-done"
      "mld2-listener-report"
      # Guests ask for a router, they are none.
      (if name == "guests" then "nd-router-solicit" else "nd-router-advert")
    ]
    + " } accept";
  inputOf =
    name: zone:
    chain "input-${name}" [
      (icmpv6 name)
      "icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request } accept"
      # The answer to a DHCPv6 client comes from another address than it asked.
      (lib.optionalString (name != "guests") "ip6 daddr fe80::/64 udp dport 546 accept")
      (lib.optionalString (zone.allow.tcp != [ ]) "tcp dport { ${ports zone.allow.tcp} } accept")
      (lib.optionalString (zone.allow.udp != [ ]) "udp dport { ${ports zone.allow.udp} } accept")
      (log "from ${name}")
      "drop"
    ];

  limited = firewall.rateLimitSSH != null && openssh.enable;
  limit =
    family:
    "ct state new tcp dport { ${ports openssh.ports} } update @ssh-${family} { ${family} saddr limit rate over ${firewall.rateLimitSSH} burst 5 packets } drop";
  sources =
    family: type:
    lines [
      "set ssh-${family} {"
      "  type ${type}"
      "  size 65536"
      "  flags dynamic,timeout"
      "  timeout 5m"
      "}"
    ];
in
{
  options.hypervisor.network.firewall = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = config.networking.firewall.enable;
      defaultText = lib.literalExpression "config.networking.firewall.enable";
      example = false;
      description = ''
        Whether zones are held apart and nothing is forwarded but what their `forwardTo` names (table `inet hyper-nixos`).
      '';
    };
    logRefused = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether what zones refuse is written to the kernel's log, at most ten lines a second
        ({command}`journalctl --dmesg --grep refused`). Security profiles set it;
        {option}`networking.firewall.logRefusedConnections` is the same for interfaces outside.
      '';
    };
    rateLimitSSH = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "[1-9][0-9]*/(second|minute|hour)");
      default = null;
      example = "10/minute";
      description = ''
        How many new SSH connections one address may open, after a first five; `null` for no limit. Counted for each
        source address alone, so that nobody is kept out by what others do, and forgotten after five quiet minutes.
        Security profiles set it.
      '';
    };
  };

  config = lib.mkIf (cfg.enable && firewall.enable) {
    networking.firewall.interfaces = lib.mkMerge (
      lib.concatMap (
        zone:
        map (interface: {
          ${interface} = {
            allowedTCPPorts = zone.allow.tcp;
            allowedUDPPorts = zone.allow.udp;
          };
        }) zone.interfaces
      ) (lib.attrValues (lib.removeAttrs named [ "isolated" ]))
    );

    networking.nftables.tables.hyper-nixos = {
      family = "inet";
      content = lines (
        lib.mapAttrsToList (name: zone: set "zone-${name}" zone.interfaces) named
        ++ [ (set "inside" (lib.concatMap (zone: zone.interfaces) (lib.attrValues named))) ]
        ++ lib.optionals limited [
          (sources "ip" "ipv4_addr")
          (sources "ip6" "ipv6_addr")
        ]
        ++ [
          (chain "input" (
            [
              "type filter hook input priority filter; policy accept;"
              "iifname @zone-isolated drop"
              "ct state established,related accept"
            ]
            ++ lib.optionals limited [
              (limit "ip")
              (limit "ip6")
            ]
            ++ map (name: "${from name} jump input-${name}") (lib.attrNames closed)
          ))
          (chain "output" [
            "type filter hook output priority filter; policy accept;"
            "oifname @zone-isolated drop"
          ])
          (chain "forward" (
            [
              "type filter hook forward priority filter; policy drop;"
              sameBridge
              # The same for the bridges of whom a system for many hosts cannot know; a pattern that fits no file is none.
              (lib.optionalString config.hypervisor.prebuilt.enable ''include "/var/lib/hyper-nixos/host/forward*.nft"'')
              "iifname @zone-isolated drop"
              "oifname @zone-isolated drop"
              "ct state vmap { established : accept, related : accept, invalid : drop }"
              ''ct status dnat accept comment "ports that the host or a container program forwards"''
            ]
            ++ lib.concatLists (
              lib.mapAttrsToList (
                name: zone: map (target: "${from name} ${to target} accept") zone.forwardTo
              ) forwarding
            )
            ++ [ (log "forward") ]
          ))
        ]
        ++ lib.mapAttrsToList inputOf closed
      );
    };

    assertions = [
      {
        assertion = !config.networking.nftables.flushRuleset;
        message = ''
          networking.nftables.flushRuleset would wipe the tables that libvirt makes, and guests would lose their network at
          the next rebuild. Take that line out; rules of your own stand best in networking.nftables.tables, which are replaced
          one by one.
        '';
      }
      {
        assertion = config.networking.nftables.enable;
        message = ''
          hypervisor.network.firewall needs nftables, but networking.nftables.enable is false. Take that line out, or set
          hypervisor.network.firewall.enable = false and write rules of your own.
        '';
      }
      {
        assertion = !config.networking.firewall.filterForward;
        message = ''
          networking.firewall.filterForward would refuse the guests' traffic that hypervisor.network forwards. Take it out:
          the zones' forwardTo says what is forwarded, and all else is refused.
        '';
      }
      {
        assertion = !lib.any (table: lib.elem table.name reserved) (
          lib.attrValues config.networking.nftables.tables
        );
        message = ''
          networking.nftables.tables has one of ${lib.concatStringsSep ", " reserved}: these names belong to programs that
          write them while guests and containers run, and every rebuild would wipe them. Choose another name.
        '';
      }
    ];
  };
}
