# Edit this configuration file to define what should be installed on this machine.
{ config, pkgs, ... }:

{
  imports = [
    # Include the results of the hardware scan.
    ./hardware-configuration.nix
  ];

  networking.hostName = "workshop";
  networking.useNetworkd = true;
  systemd.network.enable = true;
  systemd.network.networks."10-lan" = {
    matchConfig.Type = "ether";
    networkConfig.DHCP = "ipv4";
  };

  users.users.alice = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    hashedPassword = "@password-hash@";
    openssh.authorizedKeys.keys = [ "@ssh-key@" ];
  };
  # Somebody who may log in and nothing more.
  users.users.bob = {
    isNormalUser = true;
    openssh.authorizedKeys.keys = [ "@ssh-key@" ];
  };

  services.openssh.enable = true;
  services.openssh.settings.PermitRootLogin = "no";

  nix.settings.experimental-features = [
    "nix-command"
    "flakes"
  ];
  # What NixOS makes of nix.settings, without a network.
  environment.etc."nix/nix.conf".text = ''
    experimental-features = nix-command flakes
    sandbox = true
    sandbox-fallback = false
    build-users-group =
    substituters =
    flake-registry =
  '';

  system.stateVersion = "26.05";
}
