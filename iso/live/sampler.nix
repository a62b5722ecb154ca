# A host that uses everything that answers can ask for, so that whatever hosts are built of is an input of it. Nobody
# installs it. samples.nix makes several of it.
{ lib, pkgs, ... }:
let
  inherit (pkgs.stdenv.hostPlatform) isx86_64 system;
  inherit (lib.importJSON ../../installer/answers/features.json) features;
  fits = feature: lib.elem system (feature.systems or [ system ]);
  id = "00000000-0000-4000-8000-000000000000";
in
{
  hypervisor = {
    enable = true;
    tier = "enterprise";
    riskTolerance = "accepting";
    # Of two that conflict the first in the catalogue's order.
    features = lib.mapAttrs (name: feature: {
      enable = fits feature && !lib.any (other: other < name) feature.conflicts;
    }) features;
    passthrough.devices."0000:01:00.0" = {
      vendor = "10de";
      device = "2204";
      drivers = [ "nouveau" ];
    };
    security.profile = "paranoid";
    storage = {
      esp.mirrors = [ "/boot2" ];
      zfs.hostId = "00000001";
    };
    virtualization.hugepages."1G" = 1;
  };
  boot = {
    initrd = {
      luks.devices.root.device = "/dev/disk/by-uuid/${id}";
      # The passphrase is typed over SSH.
      network = {
        enable = true;
        ssh = {
          enable = true;
          authorizedKeys = [ "ssh-ed25519 AAAA sample" ];
          hostKeys = [ "/var/lib/hyper-nixos/secrets/sample" ];
        };
      };
      systemd.network = {
        enable = true;
        networks."10-sample".matchConfig.Name = "en*";
      };
    };
    kernelParams = lib.optional isx86_64 "intel_iommu=on";
    loader = {
      efi.canTouchEfiVariables = true;
      systemd-boot.enable = true;
    };
    supportedFilesystems = [
      "btrfs"
      "ext4"
      "vfat"
      "xfs"
      "zfs"
    ];
    swraid.enable = true;
    zfs.forceImportRoot = false;
  };
  hardware = {
    enableRedistributableFirmware = true;
    cpu = lib.mkIf isx86_64 {
      amd.updateMicrocode = true;
      intel.updateMicrocode = true;
    };
  };
  fileSystems = {
    "/" = {
      device = "/dev/mapper/root";
      fsType = "btrfs";
    };
    "/boot" = {
      device = "/dev/disk/by-partuuid/${id}";
      fsType = "vfat";
    };
    "/boot2" = {
      device = "/dev/disk/by-partuuid/${id}2";
      fsType = "vfat";
    };
    "/srv/ext4" = {
      device = "/dev/disk/by-uuid/${id}";
      fsType = "ext4";
    };
    "/srv/xfs" = {
      device = "/dev/disk/by-uuid/${id}";
      fsType = "xfs";
    };
    "/srv/zfs" = {
      device = "tank/srv";
      fsType = "zfs";
    };
  };
  swapDevices = [
    {
      device = "/dev/disk/by-partuuid/${id}3";
      randomEncryption.enable = true;
    }
    {
      device = "/swap";
      size = 1024;
    }
  ];
  services.lvm.boot.thin.enable = true;

  networking = {
    domain = "example.org";
    proxy.default = "http://proxy.example.org:3128";
  };
  security.pki.certificates = [ "a certificate" ];
  services.openssh.enable = true;
  programs = {
    fish.enable = true;
    zsh.enable = true;
  };
  users.users.sample = {
    isNormalUser = true;
    extraGroups = [
      "hv-admins"
      "wheel"
    ];
    hashedPasswordFile = "/var/lib/hyper-nixos/secrets/sample";
    openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA sample" ];
  };
  system.stateVersion = lib.trivial.release;
}
