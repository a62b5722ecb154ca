# Kernel and initial RAM disk over the network (PXE, iPXE, HTTP boot) or by kexec from a running Linux.
{
  config,
  lib,
  modulesPath,
  nixpkgs,
  self,
  ...
}:
{
  imports = [
    ../live
    ./fetched-store.nix
    (modulesPath + "/installer/netboot/netboot.nix")
  ];

  netboot.storeContents = [
    nixpkgs
    self
  ];
  netboot.squashfsCompression = lib.mkDefault config.hypervisor.medium.squashfs;
  # Answers come as an initial RAM disk of their own, which is gone after stage 1.
  boot.initrd.systemd.tmpfiles.settings.hyper-nixos = {
    "/run/hyper-nixos".d.mode = "0755";
    "/run/hyper-nixos/embed.bin".C = {
      mode = "0600";
      argument = "/hyper-nixos/embed.bin";
    };
  };

  # Everything is kept in memory: what only building would need stays away.
  system.extraDependencies = lib.mkOverride 60 [ ];
}
