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
      device = "/dev/disk/by-uuid/9DB8-C44D";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
      ];
    };
  };
  swapDevices = [
    {
      device = "/dev/disk/by-id/nvme-Samsung_SSD_980_PRO_2TB_S69ENF0R123456A-part2";
      randomEncryption.enable = true;
    }
  ];
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
      device = "/dev/disk/by-uuid/ff6c831c-e9fb-5471-8d78-0849723244ea";
      allowDiscards = true;
      crypttabExtraOpts = [ "tries=0" ];
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "e7823509";
  zramSwap.enable = false;
}
