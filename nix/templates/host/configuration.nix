# Replace every value that says `example`, and what nixos-generate-config finds on your machine.
{
  networking.hostName = "host";
  nixpkgs.hostPlatform = "x86_64-linux";

  hypervisor.enable = true;
  hypervisor.phase = "setup";

  # hardware-configuration.nix, as nixos-generate-config writes it, goes here instead.
  fileSystems."/" = {
    device = "/dev/disk/by-label/example-root";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/EXAMPLE-ESP";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;

  services.openssh.enable = true;
  users.users.example = {
    isNormalUser = true;
    extraGroups = [
      "hv-admins"
      "wheel"
    ];
    # Without your own key, nobody gets in.
    openssh.authorizedKeys.keys = [
      "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT example"
    ];
  };

  system.stateVersion = "26.05";
}
