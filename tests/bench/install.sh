#!/bin/bash
# install.sh DEVICE UUID LABEL TOPLEVEL CACHE CONFIGURATION HASH_FILE USER
#
# What somebody would write who installs this one machine without the installer: the same raw commands in the same
# order, reading back the same things. Prints the seconds from before the first write to after the last sync.
set -euo pipefail
device=$1 uuid=$2 label=$3 toplevel=$4 cache=$5 configuration=$6 hash=$7 user=$8
system=/nix/var/nix/profiles/system
features=(--extra-experimental-features 'nix-command flakes')

inside() {
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc bash -euo pipefail -c '
        for folder in dev sys; do mkdir -p "/mnt/$folder"; mount --rbind "/$folder" "/mnt/$folder"; done
        mkdir -p /mnt/proc /mnt/tmp
        mount -t proc proc /mnt/proc
        export PATH=/nix/var/nix/profiles/system/sw/bin
        exec /usr/sbin/chroot /mnt "$@"' _ "$@"
}

unsigned() {
    [ -z "$(blkid -p -s TYPE -o value "$1")" ]
}

# Readers read to the end: with -q the writer would be told off by a broken pipe.
begin=$EPOCHREALTIME
wipefs --all --quiet "$device"
unsigned "$device"
sfdisk --quiet --label gpt "$device" <<TABLE
start=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649, name=$label-grub
start=2MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=$label-root
TABLE
udevadm settle
for part in 1 2; do
    until [ -b "$device-part$part" ]; do udevadm settle; done
    wipefs --all --quiet "$device-part$part"
    unsigned "$device-part$part"
done
sfdisk --json "$device" | grep "$label-root" >/dev/null
mkfs.ext4 -q -F -U "$uuid" -L "$label-root" -O '^metadata_csum_seed' "$device-part2"
udevadm settle
[ "$(blkid -p -s UUID -o value "$device-part2")" = "$uuid" ]
mkdir -p /mnt
mount -t ext4 -o noatime "$device-part2" /mnt
findmnt --noheadings --output UUID /mnt | grep "$uuid" >/dev/null
mkdir -p -m 0700 /mnt/var/lib/hyper-nixos/secrets/passwords
install -m 0600 "$hash" "/mnt/var/lib/hyper-nixos/secrets/passwords/$user"
cmp -s "$hash" "/mnt/var/lib/hyper-nixos/secrets/passwords/$user"
mkdir -p /mnt/etc/nixos
cp -r "$configuration/." /mnt/etc/nixos/
diff -r "$configuration" /mnt/etc/nixos

nix copy --from "$cache" --to /mnt --no-check-sigs "${features[@]}" "$toplevel" 2>/dev/null
nix path-info --store /mnt --recursive "${features[@]}" "$toplevel" | while read -r path; do
    [ -e "/mnt$path" ] || [ -L "/mnt$path" ]
done
nix-env --store /mnt --profile "/mnt$system" --set "$toplevel" --option substitute false
[ "$(readlink "/mnt/nix/var/nix/profiles/$(readlink "/mnt$system")")" = "$toplevel" ]

touch /mnt/etc/NIXOS
ln -sfn /proc/mounts /mnt/etc/mtab
inside "$system/activate" >/dev/null
NIXOS_INSTALL_BOOTLOADER=1 inside "$system/bin/switch-to-configuration" boot >/dev/null 2>&1

# It will boot: code in the boot sector and its partition, the closure's kernel and initrd behind the menu.
head -c 440 "$device" | grep -a GRUB >/dev/null
head -c 512 "$device-part1" | tr -d '\0' | grep -a . >/dev/null
for file in kernel initrd; do
    stored=$(readlink -f "/mnt$toplevel/$file")
    [ -e "$stored" ] || stored=/mnt$stored
    found=
    for copy in /mnt/boot/kernels/*; do ! cmp -s "$stored" "$copy" || found=$copy; done
    [ -n "$found" ]
done
grep -q "init=$toplevel/init" /mnt/boot/grub/grub.cfg
zstd -dcq "$(ls /mnt/boot/kernels/*initrd* | head -n 1)" 2>/dev/null | grep -a ext4 >/dev/null
grep -q " / " "/mnt$toplevel/etc/fstab"
# Somebody can log in.
grep -q "^$user:[$]" /mnt/etc/shadow
inside "$toplevel/sw/bin/ssh-keygen" -q -t ed25519 -N '' -f /tmp/key
for phase in "$toplevel" "$toplevel/specialisation/hardened"; do
    mkdir -p /mnt/run/sshd
    inside "$toplevel/sw/bin/sshd" -T -h /tmp/key -f "$phase/etc/ssh/sshd_config" \
        -C "user=$user,host=client.invalid,addr=192.0.2.1" | grep '^pubkeyauthentication yes' >/dev/null
done
rm -f /mnt/tmp/key /mnt/tmp/key.pub
umount --recursive /mnt
if findmnt /mnt; then exit 1; fi
sync
end=$EPOCHREALTIME
echo "seconds $(awk "BEGIN { print $end - $begin }")"
