{ lib, ... }:
{
  networking.hostName = "mail";
  system.stateVersion = "25.11";
  boot.loader.grub.device = "nodev";
  boot.loader.grub.efiSupport = true;
  fileSystems."/" = { device = "/dev/disk/by-label/root"; fsType = "btrfs"; options = [ "subvol=root" ]; };
  fileSystems."/boot" = { device = "/dev/disk/by-label/ESP"; fsType = "vfat"; };
  services.openssh.enable = true;
  users.users.alice = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT alice" ];
  };
}
