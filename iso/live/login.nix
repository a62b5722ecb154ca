# The way in over SSH: root, with the keys on the medium or the password that the screen shows.
{ lib, ... }:
{
  services.openssh = {
    enable = true;
    settings = {
      AllowUsers = [
        "nixos"
        "root"
      ];
      KbdInteractiveAuthentication = false;
      # Accounts whose password is empty (the console's) are not let in by sshd's own default.
      PasswordAuthentication = true;
      PermitEmptyPasswords = "no";
      PermitRootLogin = lib.mkForce "yes";
      UseDns = false;
      X11Forwarding = false;
    };
  };
}
