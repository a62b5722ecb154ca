{ ... }:
{
  imports = [
    ./hardware.nix
    ../../common
  ];
  networking.hostName = "web";
  system.stateVersion = "25.11";
}
