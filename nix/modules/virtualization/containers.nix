# Podman beside the virtual machines. Netavark writes its rules with nftables, as the firewall does.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
  inherit (cfg) features;
in
{
  config = lib.mkIf (cfg.virtualization.enable && features.containers.enable) {
    virtualisation.podman = {
      enable = true;
      # Whoever speaks to it is root.
      dockerSocket.enable = lib.mkDefault false;
      dockerCompat = lib.mkDefault features.docker-command.enable;
      # Containers of the default network find each other by name; NixOS opens port 53 on their bridge alone.
      defaultNetwork.settings.dns_enabled = lib.mkDefault true;
    };
  };
}
