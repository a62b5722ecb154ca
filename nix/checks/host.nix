# What every host in these tests is, beside what a test adds.
{ self, ... }:
{
  imports = [ self.nixosModules.default ];

  hypervisor.enable = true;
  services.openssh.enable = true;
  users.users.admin = {
    isNormalUser = true;
    extraGroups = [
      "hv-admins"
      "wheel"
    ];
    # Of "lab-password".
    hashedPassword = "$6$labsalt0$praDOUx7h53MY.2QDGD/CCLIPvRTkbRuRuFqKiMjZU/ZKudDj/j1QWXND16b5TWrXeKpb.tmH7DSPyUsEWLU70";
    openssh.authorizedKeys.keys = [
      "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT admin"
    ];
  };
  virtualisation.memorySize = 2048;
}
