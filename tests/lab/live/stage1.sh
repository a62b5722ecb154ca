#!/bin/sh
# Stage 1 of the live medium: finds the two layers (CD, stick or plain disk), lays a memory layer over them.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
modprobe -a $(cat /etc/modules) 2>/dev/null
mkdir -p /medium /base /code /memory
tries=0
# Started by kexec, the layers came with the initial RAM disk.
[ -f /medium/live/base.squashfs ] && tries=300
while [ $tries -lt 300 ]; do
    for device in /dev/sr0 /dev/sd? /dev/vd? /dev/nvme?n1; do
        [ -b $device ] || continue
        mount -t iso9660 -o ro $device /medium 2>/dev/null || continue
        [ -f /medium/live/base.squashfs ] && break 2
        umount /medium
    done
    tries=$((tries + 1))
    sleep 0.1
done
[ -f /medium/live/base.squashfs ] || { echo "live: no medium found" >/dev/console; poweroff -f; }
losetup -r /dev/loop0 /medium/live/base.squashfs
losetup -r /dev/loop1 /medium/live/code.squashfs
mount -t squashfs -o ro /dev/loop0 /base
mount -t squashfs -o ro /dev/loop1 /code
mount -t tmpfs -o size=80% memory /memory
mkdir -p /memory/upper /memory/work
mount -t overlay -o lowerdir=/code:/base,upperdir=/memory/upper,workdir=/memory/work overlay /newroot
mkdir -p /newroot/run /newroot/iso
if grep -q ' /medium ' /proc/mounts; then
    mount --move /medium /newroot/iso
elif [ -f /hyper-nixos/embed.bin ]; then
    # What the real one's stage 1 does with it (iso/media/netboot.nix).
    mkdir -p /newroot/iso/hyper-nixos
    cp /hyper-nixos/embed.bin /newroot/iso/hyper-nixos/
fi
for each in dev proc sys; do mount --move /$each /newroot/$each; done
exec switch_root /newroot /live/init
