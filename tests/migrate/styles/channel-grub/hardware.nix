{
  boot.loader.grub.device = "/dev/disk/by-id/ata-EXAMPLE_1";
  fileSystems."/" = { device = "/dev/disk/by-label/nixos"; fsType = "ext4"; };
  nixpkgs.hostPlatform = "x86_64-linux";
}
