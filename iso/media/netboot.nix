# Kernel and initial RAM disk over the network (PXE, iPXE, HTTP boot) or by kexec from a running Linux.
{
  lib,
  modulesPath,
  nixpkgs,
  self,
  ...
}:
{
  imports = [
    ../live
    (modulesPath + "/installer/netboot/netboot.nix")
  ];

  netboot.storeContents = [
    nixpkgs
    self
  ];
  netboot.squashfsCompression = lib.mkDefault "zstd -Xcompression-level 6";
  # Everything is kept in memory: what only building would need stays away.
  system.extraDependencies = lib.mkOverride 60 [ ];
}
