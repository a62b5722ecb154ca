# What kind of virtualization host this is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  hypervisor = {
    enable = true;
    tier = "enhanced";
    riskTolerance = "balanced";
    features = {
      foreign-architectures.enable = true;
      nested-virtualization.enable = true;
      tpm.enable = false;
    };
    virtualization = {
      cpuModel = "host-model";
      hugepages = {
        "1G" = 8;
        "2M" = 0;
      };
    };
    security.profile = "strict";
  };
}
