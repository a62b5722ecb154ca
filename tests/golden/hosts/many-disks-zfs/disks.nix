# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "system_e67b/root";
      fsType = "zfs";
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/7466-A259";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot2" = {
      device = "/dev/disk/by-uuid/C062-FACB";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot3" = {
      device = "/dev/disk/by-uuid/C5EC-BC66";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot4" = {
      device = "/dev/disk/by-uuid/32E3-B388";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/nix" = {
      device = "system_e67b/nix";
      fsType = "zfs";
      neededForBoot = true;
    };
    "/var/lib/libvirt/images" = {
      device = "system_e67b/vms";
      fsType = "zfs";
      options = [
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
  };
  swapDevices = [ ];
  boot = {
    supportedFilesystems = [
      "vfat"
      "zfs"
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
    zfs = {
      forceImportRoot = false;
      devNodes = "/dev/disk/by-id";
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "277251ab";
  zramSwap = {
    enable = true;
    memoryPercent = 50;
  };
  hypervisor.storage = {
    esp.mirrors = [
      "/boot2"
      "/boot3"
      "/boot4"
    ];
    zfs.arcMax = "7946MiB";
  };
}
