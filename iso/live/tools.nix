# Programs for people: whatever a disk, a controller or a network card may need looking at with.
{ config, pkgs, ... }:
{
  environment.systemPackages = [
    config.hypervisor.package

    # Volumes and file systems
    pkgs.age
    pkgs.btrfs-progs
    pkgs.cryptsetup
    pkgs.dosfstools
    pkgs.e2fsprogs
    pkgs.exfatprogs
    pkgs.f2fs-tools
    pkgs.lvm2
    pkgs.mdadm
    pkgs.ntfs3g
    pkgs.xfsprogs
    config.boot.zfs.package

    # Disks
    pkgs.ddrescue
    pkgs.hdparm
    pkgs.lsscsi
    pkgs.multipath-tools
    pkgs.nvme-cli
    pkgs.sg3_utils
    pkgs.smartmontools

    # Firmware and buses
    pkgs.dmidecode
    pkgs.efibootmgr
    pkgs.ipmitool
    pkgs.kexec-tools
    pkgs.mokutil
    pkgs.pciutils
    pkgs.tpm2-tools
    pkgs.usbutils

    # The network
    pkgs.ethtool
    pkgs.iproute2
    pkgs.tcpdump

    # Long work over a thin line
    pkgs.tmux
  ];

  services.lvm.enable = true;
  boot.swraid.enable = true;
  nix.settings.experimental-features = [
    "flakes"
    "nix-command"
  ];
}
