# Phase setup, with the other one as a specialisation.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{ lib, ... }:
{
  hypervisor.phase = "setup";
  services.openssh.settings = {
    PubkeyAuthentication = true;
    PasswordAuthentication = false;
    KbdInteractiveAuthentication = false;
    PermitRootLogin = "no";
    AllowUsers = [ "anna" ];
  };
  specialisation.hardened.configuration = {
    hypervisor.phase = lib.mkForce "hardened";
    services.openssh.settings = {
      PubkeyAuthentication = lib.mkForce true;
      PasswordAuthentication = lib.mkForce false;
      KbdInteractiveAuthentication = lib.mkForce false;
      PermitRootLogin = lib.mkForce "no";
      AllowUsers = lib.mkForce [ "anna" ];
    };
  };
}
