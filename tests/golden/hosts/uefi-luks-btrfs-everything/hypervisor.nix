# What kind of virtualization host this is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  hypervisor = {
    enable = true;
    tier = "enhanced";
    features = {
      foreign-architectures.enable = true;
      tpm.enable = false;
    };
    virtualization = {
      nested = true;
      hugepages1G = 8;
    };
    security.profile = "strict";
  };
}
