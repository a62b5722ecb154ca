# Devices kept free for guests.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  hypervisor.passthrough.devices = {
    "0000:01:00.0" = {
      vendor = "10de";
      device = "2204";
      drivers = [ "nouveau" ];
    };
    "0000:01:00.1" = {
      vendor = "10de";
      device = "1aef";
      drivers = [ "snd_hda_intel" ];
    };
  };
}
