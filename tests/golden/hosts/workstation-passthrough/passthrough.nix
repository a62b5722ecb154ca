# Devices kept free for guests.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  hypervisor.passthrough.devices = {
    "0000:01:00.0" = {
      vendor = "10de";
      device = "2704";
      drivers = [ "nouveau" ];
    };
    "0000:01:00.1" = {
      vendor = "10de";
      device = "22bb";
      drivers = [ "snd_hda_intel" ];
    };
    "0000:03:00.0" = {
      vendor = "144d";
      device = "a80a";
      drivers = [ "nvme" ];
    };
  };
}
