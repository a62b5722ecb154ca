# Do not modify this file!
{ config, ... }:

{
  boot.loader.grub.enable = true;
  boot.loader.grub.device = "/dev/disk/by-id/virtio-HVMAIN01";
  boot.loader.timeout = 1;
  # The second: a busy emulator starves the timer that the kernel looks for at boot.
  boot.kernelParams = [
    "console=ttyS0,115200"
    "no_timer_check"
  ];
  boot.initrd.availableKernelModules = [
    "virtio_pci"
    "virtio_blk"
  ];

  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
}
