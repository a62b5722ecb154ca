# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/mapper/cryptroot";
      fsType = "btrfs";
      options = [
        "subvol=/@"
        "noatime"
        "compress=zstd:1"
      ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/2CFB-6B11";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
      ];
    };
    "/home" = {
      device = "/dev/mapper/cryptroot";
      fsType = "btrfs";
      options = [
        "subvol=/@home"
        "noatime"
        "compress=zstd:1"
      ];
    };
    "/nix" = {
      device = "/dev/mapper/cryptroot";
      fsType = "btrfs";
      options = [
        "subvol=/@nix"
        "noatime"
        "compress=zstd:1"
      ];
      neededForBoot = true;
    };
    "/var/lib/libvirt" = {
      device = "/dev/mapper/cryptroot";
      fsType = "btrfs";
      options = [
        "subvol=/@libvirt"
        "noatime"
        "compress=zstd:1"
      ];
    };
    "/var/log" = {
      device = "/dev/mapper/cryptroot";
      fsType = "btrfs";
      options = [
        "subvol=/@log"
        "noatime"
        "compress=zstd:1"
      ];
      neededForBoot = true;
    };
  };
  swapDevices = [
    {
      device = "/dev/disk/by-id/nvme-Samsung_SSD_970_S4EWNX0R123456-part2";
      randomEncryption.enable = true;
    }
  ];
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
    initrd.luks.devices.cryptroot = {
      device = "/dev/disk/by-uuid/68657723-c043-5e3d-b20a-5c2dd29fecfe";
      allowDiscards = true;
      crypttabExtraOpts = [ "tries=0" ];
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "357dee46";
  zramSwap.enable = false;
}
