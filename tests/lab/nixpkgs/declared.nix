# What NixOS declares and the stand-in's merge does not: the defaults of those options that a program reads from an
# evaluated system (`hv migrate`), and where three of them are defined.
lib:
{
  config,
  bodies,
}:
let
  user = name: given: {
    inherit name;
    isNormalUser = false;
    uid = null;
    group = if given.isNormalUser or false then "users" else "";
    extraGroups = [ ];
    shell = null;
    openssh.authorizedKeys = {
      keys = [ ];
      keyFiles = [ ];
    };
  };
  ports = {
    allowedTCPPorts = [ ];
    allowedTCPPortRanges = [ ];
    allowedUDPPorts = [ ];
    allowedUDPPortRanges = [ ];
  };
  off = {
    enable = false;
  };
  systemd_boot = config.boot.loader.systemd-boot.enable or false;
  defaults = {
    assertions = [ ];
    boot = {
      initrd = {
        luks.devices = { };
        systemd = off;
      };
      loader = {
        efi = {
          efiSysMountPoint = "/boot";
          canTouchEfiVariables = false;
        };
        generic-extlinux-compatible = off;
        grub = {
          enable = !systemd_boot;
          extraEntriesBeforeNixOS = false;
        };
        systemd-boot = off;
      };
    };
    environment.systemPackages = [ ];
    networking = {
      firewall = ports // {
        enable = false;
        interfaces = { };
      };
      nftables = off;
      networkmanager = off;
      useNetworkd = true;
      dhcpcd = off;
      useDHCP = false;
      wireless = off;
      interfaces = { };
      bridges = { };
      bonds = { };
      vlans = { };
      macvlans = { };
      defaultGateway = null;
      defaultGateway6 = null;
      nameservers = [ ];
    };
    security = {
      sudo = {
        enable = true;
        wheelNeedsPassword = true;
      };
      sudo-rs = off;
    };
    services.openssh = {
      enable = false;
      ports = [ 22 ];
      listenAddresses = [ ];
      settings = { };
      authorizedKeysFiles = [
        "%h/.ssh/authorized_keys"
        "/etc/ssh/authorized_keys.d/%u"
      ];
      extraConfig = "";
    };
    system.nixos.release = "26.05";
    systemd = {
      network = {
        enable = true;
        units = builtins.mapAttrs (_: network: { text = builtins.toJSON network; }) (
          config.systemd.network.networks or { }
        );
      };
      units = builtins.mapAttrs (_: _: { enable = true; }) (
        (config.lab.units or { })
        // lib.optionalAttrs (config.services.openssh.enable or false) { "sshd.service" = { }; }
        // lib.optionalAttrs (config.virtualisation.libvirtd.enable or false) { "libvirtd.service" = { }; }
      );
    };
    users = {
      mutableUsers = true;
      groups = { };
      users = builtins.mapAttrs user (config.users.users or { });
    };
    virtualisation = {
      libvirtd = {
        enable = false;
        onBoot = "start";
        onShutdown = "suspend";
        qemu.runAsRoot = true;
      };
      docker = off;
      podman = off;
    };
  };
  overlaid = lib.recursiveUpdate defaults config;
  definedIn = path: {
    files = map (body: body.file) (lib.filter (body: lib.hasAttrByPath path body.value) bodies);
  };
in
{
  config = overlaid // {
    users = overlaid.users // {
      groups = builtins.mapAttrs (_: group: { members = [ ]; } // group) overlaid.users.groups;
    };
  };
  options = {
    networking.hostName = definedIn [
      "networking"
      "hostName"
    ];
    system.stateVersion = definedIn [
      "system"
      "stateVersion"
    ];
    fileSystems = definedIn [ "fileSystems" ];
    boot.loader.systemd-boot.bootCounting = { };
  }
  // lib.optionalAttrs (config ? hypervisor.enable) { hypervisor = { }; };
}
