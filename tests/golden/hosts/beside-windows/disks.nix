# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/mapper/cryptroot";
      fsType = "ext4";
      options = [ "noatime" ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/962F-475B";
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
      "ext4"
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
    initrd.luks.devices.cryptroot = {
      device = "/dev/disk/by-uuid/e1931e47-45c8-5b52-9ba6-b5545c1e32d7";
      allowDiscards = true;
      crypttabExtraOpts = [ "tries=0" ];
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "b1883b7d";
  zramSwap = {
    enable = true;
    memoryPercent = 50;
  };
}
