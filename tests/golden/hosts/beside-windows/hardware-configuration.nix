# What this machine is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{ lib, ... }:
{
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  boot = {
    initrd.availableKernelModules = [
      "dm_crypt"
      "ext4"
      "hid_generic"
      "nvme"
      "usbhid"
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
