#!/bin/sh
# enter.sh ROOT PROGRAM [ARGUMENT...]
# Runs PROGRAM with the installed system at ROOT as its root directory. The caller put us into a mount and PID
# namespace of our own (unshare(1)), so that these mounts are seen by nobody else and end with us.
set -eu
root=$1
shift
for folder in dev sys; do
    mkdir -p "$root/$folder"
    mount --rbind "/$folder" "$root/$folder"
done
# Names of disks as they are told here, in place of udev's: one that is missing may lead to another that stands in for it.
if [ -n "${HV_DISK_NAMES:-}" ]; then
    mount --bind "$HV_DISK_NAMES" "$root/dev/disk/by-id"
    unset HV_DISK_NAMES
fi
mkdir -p "$root/proc" "$root/tmp"
mount -t proc proc "$root/proc"
# Firmware variables, for the boot entry; the live system may not have mounted them.
variables=/sys/firmware/efi/efivars
if [ -d "$variables" ] && [ -z "$(ls -A "$variables")" ]; then
    mount -t efivarfs efivarfs "$root$variables" || echo "enter.sh: firmware variables cannot be mounted" >&2
fi
# Paths below ROOT must keep their meaning inside: initrd secrets name files by the path they have while installing.
mkdir -p "$root$root"
mount --rbind "$root" "$root$root"
mount --make-rslave "$root$root"
enter=$(command -v chroot)
PATH=/nix/var/nix/profiles/system/sw/bin:/nix/var/nix/profiles/system/sw/sbin
export PATH
exec "$enter" "$root" "$@"
