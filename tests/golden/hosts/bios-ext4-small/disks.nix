# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/03946341-af8c-5fc3-bacf-27fb9da65093";
    fsType = "ext4";
    options = [ "noatime" ];
    neededForBoot = true;
  };
  swapDevices = [ ];
  boot = {
    supportedFilesystems = [ "ext4" ];
    loader.grub = {
      enable = true;
      configurationLimit = 10;
      device = "/dev/disk/by-id/virtio-ROOT1";
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "e3098f8a";
  zramSwap = {
    enable = true;
    memoryPercent = 50;
  };
}
