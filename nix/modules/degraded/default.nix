# A btrfs over several disks starts although one is missing.
#
# udev keeps such a file system from systemd until all its devices are there (64-btrfs.rules), whatever its mount options
# say. That is right for a disk that is slow, and keeps a host down for one that is dead. So the first device that lacks
# others starts a clock; when it has run down, what is there has to do, and the option `degraded` of the mount lets it.
# md does the same by itself (mdadm-last-resort@.timer), ZFS too.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.storage.degraded;
  name = "hyper-nixos-btrfs-degraded";
  flag = "/run/${name}";
  incomplete = ''SUBSYSTEM=="block", ACTION!="remove", ENV{ID_FS_TYPE}=="btrfs", ENV{ID_BTRFS_READY}=="0"'';
  rooted = lib.filterAttrs (
    _: fileSystem: fileSystem.fsType == "btrfs" && lib.elem "degraded" fileSystem.options
  ) config.fileSystems;
in
{
  options.hypervisor.storage.degraded = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether the host starts with a btrfs whose other disks do not appear. Its mounts need the option `degraded`, and
        its data copies on the disks that are left (raid1, raid10). What is written meanwhile has no second copy: put a
        new disk in soon (`btrfs replace`), then run `btrfs balance start -dconvert=raid1,soft -mconvert=raid1,soft /`.
      '';
    };
    wait = lib.mkOption {
      type = lib.types.ints.between 5 600;
      default = 30;
      example = 90;
      description = ''
        Seconds that the other disks have to appear, from the first one on. Disks that turn, or hang on a network, may need
        more; a host that starts without a disk that was only slow has to be repaired for it.
      '';
    };
  };

  config = lib.mkIf (config.hypervisor.enable && cfg.enable) {
    assertions = [
      {
        assertion = config.boot.initrd.systemd.enable;
        message = ''
          hypervisor.storage.degraded needs systemd in stage 1: set boot.initrd.systemd.enable = true.
        '';
      }
      {
        assertion = rooted != { };
        message = ''
          hypervisor.storage.degraded has nothing to start: no btrfs in fileSystems has the option "degraded". Add it to the
          mounts of the mirrored btrfs, or leave hypervisor.storage.degraded.enable off.
        '';
      }
    ];

    boot.initrd.services.udev.rules = ''
      ${incomplete}, TEST!="${flag}", RUN+="/run/current-system/systemd/bin/systemctl --no-block start ${name}.timer"
      ${incomplete}, TEST=="${flag}", ENV{SYSTEMD_READY}="1"
    '';

    boot.initrd.systemd.timers.${name} = {
      description = "Wait for all disks of a btrfs";
      unitConfig.DefaultDependencies = false;
      timerConfig = {
        OnActiveSec = cfg.wait;
        AccuracySec = "1s";
      };
    };
    boot.initrd.systemd.services.${name} = {
      description = "Start with the disks of a btrfs that are there";
      unitConfig.DefaultDependencies = false;
      serviceConfig.Type = "oneshot";
      script = ''
        : > ${flag}
        udevadm trigger --action=change --subsystem-match=block --property-match=ID_BTRFS_READY=0
      '';
    };
  };
}
