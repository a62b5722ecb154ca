{ lib, ... }: lib.mkMerge [
  { networking.hostName = "box"; system.stateVersion = "25.11"; }
  {
    services.openssh.enable = true;
    users.users.alice = {
      isNormalUser = true;
      extraGroups = [ "wheel" ];
      openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT alice" ];
    };
  }
]
