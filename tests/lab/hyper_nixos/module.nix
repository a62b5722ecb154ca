# What nix/modules does to a host, as far as the lab's merge without option declarations can carry it.
source:
{ config, lib, ... }:
let
  passthrough = config.hypervisor.passthrough.devices or { };
  hardened = config.hypervisor.phase or "setup" == "hardened";
  migration = config.hypervisor.migration or { };
  arcMax = config.hypervisor.storage.zfs.arcMax or null;
  # A host that became one in place keeps its own logins.
  security = config.hypervisor.security.enable or true;

  # Units are goldens: texts evaluated by a real nixpkgs, with store paths written as @name@.
  golden = name: {
    text =
      builtins.replaceStrings [ "@hv@" ] [ "${source}/package" ] (
        builtins.concatStringsSep "/run/current-system/sw" (
          builtins.filter builtins.isString (
            builtins.split "@(nix|qemu-host-cpu-only|coreutils|findutils|gnugrep|gnused|systemd|glibc-locales|iproute2|openssh|tzdata)@" (
              builtins.readFile "${source}/units/${name}"
            )
          )
        )
      );
    wantedBy = [ ];
  };
  wanted = target: unit: unit // { wantedBy = [ target ]; };

  # Everybody with a role may speak to the broker (nix/modules/privileges).
  roles = map (role: role.group) (
    builtins.attrValues (builtins.fromJSON (builtins.readFile "${source}/roles.json"))
  );
  people = config.users.users or { };
  hasRole = name: builtins.any (group: builtins.elem group roles) (people.${name}.extraGroups or [ ]);
in
{
  lab.hyperNixos = "${source}/package";
  lab.units = {
    "hyper-nixos-firstrun.service" = wanted "multi-user.target" (golden "hyper-nixos-firstrun.service");
    "hyper-nixos-guard.service" = wanted "multi-user.target" (golden "hyper-nixos-guard.service");
    "hv-hostd.service" = golden "hv-hostd.service";
    "hv-hostd.socket" = wanted "sockets.target" (golden "hv-hostd.socket");
    "hvd.service" = golden "hvd.service";
    "hvd.socket" = wanted "sockets.target" (golden "hvd.socket");
    "libvirtd.socket.d/overrides.conf" = golden "libvirtd.socket.d/overrides.conf";
    "libvirtd-ro.socket.d/overrides.conf" = golden "libvirtd-ro.socket.d/overrides.conf";
    "libvirtd-admin.socket.d/overrides.conf" = golden "libvirtd-admin.socket.d/overrides.conf";
  }
  # The check of a first boot after `hv migrate`; with systemd-boot its boots are counted.
  // lib.optionalAttrs (migration.enable or false) {
    "hyper-nixos-health.service" = {
      text = builtins.replaceStrings [ "--patience 300" ] [
        "--patience ${toString (migration.patience or 300)}"
      ] (golden "hyper-nixos-health.service").text;
      wantedBy = [ "multi-user.target" ];
      requiredBy = [ "boot-complete.target" ];
    };
  };
  boot.loader.systemd-boot.bootCounting = lib.mkIf (migration.fallback or "none" == "counted") {
    enable = true;
    tries = 2;
  };
  # On a busy computer the emulated timer is so late that the kernel gives up: "timer doesn't work through
  # Interrupt-remapped IO-APIC" (kernel-parameters.txt, no_timer_check).
  boot.kernelParams = [
    "no_timer_check"
  ]
  # What nix/modules/security/audit.nix asks for in both phases, without its rules.
  ++ lib.optionals security [ "audit=1" ]
  ++ lib.optionals (migration.fallback or "none" != "none") [ "panic=30" ]
  # What nix/modules/storage/zfs.nix makes of the cache's limit, which is rendered in one unit.
  ++ map (size: "zfs.zfs_arc_max=${toString (builtins.fromJSON (builtins.head size) * 1024 * 1024)}") (
    lib.optionals (arcMax != null) [ (builtins.match "([0-9]+)MiB" arcMax) ]
  );
  environment.systemPackages = [
    {
      name = "hyper-nixos";
      outPath = "${source}/package";
    }
  ];

  # What nix/modules/privileges says: the broker's account, roles as groups, and nobody else near libvirt.
  users.users.hvd = {
    isSystemUser = true;
    group = "hvd";
    description = "Broker between people and libvirt";
    extraGroups = [ "libvirtd" ];
  };
  users.groups = builtins.listToAttrs (
    map (name: {
      inherit name;
      value = { };
    }) ([ "hvd" ] ++ roles)
  ) // {
    hv-users.members = builtins.filter hasRole (builtins.attrNames people);
  };
  environment.etc."polkit-1/rules.d/10-nixos.rules".text = builtins.readFile "${source}/polkit.rules";

  # What nix/modules/passthrough has a unit of stage 1 do: devices are claimed before any driver sees them.
  lab.claims = passthrough;
  boot.initrd.kernelModules = lib.optionals (passthrough != { }) [
    "vfio_pci"
    "vfio_iommu_type1"
  ];

  # Boot partitions of further disks: what the loader's hook of nix/modules/storage keeps alike.
  boot.loader.espMirrors = config.hypervisor.storage.esp.mirrors or [ ];

  security.auditd.enable = security;

  virtualisation.libvirtd.enable = lib.mkDefault true;

  # Phases: what nix/modules/security says about logins and the kernel, in both forms that hosts have.
  services.openssh.settings = lib.mkMerge [
    (lib.mkIf security {
      KbdInteractiveAuthentication = lib.mkDefault false;
      PasswordAuthentication = lib.mkDefault false;
      PermitRootLogin = lib.mkDefault "no";
      X11Forwarding = lib.mkDefault false;
    })
    (lib.mkIf (security && hardened) {
      PasswordAuthentication = lib.mkOverride 40 false;
      AllowAgentForwarding = lib.mkDefault false;
      AuthenticationMethods = lib.mkDefault "publickey";
      LoginGraceTime = lib.mkDefault 30;
      MaxAuthTries = lib.mkDefault 3;
    })
  ];
  boot.kernel.sysctl = lib.mkIf hardened {
    "kernel.dmesg_restrict" = 1;
    "kernel.kptr_restrict" = 2;
    "kernel.unprivileged_bpf_disabled" = 1;
    "net.ipv4.conf.all.accept_redirects" = 0;
    "fs.protected_fifos" = 2;
    "fs.protected_regular" = 2;
  };
}
