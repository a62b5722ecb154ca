# Starts the live medium in QEMU as a machine with UEFI, an empty disk and SSH at port 2222 of this one.
{
  lib,
  OVMF,
  iso,
  qemu,
  stdenv,
  writeShellApplication,
}:
let
  inherit (stdenv) hostPlatform;
  machine =
    if hostPlatform.isAarch64 then
      "virt,gic-version=max"
    else
      # With an IOMMU, so that probing has something to find.
      "q35,kernel-irqchip=split -device intel-iommu,intremap=on";
in
writeShellApplication {
  name = "hyper-nixos-try";
  runtimeInputs = [ qemu ];
  text = ''
    # The disk is kept between two tries; another one is made where HYPER_NIXOS_DISK says.
    disk=''${HYPER_NIXOS_DISK:-hyper-nixos-try.qcow2}
    [ -e "$disk" ] || qemu-img create -q -f qcow2 "$disk" 40G
    firmware=$disk.efivars
    [ -e "$firmware" ] || install -m 600 ${OVMF.fd.variables} "$firmware"
    images=(${iso}/iso/*.iso)
    exec qemu-system-${hostPlatform.qemuArch} \
      -machine ${machine} \
      -accel kvm -accel tcg -cpu max -smp 2 -m 4096 \
      -drive if=pflash,format=raw,unit=0,readonly=on,file=${OVMF.fd.firmware} \
      -drive if=pflash,format=raw,unit=1,file="$firmware" \
      -drive if=none,id=disk,format=qcow2,discard=unmap,file="$disk" \
      -device virtio-blk-pci,drive=disk,serial=TRY1,bootindex=1 \
      -drive if=none,id=medium,format=raw,media=cdrom,readonly=on,file="''${images[0]}" \
      -device virtio-scsi-pci -device scsi-cd,drive=medium,bootindex=2 \
      -nic user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22 \
      "$@"
  '';
  meta.description = "The live medium of Hyper-NixOS in QEMU";
  meta.platforms = lib.platforms.linux;
}
