{
  networking.hostName = "box";
  system.stateVersion = "25.11";
  systemd.network.enable = true;
  networking.useNetworkd = true;
}
