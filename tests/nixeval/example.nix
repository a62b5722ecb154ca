# A small host by hand, for tests of single modules.
{
  hypervisor.enable = true;
  networking.hostName = "example";
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/00000000-0000-0000-0000-000000000001";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/0000-0001";
    fsType = "vfat";
  };
  boot.loader.systemd-boot.enable = true;
  services.openssh.enable = true;
  users.users.alice = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT alice" ];
  };
  system.stateVersion = "26.05";
}
