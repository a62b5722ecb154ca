# What this machine is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{ lib, ... }:
{
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  boot = {
    initrd.availableKernelModules = [
      "ahci"
      "btrfs"
      "hid_generic"
      "nvme"
      "usbhid"
      "virtio_blk"
      "virtio_net"
      "virtio_pci"
      "virtio_scsi"
    ];
    kernelParams = [
      "intel_iommu=on"
      "iommu=pt"
      "console=tty0"
      "console=ttyS0,115200"
    ];
    kernelModules = [ "kvm-intel" ];
  };
}
