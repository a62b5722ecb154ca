# The ISO image: on a CD, a virtual CD, or written to a stick as it is.
{
  config,
  lib,
  modulesPath,
  nixpkgs,
  pkgs,
  self,
  ...
}:
let
  package = config.hypervisor.package;
  inherit (pkgs.stdenv) hostPlatform;
  embed = import ./area.nix { inherit lib pkgs; };
  efiImage = lib.findSingle (
    file: file.target == "/boot/efi.img"
  ) (throw "the ISO image has no /boot/efi.img") (throw "the ISO image has two /boot/efi.img") config.isoImage.contents;
in
{
  imports = [
    ../live
    (modulesPath + "/installer/cd-dvd/installation-cd-minimal.nix")
  ];

  # No host needs a network to be installed from it.
  hypervisor.medium = {
    building.enable = lib.mkDefault true;
    tiers = lib.mkDefault (lib.attrNames (lib.importJSON ../../installer/answers/tiers.json));
  };
  image.baseName = lib.mkForce "hyper-nixos-${package.version}-${hostPlatform.system}";
  isoImage = {
    # The live system finds its medium by it.
    volumeID = "HYPER_NIXOS";
    contents = [
      {
        source = embed;
        target = "/hyper-nixos/embed.bin";
      }
    ];
    storeContents = [
      nixpkgs
      self
    ];
    squashfsCompression = lib.mkDefault config.hypervisor.medium.squashfs;
  };
  specialisation.speech.configuration.isoImage.configurationName = "with speech";

  # Without a BIOS boot sector xorriso makes no partition table, and firmware starts no stick without one (seen on
  # aarch64): the EFI image becomes a partition of its own kind behind the ISO file system.
  system.build.isoImage = lib.mkIf (!config.isoImage.makeBiosBootable) (
    lib.mkForce (
      (pkgs.callPackage (modulesPath + "/../lib/make-iso9660-image.nix") {
        inherit (config.isoImage) compressImage contents volumeID;
        isoName = "${config.image.baseName}.iso";
        syslinux = null;
        squashfsContents = config.isoImage.storeContents;
        squashfsCompression = config.isoImage.squashfsCompression;
      }).overrideAttrs
        {
          efiBootFlags = lib.concatStringsSep " " [
            "-partition_offset 16"
            "-append_partition 2 C12A7328-F81F-11D2-BA4B-00A0C93EC93B ${efiImage.source}"
            "-appended_part_as_gpt"
            "-eltorito-catalog .boot.cat"
            "-e --interval:appended_partition_2:all::"
            "-no-emul-boot"
          ];
        }
    )
  );
}
