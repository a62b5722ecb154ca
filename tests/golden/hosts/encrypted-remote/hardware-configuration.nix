# What this machine is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{ lib, ... }:
{
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  boot = {
    initrd.availableKernelModules = [
      "ahci"
      "dm_crypt"
      "hid_generic"
      "nvme"
      "usbhid"
      "virtio_blk"
      "virtio_net"
      "virtio_pci"
      "virtio_scsi"
      "xfs"
    ];
    kernelParams = [
      "intel_iommu=on"
      "iommu=pt"
    ];
    kernelModules = [ "kvm-intel" ];
  };
}
