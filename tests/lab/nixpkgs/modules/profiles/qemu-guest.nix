# What nixos-generate-config imports in a QEMU machine; the stand-in names the modules itself.
{
  boot.initrd.availableKernelModules = [
    "virtio_net"
    "virtio_pci"
    "virtio_blk"
    "virtio_scsi"
  ];
}
