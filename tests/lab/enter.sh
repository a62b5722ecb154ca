#!/bin/sh
# enter.sh ROOT OWNER DIRECTORY COMMAND...
# Runs COMMAND with ROOT as its root directory, in the mount namespace that unshare(1) made for it.
# pivot_root instead of chroot: the kernel refuses new user namespaces to a chrooted process, and Nix's sandbox
# needs them. /tmp and DIRECTORY keep their names inside. OWNER (uid:gid) is who runs COMMAND; empty: root.
set -eu
root=$1 owner=$2 directory=$3
shift 3
mount --bind "$root" "$root"
cd "$root"
mkdir -p dev proc sys tmp run mnt old-root ".$directory"
if [ "$$" = 1 ]; then mount -t proc proc proc; else mount --rbind /proc proc; fi
mount --rbind /sys sys
mount --rbind /dev dev
mount --rbind /tmp tmp
mount -t tmpfs -o mode=0755 tmpfs run
mount --rbind "$directory" ".$directory"
if [ -n "$owner" ]; then # ssh and ssh-keygen refuse to run for somebody without an account
    { cat etc/passwd; getent passwd "${owner%:*}"; } >run/passwd
    mount --bind run/passwd etc/passwd
fi
if [ -e /etc/resolv.conf ] && [ -f etc/resolv.conf ]; then mount --bind /etc/resolv.conf etc/resolv.conf; fi
pivot_root . old-root
cd "$directory"
umount -l /old-root
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
if [ -n "$owner" ]; then
    exec setpriv --reuid "${owner%:*}" --regid "${owner#*:}" --clear-groups -- "$@"
fi
exec "$@"
