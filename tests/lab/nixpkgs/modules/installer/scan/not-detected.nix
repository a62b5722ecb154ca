# What nixos-generate-config imports on bare metal; the stand-in has no firmware to switch on.
{ }
