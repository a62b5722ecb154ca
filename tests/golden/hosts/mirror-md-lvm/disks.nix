# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/mapper/system_4ad2-root";
      fsType = "ext4";
      options = [ "noatime" ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/BE12-6DBA";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot2" = {
      device = "/dev/disk/by-uuid/C98F-0D6B";
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
      device = "/dev/mapper/system_4ad2-swap";
    }
  ];
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
    swraid = {
      enable = true;
      mdadmConf = ''
        HOMEHOST kvm2
        MAILADDR root
        ARRAY /dev/md/root metadata=1.2 UUID=6ae5767e:289355eb:83a39d3b:b68427be
      '';
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "42c4f143";
  zramSwap.enable = false;
  services.lvm.boot.thin.enable = true;
  hypervisor.storage.esp.mirrors = [ "/boot2" ];
}
