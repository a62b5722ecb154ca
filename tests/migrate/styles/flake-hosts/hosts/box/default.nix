{ ... }:
{
  imports = [
    ./hardware.nix
    ../../common
  ];
  networking.hostName = "box";
  system.stateVersion = "25.11";
}
