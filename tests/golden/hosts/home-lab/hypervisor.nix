# What kind of virtualization host this is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  hypervisor = {
    enable = true;
    tier = "standard";
    virtualization = {
      nested = true;
      hugepages1G = 0;
    };
    security.profile = "balanced";
  };
}
