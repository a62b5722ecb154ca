# The phase that the host boots into.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{
  imports = [ ./phases/setup.nix ];
}
