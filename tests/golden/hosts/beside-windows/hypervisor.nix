# What kind of virtualization host this is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  hypervisor = {
    enable = true;
    tier = "standard";
    riskTolerance = "balanced";
    virtualization = {
      cpuModel = "host-model";
      hugepages = {
        "1G" = 0;
        "2M" = 0;
      };
    };
    security.profile = "balanced";
  };
}
