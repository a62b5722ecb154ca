# Two disks, btrfs on LUKS on each.
{ lib, ... }:
let
  luks = name: content: {
    type = "luks";
    inherit name content;
    passwordFile = "/run/secrets/passphrase";
    settings.allowDiscards = false;
  };
  disk = device: esp: root: {
    type = "disk";
    inherit device;
    content = {
      type = "gpt";
      partitions = {
        esp = {
          type = "EF00";
          size = "2G";
          content = esp;
        };
        root = {
          size = "100%";
          content = root;
        };
      };
    };
  };
in
{
  disko.devices.disk = {
    a = disk "/dev/disk/by-id/nvme-Example_1" {
      type = "filesystem";
      format = "vfat";
      mountpoint = "/boot";
    } (luks "one" null);
    b = disk "/dev/disk/by-id/nvme-Example_2" null (luks "two" {
      type = "btrfs";
      extraArgs = [
        "-d raid1"
        "/dev/mapper/one"
      ];
      subvolumes = {
        "/@" = {
          mountpoint = "/";
          mountOptions = [ "noatime" ];
        };
        "/@nix".mountpoint = "/nix";
        "/@swap" = {
          mountpoint = "/swap";
          swap.file.size = "4G";
        };
      };
    });
  };
}
