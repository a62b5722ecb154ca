# What this machine is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{ lib, ... }:
{
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  boot = {
    initrd.availableKernelModules = [
      "hid_generic"
      "md_mod"
      "nvme"
      "raid456"
      "usbhid"
      "xfs"
      "xhci_pci"
    ];
    kernelParams = [
      "intel_iommu=on"
      "iommu=pt"
    ];
    kernelModules = [ "kvm-intel" ];
  };
  hardware = {
    enableRedistributableFirmware = true;
    cpu.intel.updateMicrocode = true;
  };
}
