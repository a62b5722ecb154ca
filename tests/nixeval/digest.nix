# What a rendered host becomes in each phase, as plain values by name: a function of the evaluated host.
host:
let
  inherit (host.pkgs) lib;
  set = names: lib.genAttrs names (_: true);
  on = lib.filterAttrs (_: each: each.enable);
  # "off", or what wants it.
  wanted =
    unit:
    if unit.enable then
      lib.concatStringsSep " " (lib.sort lib.lessThan (lib.unique (unit.wantedBy ++ unit.requiredBy)))
    else
      "off";
  ports =
    prefix: firewall:
    let
      of =
        protocol: list: ranges:
        map (port: "${prefix}${protocol} ${toString port}") list
        ++ map (range: "${prefix}${protocol} ${toString range.from}-${toString range.to}") ranges;
    in
    of "tcp" firewall.allowedTCPPorts firewall.allowedTCPPortRanges
    ++ of "udp" firewall.allowedUDPPorts firewall.allowedUDPPortRanges;

  digest = config: {
    etc = set (lib.attrNames (on config.environment.etc));
    groups = lib.mapAttrs (_: group: lib.concatStringsSep " " (lib.sort lib.lessThan group.members)) config.users.groups;
    kernelModules = set config.boot.kernelModules;
    kernelModulesBlacklisted = set config.boot.blacklistedKernelModules;
    kernelModulesInitrd = set config.boot.initrd.kernelModules;
    kernelParameters = set config.boot.kernelParams;
    nftables = lib.mapAttrs (_: table: table.family) (on config.networking.nftables.tables);
    polkit = {
      rules = config.security.polkit.extraConfig;
    };
    ports = set (
      ports "" config.networking.firewall
      ++ lib.concatLists (
        lib.mapAttrsToList (name: ports "${name} ") config.networking.firewall.interfaces
      )
    );
    specialisations = set (lib.attrNames config.specialisation);
    sysctl = lib.filterAttrs (_: value: value != null) (
      lib.mapAttrs (_: value: value) config.boot.kernel.sysctl
    );
    units = lib.mapAttrs (_: wanted) config.systemd.units;
    unitsInitrd = lib.mapAttrs (_: wanted) config.boot.initrd.systemd.units;
    users = lib.mapAttrs (
      _: user: lib.concatStringsSep " " (lib.sort lib.lessThan ([ user.group ] ++ user.extraGroups))
    ) config.users.users;
    wrappers = lib.mapAttrs (
      _: wrapper:
      lib.concatStringsSep " " (
        [ "${wrapper.owner}:${wrapper.group}" ]
        ++ lib.optional wrapper.setuid "setuid"
        ++ lib.optional wrapper.setgid "setgid"
        ++ lib.optional (wrapper.capabilities != "") wrapper.capabilities
      )
    ) (on config.security.wrappers);
  };

  inherit (host) config;
  of =
    phase:
    if config.hypervisor.phase == phase then
      config
    else
      config.specialisation.${phase}.configuration;
in
{
  # Everything that would be built, the specialisations too, is evaluated for it.
  toplevel = config.system.build.toplevel.drvPath;
  platform = config.nixpkgs.hostPlatform.system;
  phases = {
    setup = digest (of "setup");
    hardened = digest (of "hardened");
  };
}
