# What kind of virtualization host this is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  hypervisor = {
    enable = true;
    tier = "professional";
    virtualization = {
      nested = false;
      hugepages1G = 16;
    };
    security.profile = "balanced";
  };
}
