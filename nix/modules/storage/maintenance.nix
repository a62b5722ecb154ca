# Scrubs find what a disk forgot while a second copy can still mend it; trims tell disks and images what is free.
#
# Each only where there is something to scrub: btrfs and ZFS by the declared file systems, md by boot.swraid. Upstream's
# own options stay in charge (services.btrfs.autoScrub, services.zfs.autoScrub, services.fstrim, services.zfs.trim).
{
  config,
  lib,
  ...
}:
let
  storage = config.hypervisor.storage;
  cfg = storage.maintenance;
  calendar = lib.types.strMatching "[A-Za-z0-9*:,./ ~-]+";
  btrfs = lib.filterAttrs (_: fileSystem: fileSystem.fsType == "btrfs") config.fileSystems;
in
{
  options.hypervisor.storage.maintenance = {
    scrub = lib.mkOption {
      type = lib.types.bool;
      default = true;
      example = false;
      description = ''
        Whether btrfs, ZFS and md read all that they hold now and then, and mend what a disk lost. Without it a second
        disk's loss finds the first one's unread errors.
      '';
    };
    scrubInterval = lib.mkOption {
      type = calendar;
      default = "monthly";
      example = "Sun *-*-01..07 03:00";
      description = "When, as a calendar expression of {manpage}`systemd.time(7)`.";
    };
    trim = lib.mkOption {
      type = lib.types.bool;
      default = true;
      example = false;
      description = ''
        Whether file systems and ZFS pools tell their disks what is free. Through LUKS it works where the device allows
        discards; that shows on the disk which parts are free.
      '';
    };
    trimInterval = lib.mkOption {
      type = calendar;
      default = "weekly";
      example = "Sat 04:00";
      description = "When, as a calendar expression of {manpage}`systemd.time(7)`.";
    };
  };

  config = lib.mkIf storage.enable {
    services.btrfs.autoScrub = lib.mkIf (cfg.scrub && btrfs != { }) {
      enable = true;
      interval = lib.mkDefault cfg.scrubInterval;
    };
    services.zfs.autoScrub = lib.mkIf (cfg.scrub && config.boot.zfs.enabled) {
      enable = true;
      interval = lib.mkDefault cfg.scrubInterval;
    };
    services.fstrim = {
      enable = lib.mkDefault cfg.trim;
      interval = lib.mkDefault cfg.trimInterval;
    };
    services.zfs.trim = {
      enable = lib.mkDefault cfg.trim;
      interval = lib.mkDefault cfg.trimInterval;
    };

    systemd.services.hyper-nixos-md-check = lib.mkIf (cfg.scrub && config.boot.swraid.enable) {
      description = "Check of the md arrays";
      documentation = [ "man:md(4)" ];
      startAt = cfg.scrubInterval;
      script = builtins.readFile ./md-check.sh;
      # It writes a word into files of sysfs, and that is all.
      serviceConfig = import ../core/sandbox.nix // {
        Type = "oneshot";
        CapabilityBoundingSet = "";
        PrivateDevices = true;
        PrivateNetwork = true;
        ProtectSystem = "strict";
        RestrictAddressFamilies = "none";
      };
    };
    systemd.timers.hyper-nixos-md-check = lib.mkIf (cfg.scrub && config.boot.swraid.enable) {
      timerConfig = {
        Persistent = true;
        RandomizedDelaySec = "1h";
      };
    };
  };
}
