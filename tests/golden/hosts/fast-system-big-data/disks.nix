# Disks, file systems and booting.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-uuid/a4374d7d-614f-5bb2-bb12-54aaa6bef735";
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
      device = "/dev/disk/by-uuid/6686-12D3";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/boot2" = {
      device = "/dev/disk/by-uuid/D84E-216E";
      fsType = "vfat";
      options = [
        "fmask=0077"
        "dmask=0077"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/home" = {
      device = "/dev/disk/by-uuid/a4374d7d-614f-5bb2-bb12-54aaa6bef735";
      fsType = "btrfs";
      options = [
        "subvol=/@home"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
    };
    "/nix" = {
      device = "/dev/disk/by-uuid/a4374d7d-614f-5bb2-bb12-54aaa6bef735";
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
      device = "/dev/disk/by-uuid/a4374d7d-614f-5bb2-bb12-54aaa6bef735";
      fsType = "btrfs";
      options = [
        "subvol=/@libvirt"
        "noatime"
        "compress=zstd:1"
        "degraded"
      ];
    };
    "/var/lib/libvirt/images" = {
      device = "/dev/mapper/cryptvms";
      fsType = "xfs";
      options = [
        "noatime"
        "nofail"
        "x-systemd.device-timeout=90s"
      ];
    };
    "/var/log" = {
      device = "/dev/disk/by-uuid/a4374d7d-614f-5bb2-bb12-54aaa6bef735";
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
  swapDevices = [ ];
  boot = {
    supportedFilesystems = [
      "btrfs"
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
    initrd.luks.devices = {
      cryptroot-1 = {
        device = "/dev/disk/by-uuid/276835cc-4406-5af1-850d-49f7b86e48a1";
        allowDiscards = true;
        crypttabExtraOpts = [
          "tries=0"
          "nofail"
        ];
      };
      cryptroot-2 = {
        device = "/dev/disk/by-uuid/8f6b274c-45f9-5f6f-ab76-748b071cee0f";
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
        HOMEHOST kvm4
        MAILADDR root
        ARRAY /dev/md/vms metadata=1.2 UUID=8c6c1058:f4d95018:a784e5ef:e3683733
      '';
    };
  };
  # Names this host to ZFS and to everything else that keys on it.
  networking.hostId = "6a1b9602";
  zramSwap = {
    enable = true;
    memoryPercent = 50;
  };
  environment.etc.crypttab.text = "cryptvms /dev/disk/by-uuid/78d8b1f7-fff5-54d3-8a40-ea1ed801a37f /var/lib/hyper-nixos/secrets/keys/vms.key luks,nofail,discard\n";
  hypervisor.storage = {
    esp.mirrors = [ "/boot2" ];
    degraded.enable = true;
  };
}
