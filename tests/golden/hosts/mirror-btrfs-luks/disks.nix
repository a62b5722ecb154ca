# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-uuid/4b4f95dd-0404-5ee3-aea1-17ba0f246ce9";
      fsType = "btrfs";
      options = [
        "subvol=/@"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/1445-0EA9";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot2" = {
      device = "/dev/disk/by-uuid/1077-BC62";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/home" = {
      device = "/dev/disk/by-uuid/4b4f95dd-0404-5ee3-aea1-17ba0f246ce9";
      fsType = "btrfs";
      options = [
        "subvol=/@home"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
    };
    "/nix" = {
      device = "/dev/disk/by-uuid/4b4f95dd-0404-5ee3-aea1-17ba0f246ce9";
      fsType = "btrfs";
      options = [
        "subvol=/@nix"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
      neededForBoot = true;
    };
    "/var/lib/libvirt" = {
      device = "/dev/disk/by-uuid/4b4f95dd-0404-5ee3-aea1-17ba0f246ce9";
      fsType = "btrfs";
      options = [
        "subvol=/@libvirt"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
    };
    "/var/log" = {
      device = "/dev/disk/by-uuid/4b4f95dd-0404-5ee3-aea1-17ba0f246ce9";
      fsType = "btrfs";
      options = [
        "subvol=/@log"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
      neededForBoot = true;
    };
  };
  swapDevices = [ ];
  boot = {
    supportedFilesystems = [
      "btrfs"
      "vfat"
    ];
    loader = {
      systemd-boot = {
        enable = true;
        configurationLimit = 10;
        editor = false;
      };
      efi = {
        canTouchEfiVariables = true;
        efiSysMountPoint = "/boot";
      };
    };
    initrd.luks.devices = {
      cryptroot-1 = {
        device = "/dev/disk/by-uuid/ff8216b0-4a07-59af-b881-202ff4bdd12c";
        allowDiscards = true;
        crypttabExtraOpts = [
          "tries=0"
          "nofail"
        ];
      };
      cryptroot-2 = {
        device = "/dev/disk/by-uuid/beed8eb5-bc6e-5666-9df9-806dc18e95d2";
        allowDiscards = true;
        crypttabExtraOpts = [
          "tries=0"
          "nofail"
        ];
      };
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "08ba7a17";
  zramSwap = {
    enable = true;
    memoryPercent = 50;
  };
  hypervisor.storage = {
    esp.mirrors = [ "/boot2" ];
    degraded.enable = true;
  };
}
