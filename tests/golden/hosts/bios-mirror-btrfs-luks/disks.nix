# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-uuid/d7a59ae2-3adf-5168-80f8-64a28a9620be";
      fsType = "btrfs";
      options = [
        "subvol=/@"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
      neededForBoot = true;
    };
    "/boot" = {
      device = "/dev/disk/by-uuid/f6744ad9-6b5c-5650-a3f5-e4f94c341584";
      fsType = "ext4";
      options = [
        "noatime"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot2" = {
      device = "/dev/disk/by-uuid/f7646a6b-87df-574e-afec-334e22e9d73c";
      fsType = "ext4";
      options = [
        "noatime"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/home" = {
      device = "/dev/disk/by-uuid/d7a59ae2-3adf-5168-80f8-64a28a9620be";
      fsType = "btrfs";
      options = [
        "subvol=/@home"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
    };
    "/nix" = {
      device = "/dev/disk/by-uuid/d7a59ae2-3adf-5168-80f8-64a28a9620be";
      fsType = "btrfs";
      options = [
        "subvol=/@nix"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
      neededForBoot = true;
    };
    "/var/lib/libvirt" = {
      device = "/dev/disk/by-uuid/d7a59ae2-3adf-5168-80f8-64a28a9620be";
      fsType = "btrfs";
      options = [
        "subvol=/@libvirt"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
    };
    "/var/log" = {
      device = "/dev/disk/by-uuid/d7a59ae2-3adf-5168-80f8-64a28a9620be";
      fsType = "btrfs";
      options = [
        "subvol=/@log"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
      neededForBoot = true;
    };
  };
  swapDevices = [
    {
      device = "/dev/disk/by-id/md-uuid-52b4ad15:e415533b:8db8aac0:fde3ac78";
      randomEncryption.enable = true;
    }
  ];
  boot = {
    supportedFilesystems = [
      "btrfs"
      "ext4"
    ];
    loader.grub = {
      enable = true;
      configurationLimit = 10;
      mirroredBoots = [
        {
          path = "/boot";
          devices = [ "/dev/disk/by-id/nvme-Samsung_SSD_970_NVME1" ];
        }
        {
          path = "/boot2";
          devices = [ "/dev/disk/by-id/nvme-Samsung_SSD_970_NVME2" ];
        }
      ];
    };
    initrd.luks.devices = {
      cryptroot-1 = {
        device = "/dev/disk/by-uuid/eee5dd71-8cc3-588c-9cef-295bc50f4926";
        allowDiscards = true;
        crypttabExtraOpts = [
          "tries=0"
          "nofail"
        ];
      };
      cryptroot-2 = {
        device = "/dev/disk/by-uuid/27379ced-5731-5171-a5f8-331526aee0a9";
        allowDiscards = true;
        crypttabExtraOpts = [
          "tries=0"
          "nofail"
        ];
      };
    };
    swraid = {
      enable = true;
      mdadmConf = ''
        HOMEHOST pair
        MAILADDR root
        ARRAY /dev/md/swap metadata=1.2 UUID=52b4ad15:e415533b:8db8aac0:fde3ac78
      '';
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "b479df50";
  zramSwap.enable = false;
  hypervisor.storage.degraded.enable = true;
}
