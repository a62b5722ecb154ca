# What a configuration makes of its host, as far as a migration must keep it: a function of an evaluated system
# ({ config, options, lib, … }). Passwords are told by their kind alone.
host:
let
  inherit (host) config options;
  # <nixpkgs/nixos> hands out no `lib`.
  lib = host.lib or host.pkgs.lib;
  inherit (config) boot networking services users;
  virtualisation = config.virtualisation;
  plain = value: builtins.unsafeDiscardStringContext (toString value);
  # Options that some releases lack, or keep as a stub that throws.
  on =
    path:
    let
      tried = builtins.tryEval (lib.attrByPath path false config);
    in
    tried.success && tried.value;
  there = filter: from: lib.attrNames (lib.filterAttrs filter from);
  range = { from, to }: "${toString from}-${toString to}";
  opened =
    where: given:
    map (port: "${where}tcp ${toString port}") (given.allowedTCPPorts ++ map range given.allowedTCPPortRanges)
    ++ map (port: "${where}udp ${toString port}") (given.allowedUDPPorts ++ map range given.allowedUDPPortRanges);
  addresses = map ({ address, prefixLength, ... }: "${address}/${toString prefixLength}");
  gateway = given: if given == null then null else given.address or (plain given);
  failed = map (each: each.message) (lib.filter (each: !each.assertion) config.assertions);
  set = value: value != null && value != "";
in
{
  version = 1;
  # A system with failed assertions has none.
  toplevel = if failed == [ ] then plain config.system.build.toplevel else "";
  hyper_nixos = config.hypervisor.enable or false;
  release = config.system.nixos.release;
  state_version = config.system.stateVersion;
  # Where the host's own files say who it is: the most telling first.
  definers = lib.unique (
    map plain (
      options.networking.hostName.files ++ options.system.stateVersion.files ++ options.fileSystems.files
    )
  );
  packages = lib.unique (map (each: each.name or "?") config.environment.systemPackages);
  units = there (_: unit: unit.enable) config.systemd.units;
  ports = lib.unique (
    opened "" networking.firewall
    ++ lib.concatLists (
      lib.mapAttrsToList (name: opened "${name} ") networking.firewall.interfaces
    )
  );
  firewall = {
    enable = networking.firewall.enable;
    nftables = networking.nftables.enable;
  };
  users = lib.mapAttrs (_: user: {
    normal = user.isNormalUser;
    uid = user.uid;
    group = user.group;
    groups = lib.sort lib.lessThan (
      lib.unique (
        user.extraGroups ++ there (_: group: lib.elem user.name group.members) users.groups
      )
    );
    shell = if user.shell == null then null else user.shell.pname or (plain user.shell);
    keys = user.openssh.authorizedKeys.keys;
    key_files = map plain user.openssh.authorizedKeys.keyFiles;
    password = lib.filter (kind: set (user.${kind} or null)) [
      "hashedPassword"
      "hashedPasswordFile"
      "initialHashedPassword"
      "initialPassword"
      "password"
    ];
  }) (lib.filterAttrs (name: user: user.isNormalUser || name == "root") users.users);
  mutable_users = users.mutableUsers;
  sudo = {
    enable = config.security.sudo.enable;
    rs = config.security.sudo-rs.enable;
    wheel_needs_password = config.security.sudo.wheelNeedsPassword;
  };
  sshd = {
    enable = services.openssh.enable;
    ports = services.openssh.ports;
    listens = map (each: "${plain each.addr} ${plain each.port}") services.openssh.listenAddresses;
    settings = lib.mapAttrs (_: builtins.toJSON) (
      lib.filterAttrs (_: value: value != null) services.openssh.settings
    );
    key_files = services.openssh.authorizedKeysFiles;
    more = services.openssh.extraConfig;
  };
  network = {
    host_name = networking.hostName;
    networkmanager = networking.networkmanager.enable;
    networkd = config.systemd.network.enable;
    use_networkd = networking.useNetworkd;
    dhcpcd = networking.dhcpcd.enable;
    use_dhcp = networking.useDHCP;
    wireless = networking.wireless.enable;
    interfaces = lib.mapAttrs (
      _: each:
      addresses each.ipv4.addresses
      ++ addresses each.ipv6.addresses
      ++ lib.optional (each.useDHCP == true) "dhcp"
    ) networking.interfaces;
    made = there (_: _: true) (
      networking.bridges // networking.bonds // networking.vlans // networking.macvlans
    );
    units = lib.mapAttrs (_: builtins.hashString "sha256") (
      lib.mapAttrs (_: unit: builtins.unsafeDiscardStringContext unit.text) config.systemd.network.units
    );
    gateways = lib.filter set (map gateway [
      networking.defaultGateway
      networking.defaultGateway6
    ]);
    nameservers = networking.nameservers;
  };
  loader = {
    systemd_boot = boot.loader.systemd-boot.enable;
    counts = options.boot.loader.systemd-boot ? bootCounting;
    grub = boot.loader.grub.enable;
    grub_extra_first = boot.loader.grub.extraEntriesBeforeNixOS;
    extlinux = boot.loader.generic-extlinux-compatible.enable;
    lanzaboote = on [ "boot" "lanzaboote" "enable" ];
    esp = boot.loader.efi.efiSysMountPoint;
    variables = boot.loader.efi.canTouchEfiVariables;
  };
  systemd_stage_1 = boot.initrd.systemd.enable;
  file_systems = lib.mapAttrs (_: each: {
    device = each.device;
    kind = each.fsType;
  }) config.fileSystems;
  luks = lib.attrNames boot.initrd.luks.devices;
  virtualisation = {
    libvirtd = virtualisation.libvirtd.enable;
    on_boot = virtualisation.libvirtd.onBoot;
    on_shutdown = virtualisation.libvirtd.onShutdown;
    qemu_as_root = virtualisation.libvirtd.enable && virtualisation.libvirtd.qemu.runAsRoot;
    docker = virtualisation.docker.enable;
    podman = virtualisation.podman.enable;
    lxd = on [ "virtualisation" "lxd" "enable" ];
    incus = on [ "virtualisation" "incus" "enable" ];
    virtualbox = on [ "virtualisation" "virtualbox" "host" "enable" ];
    xen = on [ "virtualisation" "xen" "enable" ];
  };
  assertions = failed;
}
