# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-uuid/121a6444-a959-5b08-b14d-8710473754bf";
      fsType = "btrfs";
      options = [
        "subvol=/@"
        "noatime"
        "compress=zstd:1"
      ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/9369-029B";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
      ];
    };
    "/home" = {
      device = "/dev/disk/by-uuid/121a6444-a959-5b08-b14d-8710473754bf";
      fsType = "btrfs";
      options = [
        "subvol=/@home"
        "noatime"
        "compress=zstd:1"
      ];
    };
    "/nix" = {
      device = "/dev/disk/by-uuid/121a6444-a959-5b08-b14d-8710473754bf";
      fsType = "btrfs";
      options = [
        "subvol=/@nix"
        "noatime"
        "compress=zstd:1"
      ];
      neededForBoot = true;
    };
    "/var/lib/libvirt" = {
      device = "/dev/disk/by-uuid/121a6444-a959-5b08-b14d-8710473754bf";
      fsType = "btrfs";
      options = [
        "subvol=/@libvirt"
        "noatime"
        "compress=zstd:1"
      ];
    };
    "/var/log" = {
      device = "/dev/disk/by-uuid/121a6444-a959-5b08-b14d-8710473754bf";
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
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "029d2d57";
  zramSwap = {
    enable = true;
    memoryPercent = 50;
  };
  systemd.tmpfiles.rules = [ "h /var/lib/libvirt/images - - - - +C" ];
}
