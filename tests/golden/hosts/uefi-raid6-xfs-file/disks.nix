# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-uuid/63d121d3-8a3a-5165-bf08-233939eec854";
      fsType = "xfs";
      options = [ "noatime" ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/8D6D-C74B";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot2" = {
      device = "/dev/disk/by-uuid/486B-8698";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot3" = {
      device = "/dev/disk/by-uuid/3B76-FBAC";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot4" = {
      device = "/dev/disk/by-uuid/47E5-6742";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot5" = {
      device = "/dev/disk/by-uuid/160E-6567";
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
      device = "/var/lib/swapfile";
      size = 4096;
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
    swraid = {
      enable = true;
      mdadmConf = ''
        HOMEHOST five
        MAILADDR root
        ARRAY /dev/md/root metadata=1.2 UUID=16456136:cd575bc2:90e3ae51:01c8f7ef
      '';
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "83df4a99";
  zramSwap.enable = false;
  hypervisor.storage.esp.mirrors = [
    "/boot2"
    "/boot3"
    "/boot4"
    "/boot5"
  ];
}
