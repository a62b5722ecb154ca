# Boot partitions of several disks. NixOS's systemd-boot writes one; `hv esp sync` makes the others hold the same, at every
# generation, so that the host starts from any of them.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  storage = config.hypervisor.storage;
  cfg = storage.esp;
  loader = config.boot.loader;
  source = loader.efi.efiSysMountPoint;
  all = [ source ] ++ cfg.mirrors;
  settings = builtins.toJSON {
    inherit source;
    inherit (cfg) mirrors;
    variables = loader.efi.canTouchEfiVariables;
  };
  hv = "${config.hypervisor.package}/bin/hv";
  isEsp =
    mountPoint:
    lib.elem (config.fileSystems.${mountPoint}.fsType or null) [
      "vfat"
      "msdos"
    ];
in
{
  options.hypervisor.storage.esp = {
    mirrors = lib.mkOption {
      type = lib.types.listOf (lib.types.strMatching "/[A-Za-z0-9._/-]*[A-Za-z0-9._-]");
      default = [ ];
      example = [ "/boot2" ];
      description = ''
        Mount points of the EFI system partitions of further boot disks, each declared in {option}`fileSystems`. They
        belong to this host alone and hold what {option}`boot.loader.efi.efiSysMountPoint` holds. All of them, that one
        too, are mounted `nofail` unless the host declares options of its own: it starts without any of them.
      '';
    };
    checkInterval = lib.mkOption {
      type = lib.types.strMatching "[A-Za-z0-9*:,./ ~-]+";
      default = "daily";
      example = "hourly";
      description = ''
        When the partitions are compared, as a calendar expression of {manpage}`systemd.time(7)`. When they differ or one
        is not mounted, the unit `hyper-nixos-esp-check` fails and the login prompt at the console says so.
      '';
    };
  };

  config = lib.mkIf (storage.enable && cfg.mirrors != [ ]) {
    environment.etc."hyper-nixos/esp.json".text = settings;

    # The new generation's own program and settings: /etc is still the old one's when this runs. A mirror that is gone
    # must not keep the host from being rebuilt: it is said here, and again by the check.
    boot.loader.systemd-boot.extraInstallCommands = ''
      ${hv} esp --config ${pkgs.writeText "esp.json" settings} sync || echo "hv esp sync: not every boot partition is up to date" >&2
    '';

    fileSystems = lib.genAttrs all (_: {
      options = lib.mkDefault [
        "nofail"
        "x-systemd.device-timeout=90s"
        "umask=0077"
      ];
    });

    systemd.services.hyper-nixos-esp-check = {
      description = "Check of the mirrored boot partitions";
      documentation = [ "man:hv-esp(1)" ];
      startAt = cfg.checkInterval;
      # It reads partitions and the firmware's menu; it writes the notice for the login prompt.
      serviceConfig = import ../core/sandbox.nix // {
        Type = "oneshot";
        ExecStart = "${hv} esp status --notice";
        CapabilityBoundingSet = "CAP_DAC_READ_SEARCH";
        # Partition tables are read for the identifiers that the firmware's menu names.
        DeviceAllow = "block-* r";
        DevicePolicy = "closed";
        PrivateNetwork = true;
        ProtectKernelTunables = true;
        ProtectSystem = "strict";
        ReadWritePaths = "/run/issue.d";
        RestrictAddressFamilies = "none";
      };
    };
    systemd.timers.hyper-nixos-esp-check.timerConfig = {
      OnBootSec = "5min";
      Persistent = true;
    };
    systemd.tmpfiles.settings."10-hyper-nixos"."/run/issue.d".d.mode = "0755";

    assertions = [
      {
        assertion = loader.systemd-boot.enable;
        message = ''
          hypervisor.storage.esp.mirrors are kept by a hook of systemd-boot, which this host does not use. With GRUB declare
          boot.loader.grub.mirroredBoots instead, and no mirrors.
        '';
      }
      {
        assertion = loader.systemd-boot.xbootldrMountPoint == null;
        message = ''
          hypervisor.storage.esp.mirrors hold whole boot partitions, and this host keeps its kernels on another one
          (boot.loader.systemd-boot.xbootldrMountPoint). Use one EFI system partition a disk, or no mirrors.
        '';
      }
      {
        assertion = lib.allUnique all;
        message = ''
          hypervisor.storage.esp.mirrors name a partition twice, or the one that NixOS writes itself: ${lib.concatStringsSep ", " all}.
          Name each further disk's mount point once.
        '';
      }
    ]
    ++ map (mountPoint: {
      assertion = isEsp mountPoint;
      message = ''
        hypervisor.storage.esp.mirrors: nothing with FAT is declared at ${mountPoint}. Declare
        fileSystems."${mountPoint}" = { device = "/dev/disk/by-partuuid/…"; fsType = "vfat"; }.
      '';
    }) cfg.mirrors;
  };
}
