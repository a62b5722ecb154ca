# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-uuid/a5765851-f374-5064-b479-51ad3b398878";
      fsType = "btrfs";
      options = [
        "subvol=/@"
        "noatime"
        "compress=zstd:1"
      ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/0b43e739-5372-51d0-b043-15afb72aa9f5";
      fsType = "ext4";
      options = [ "noatime" ];
    };
    "/home" = {
      device = "/dev/disk/by-uuid/a5765851-f374-5064-b479-51ad3b398878";
      fsType = "btrfs";
      options = [
        "subvol=/@home"
        "noatime"
        "compress=zstd:1"
      ];
    };
    "/nix" = {
      device = "/dev/disk/by-uuid/a5765851-f374-5064-b479-51ad3b398878";
      fsType = "btrfs";
      options = [
        "subvol=/@nix"
        "noatime"
        "compress=zstd:1"
      ];
      neededForBoot = true;
    };
    "/var/lib/libvirt" = {
      device = "/dev/disk/by-uuid/a5765851-f374-5064-b479-51ad3b398878";
      fsType = "btrfs";
      options = [
        "subvol=/@libvirt"
        "noatime"
        "compress=zstd:1"
      ];
    };
    "/var/log" = {
      device = "/dev/disk/by-uuid/a5765851-f374-5064-b479-51ad3b398878";
      fsType = "btrfs";
      options = [
        "subvol=/@log"
        "noatime"
        "compress=zstd:1"
      ];
      neededForBoot = true;
    };
  };
  swapDevices = [ ];
  boot = {
    supportedFilesystems = [
      "btrfs"
      "ext4"
    ];
    loader.grub = {
      enable = true;
      configurationLimit = 10;
      device = "/dev/disk/by-id/virtio-DISK0";
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "9a6d37c3";
  zramSwap = {
    enable = true;
    memoryPercent = 50;
  };
}
