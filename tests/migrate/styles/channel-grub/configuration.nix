{ pkgs, ... }: {
  imports = [ ./hardware.nix ./users.nix ];
  networking = {
    hostName = "box";
    useDHCP = false;
    interfaces.enp1s0.ipv4.addresses = [ { address = "192.0.2.10"; prefixLength = 24; } ];
    defaultGateway = "192.0.2.1";
    nameservers = [ "192.0.2.53" ];
  };
  services.openssh = {
    enable = true;
    ports = [ 2222 ];
    settings.PermitRootLogin = "no";
  };
  virtualisation.docker.enable = true;
  system.stateVersion = "24.11";
}
