# Imported by path, as `hv migrate` does it; the configuration says which source that path is in.
{ config, ... }@arguments: import ../../module.nix config.hypervisor.source arguments
