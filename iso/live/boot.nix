# Kernel and hardware: a machine that nobody knows yet has to come up, and to show all that it can.
{ lib, pkgs, ... }:
let
  inherit (pkgs.stdenv) hostPlatform;
  serial = [ "ttyS0" ] ++ lib.optional hostPlatform.isAarch64 "ttyAMA0";
  # Arguments are put in its place on a finished medium; installer/embed.py has the same, and a test compares.
  embedded = "hyper-nixos.pad=" + lib.strings.replicate 496 "#";
in
{
  boot.kernelParams = lib.mkMerge [
    # Probing sees the IOMMU groups that the installed host will have.
    [
      "intel_iommu=on"
      "iommu=pt"
      # A host of the machine that hibernates is left as it is. Stage 1 would go by what the firmware knows of it, and the
      # kernel takes a memory's signature away as soon as it looks whether the memory is its own.
      "noresume"
    ]
    # The last one that there is hardware for is /dev/console: a machine without a screen tells its whole boot over the
    # serial line. The screen has the kernel's messages, the page and the shells in any case.
    (lib.mkAfter ([ "console=tty0" ] ++ map (port: "console=${port},115200") serial))
    # Behind everything else, so that what is put there wins.
    (lib.mkOrder 2000 [ embedded ])
  ];

  hardware.enableAllHardware = true;
  # Above what the netboot profile forgoes: a network card without its firmware cannot install anything.
  hardware.enableRedistributableFirmware = lib.mkOverride 60 true;
  hardware.cpu = lib.mkIf hostPlatform.isx86 {
    amd.updateMicrocode = true;
    intel.updateMicrocode = true;
  };

  boot.initrd.systemd.enable = true;
  # Nor is the firmware made to forget it: the probe asks for it.
  systemd.services.systemd-hibernate-clear.enable = false;
  # Pools of the machine are looked at, never taken from another system.
  boot.zfs.forceImportRoot = false;
}
