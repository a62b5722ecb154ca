# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-uuid/ecfba468-0e9d-544a-9b02-bdb5004659e3";
      fsType = "xfs";
      options = [ "noatime" ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/C5C6-16FF";
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
      grub = {
        enable = true;
        configurationLimit = 10;
        device = "nodev";
        efiSupport = true;
      };
      efi = {
        canTouchEfiVariables = true;
        efiSysMountPoint = "/boot";
      };
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "fff14d75";
  zramSwap.enable = false;
}
