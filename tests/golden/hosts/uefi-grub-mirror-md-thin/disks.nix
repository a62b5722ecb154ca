# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/mapper/system_dc0d-root";
      fsType = "ext4";
      options = [ "noatime" ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/E3A4-FCAD";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot2" = {
      device = "/dev/disk/by-uuid/21A8-DEFC";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
  };
  swapDevices = [
    {
      device = "/dev/mapper/system_dc0d-swap";
    }
  ];
  boot = {
    supportedFilesystems = [
      "ext4"
      "vfat"
    ];
    loader = {
      grub = {
        enable = true;
        configurationLimit = 10;
        efiSupport = true;
        mirroredBoots = [
          {
            path = "/boot";
            devices = [ "nodev" ];
            efiSysMountPoint = "/boot";
          }
          {
            path = "/boot2";
            devices = [ "nodev" ];
            efiSysMountPoint = "/boot2";
          }
        ];
      };
      efi = {
        canTouchEfiVariables = true;
        efiSysMountPoint = "/boot";
      };
    };
    swraid = {
      enable = true;
      mdadmConf = ''
        HOMEHOST thin
        MAILADDR root
        ARRAY /dev/md/root metadata=1.2 UUID=b32dac1f:02415e07:881205d6:c3ffaad4
      '';
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "e978e9b6";
  zramSwap.enable = false;
  services.lvm.boot.thin.enable = true;
}
