# The host kvm5.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  imports = [
    ./hardware-configuration.nix
    ./disks.nix
    ./network.nix
    ./users.nix
    ./hypervisor.nix
    ./unlock.nix
    ./phase.nix
  ];
  i18n.defaultLocale = "en_US.UTF-8";
  time.timeZone = "UTC";
  console = {
    keyMap = "de-latin1";
    earlySetup = true;
  };
  nix.settings.experimental-features = [
    "nix-command"
    "flakes"
  ];
  # The release that this host's data began with: leave it as it is, also when the host is upgraded.
  system.stateVersion = "26.05";
}
