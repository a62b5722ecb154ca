# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/mapper/cryptroot";
      fsType = "xfs";
      options = [ "noatime" ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/A994-EB84";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
      ];
    };
  };
  swapDevices = [ ];
  boot = {
    supportedFilesystems = [
      "vfat"
      "xfs"
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
    initrd.luks.devices.cryptroot = {
      device = "/dev/disk/by-uuid/6baaa23b-57b2-58bd-8025-fb779edd16e4";
      allowDiscards = true;
      crypttabExtraOpts = [
        "tries=0"
        "tpm2-device=auto"
      ];
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "f0a5531d";
  zramSwap = {
    enable = true;
    memoryPercent = 50;
  };
}
