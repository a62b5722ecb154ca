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
      device = "/dev/disk/by-uuid/12A7-58D6";
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
      device = "/dev/disk/by-uuid/e9f91acf-f3a6-5a33-a648-91d84e63f246";
      allowDiscards = true;
      crypttabExtraOpts = [ "tries=0" ];
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "026f296b";
  zramSwap.enable = false;
}
