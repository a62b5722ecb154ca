# People, and how they log in.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{ lib, ... }:
{
  users = {
    # A declared password is taken when the account is made; after that passwd(1) rules, and stays in force
    # through rebuilds. So nobody is locked out by a lost hash file, and no old password comes back.
    # In phase hardened the security profiles strict and paranoid keep accounts as they are declared instead.
    mutableUsers = lib.mkDefault true;
    users.anna = {
      isNormalUser = true;
      extraGroups = [
        "wheel"
        "hv-admins"
      ];
      hashedPasswordFile = "/var/lib/hyper-nixos/secrets/passwords/anna";
      openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDWOfxmK02LtqdIJL+wWvvsQA55tVpIzEYwg2MJalaAi anna@example.org" ];
    };
  };
  services.openssh = {
    enable = true;
    ports = [ 22 ];
  };
}
