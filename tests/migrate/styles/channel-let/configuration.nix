{ config, lib, pkgs, ... }:
let
  server = true;
  keys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT alice" ];
in
with lib;
{
  imports = [
    ./hardware-configuration.nix
  ] ++ optional server ./server.nix;

  networking.hostName = "box";
  users.users.alice = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    openssh.authorizedKeys.keys = keys;
  };
  system.stateVersion = "25.11";
}
