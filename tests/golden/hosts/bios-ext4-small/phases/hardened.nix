# Phase hardened, with the other one as a specialisation.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{ lib, ... }:
{
  hypervisor.phase = "hardened";
  specialisation.setup.configuration.hypervisor.phase = lib.mkForce "setup";
}
