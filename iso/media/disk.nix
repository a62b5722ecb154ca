# The live system on a disk that keeps what is written to it: for machines and clouds that start from disk images only.
{
  config,
  lib,
  modulesPath,
  pkgs,
  ...
}:
{
  imports = [
    ../live
    (modulesPath + "/virtualisation/disk-image.nix")
  ];

  image.baseName = lib.mkForce "hyper-nixos-${config.hypervisor.package.version}-${pkgs.stdenv.hostPlatform.system}";
  # Room for the system; the root grows to the end of its disk at the first boot.
  virtualisation.diskSize = lib.mkDefault "auto";
  # Any system can put it there, or fill it in the image: `hv media embed`.
  boot.loader.systemd-boot.extraFiles."hyper-nixos/embed.bin" = import ./area.nix {
    inherit lib pkgs;
  };
  system.stateVersion = lib.mkDefault lib.trivial.release;
}
