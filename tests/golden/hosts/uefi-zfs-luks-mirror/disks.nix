# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "system_6270/root";
      fsType = "zfs";
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/69AD-FD03";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot2" = {
      device = "/dev/disk/by-uuid/80D4-4175";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/nix" = {
      device = "system_6270/nix";
      fsType = "zfs";
      neededForBoot = true;
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
    initrd.luks.devices = {
      cryptroot-1 = {
        device = "/dev/disk/by-uuid/12647d2d-c804-59ac-a087-7153a47393ac";
        allowDiscards = true;
        crypttabExtraOpts = [
          "tries=0"
          "nofail"
        ];
      };
      cryptroot-2 = {
        device = "/dev/disk/by-uuid/8a0a35d0-753b-5fc3-8e51-830661ec1f6e";
        allowDiscards = true;
        crypttabExtraOpts = [
          "tries=0"
          "nofail"
        ];
      };
    };
    zfs = {
      forceImportRoot = false;
      devNodes = "/dev/mapper";
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "ac327154";
  zramSwap = {
    enable = true;
    memoryPercent = 50;
  };
  hypervisor.storage = {
    esp.mirrors = [ "/boot2" ];
    zfs.arcMax = "8192MiB";
  };
}
