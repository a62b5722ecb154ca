# The host hv-01.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  imports = [
    ./hardware-configuration.nix
    ./disks.nix
    ./network.nix
    ./users.nix
    ./hypervisor.nix
    ./passthrough.nix
    ./phase.nix
  ];
  i18n.defaultLocale = "de_DE.UTF-8";
  time.timeZone = "Europe/Berlin";
  console = {
    keyMap = "de-latin1-nodeadkeys";
    earlySetup = true;
  };
  nix.settings = {
    experimental-features = [
      "nix-command"
      "flakes"
    ];
    substituters = [ "https://cache.example.org" ];
    trusted-public-keys = [ "cache.example.org-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" ];
  };
  networking.proxy = {
    default = "http://proxy.example.org:3128";
    noProxy = "localhost,example.org";
  };
  security.pki.certificates = [
    ''
      -----BEGIN CERTIFICATE-----
      MIIBszCCAVmgAwIBAgIUQ
      q83vEjRWeJA=
      -----END CERTIFICATE-----
    ''
  ];
  # The release that this host's data began with: leave it as it is, also when the host is upgraded.
  system.stateVersion = "26.05";
}
