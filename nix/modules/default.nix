# Everything that a Hyper-NixOS host is made of. One folder a topic; each can be used alone.
{
  imports = [
    ./compat.nix
    ./console
    ./core
    ./degraded
    ./migration
    ./network
    ./passthrough
    ./prebuilt
    ./privileges
    ./security
    ./storage
    ./virtualization
  ];
}
