# install.sh DISK FIRMWARE: what a person does by NixOS's manual, on the live medium: partitions, file systems, and the
# system that the files in /run/plain describe, built by Nix into the disk.
set -euo pipefail
disk=$1 firmware=$2
until [ -b "$disk" ]; do udevadm settle; done
if [ "$firmware" = uefi ]; then
    sgdisk -n 1:0:+256M -t 1:ef00 -n 2:0:0 "$disk"
else
    sgdisk -n 1:0:+1M -t 1:ef02 -n 2:0:0 "$disk"
fi
udevadm settle
until [ -b "$disk-part2" ]; do udevadm settle; done
mkfs.ext4 -q -L nixos "$disk-part2"
mount "$disk-part2" /mnt
if [ "$firmware" = uefi ]; then
    mkfs.vfat -n BOOT "$disk-part1"
    mkdir /mnt/boot
    mount "$disk-part1" /mnt/boot
fi
chmod 755 /mnt
mkdir -p /mnt/etc/nixos
cp /run/plain/*.nix /mnt/etc/nixos/
nix flake lock path:/mnt/etc/nixos
system=$(nix build path:/mnt/etc/nixos#nixosConfigurations.workshop.config.system.build.toplevel --store /mnt \
    --no-link --print-out-paths --option substitute true --option extra-substituters 'auto?trusted=1')
nix-env --store /mnt --profile /mnt/nix/var/nix/profiles/system --set "$system" --option substitute false
touch /mnt/etc/NIXOS
ln -s /proc/mounts /mnt/etc/mtab
enter() {
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        sh "$(dirname "$(readlink -f /live/bin/hv)")/../installer/execute/enter.sh" /mnt "$@"
}
# It complains of what only a running system has.
enter "$system/activate" || true
NIXOS_INSTALL_BOOTLOADER=1 enter "$system/bin/switch-to-configuration" boot
umount -R /mnt
sync
