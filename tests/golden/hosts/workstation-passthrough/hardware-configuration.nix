# What this machine is.
# Written by `hv install` from the answers; yours from now on. `nixos-rebuild switch` puts changes into force.
{ lib, ... }:
{
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  boot = {
    initrd.availableKernelModules = [
      "dm_crypt"
      "hid_generic"
      "nvme"
      "usbhid"
      "xfs"
      "xhci_pci"
    ];
    kernelParams = [ "iommu=pt" ];
    kernelModules = [ "kvm-amd" ];
  };
  hardware = {
    enableRedistributableFirmware = true;
    cpu.amd.updateMicrocode = true;
  };
}
