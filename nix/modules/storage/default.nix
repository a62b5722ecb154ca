# Disks in daily use: checked, trimmed, and each boot disk able to start the host. Layouts come from the host's own files.
{
  config,
  lib,
  ...
}:
{
  imports = [
    ./encrypted.nix
    ./esp.nix
    ./maintenance.nix
    ./pools.nix
    ./zfs.nix
  ];

  options.hypervisor.storage.enable = lib.mkOption {
    type = lib.types.bool;
    default = config.hypervisor.enable;
    defaultText = lib.literalExpression "config.hypervisor.enable";
    example = false;
    description = ''
      Whether storage is looked after: regular checks and trims, libvirt's pools, mirrored boot partitions, ZFS's limits.
    '';
  };
}
