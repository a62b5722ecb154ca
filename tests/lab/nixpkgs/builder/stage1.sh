#!/bin/sh
# Stage 1 of the installed system: modules, arrays, passphrases, volumes, file systems, then the system's own init.
export PATH=/bin:/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=0755 run /run
mkdir -p /run/cryptsetup

argument() {
    for word in $(cat /proc/cmdline); do
        case $word in "$1"=*) echo "${word#*=}" ;; esac
    done
}

fail() {
    echo "stage 1: $*" >/dev/console
    dmesg | tail -n 15 >/dev/console
    echo "stage 1: rebooting is all that is left; panic= on the kernel command line decides" >/dev/console
    exit 1
}

# The block device that a /dev/disk/by-... name or a plain path stands for; there is no udev here.
resolve() {
    case $1 in
        /dev/disk/by-uuid/*) blkid -c /dev/null -l -o device -t "UUID=${1##*/}" ;;
        /dev/disk/by-label/*) blkid -c /dev/null -l -o device -t "LABEL=${1##*/}" ;;
        /dev/disk/by-partuuid/*) blkid -c /dev/null -l -o device -t "PARTUUID=${1##*/}" ;;
        /dev/disk/by-partlabel/*) blkid -c /dev/null -l -o device -t "PARTLABEL=${1##*/}" ;;
        *) [ -b "$1" ] && echo "$1" ;;
    esac
}

# Waits for a device to appear, up to 60 s or as many tenths of a second as are given.
wait_for() {
    tries=0
    while [ $tries -lt ${2:-600} ]; do
        found=$(resolve "$1")
        if [ -n "$found" ]; then
            echo "$found"
            return 0
        fi
        tries=$((tries + 1))
        sleep 0.1
    done
    return 1
}

# Asks on one console and hands the answer to whoever waits at the pipe.
ask_on() {
    stty -F "/dev/$1" -echo 2>/dev/null
    printf '\r\nEnter passphrase for disk %s: ' "$2" >"/dev/$1"
    if IFS= read -r answer <"/dev/$1"; then
        printf '%s\n' "$answer" >/run/passphrase
    fi
}

# Asks on every console at once, the serial one included; the first answer counts. What opened one disk is tried on the
# next, as systemd does.
unlock() {
    if [ "$3" = dispensable ]; then
        device=$(wait_for "$2" 100) || {
            echo "stage 1: the encrypted disk $2 is missing; going on without it" >/dev/console
            return
        }
    else
        device=$(wait_for "$2") || fail "the encrypted disk $2 did not appear"
    fi
    if [ -n "$passphrase" ]; then
        printf %s "$passphrase" | cryptsetup open --disable-locks --key-file - $4 "$device" "$1" 2>/dev/null
    fi
    mkfifo -m 0600 /run/passphrase 2>/dev/null
    while [ ! -e "/dev/mapper/$1" ]; do
        asking=""
        for console in $(cat /sys/class/tty/console/active); do
            ask_on "$console" "$1" &
            asking="$asking $!"
        done
        IFS= read -r answer </run/passphrase
        kill $asking 2>/dev/null
        wait
        for console in $(cat /sys/class/tty/console/active); do
            stty -F "/dev/$console" echo 2>/dev/null
            printf '\r\n' >"/dev/$console"
        done
        if ! printf %s "$answer" | cryptsetup open --disable-locks --key-file - $4 "$device" "$1"; then
            echo "Passphrase for disk $1 was not accepted." >/dev/console
        else
            passphrase=$answer
        fi
        answer=""
    done
    echo "Disk $1 is open." >/dev/console
    tell_udev "$1"
}

# udev of stage 2 ignores mapped devices that it did not see being made, unless its database says they are complete
# (55-dm.rules): here is nobody else to say it. Nor does udev replace a device node by the link it wants there.
tell_udev() {
    mkdir -p /run/udev/data
    for device in /sys/block/dm-*; do
        if [ "$(cat "$device/dm/name")" = "$1" ]; then
            echo E:DM_UDEV_PRIMARY_SOURCE_FLAG=1 >"/run/udev/data/b$(cat "$device/dev")"
            ln -sf "../${device##*/}" "/dev/mapper/$1"
        fi
    done
}

# Devices kept for guests: vfio-pci takes them, no other driver may.
while read -r address vendor device; do
    folder=/sys/bus/pci/devices/$address
    if [ "$(cat "$folder/vendor" "$folder/device" 2>/dev/null | tr '\n' ' ')" = "0x$vendor 0x$device " ]; then
        echo vfio-pci >"$folder/driver_override"
        [ ! -e "$folder/driver" ] || echo "$address" >"$folder/driver/unbind"
    else
        echo "stage 1: $address is not $vendor:$device; left to the host" >/dev/console
    fi
done </etc/claims

modprobe -a $(cat /etc/modules) 2>/dev/null

# Arrays whole; after ten seconds also those that lack a member.
if [ -s /etc/mdadm.conf ]; then
    export MDADM_NO_UDEV=1
    tries=0
    arrays=$(grep -c '^ARRAY' /etc/mdadm.conf)
    # What mdadm ends with does not tell whether it started anything.
    until mdadm --assemble --scan --no-degraded --config /etc/mdadm.conf 2>/dev/null
        [ "$(grep -c ': active' /proc/mdstat)" -ge "$arrays" ] || [ $tries -ge 20 ]; do
        tries=$((tries + 1))
        sleep 0.5
    done
    if [ $tries -ge 20 ]; then
        echo "stage 1: an array lacks a member; starting it without" >/dev/console
        mdadm --stop --scan >/dev/null 2>&1 # what was put together and not started holds its members
        mdadm --assemble --scan --run --config /etc/mdadm.conf >/dev/console 2>&1
    fi
fi

passphrase=""
while read -r name device missing options; do
    unlock "$name" "$device" "$missing" "$options" 0</dev/console
done </etc/luks
passphrase=""

if [ -x /usr/sbin/lvm ]; then
    lvm vgchange --config 'activation{udev_sync=0 udev_rules=0}' --activate y >/dev/console 2>&1
    for volume in /sys/block/dm-*; do
        tell_udev "$(cat "$volume/dm/name")"
    done
fi

# All devices of each btrfs; after ten seconds those that are there.
if [ -x /usr/bin/btrfs ]; then
    tries=0
    while [ $tries -lt 20 ]; do
        btrfs device scan >/dev/null 2>&1
        lacking=""
        while read -r device point kind options; do
            case ",$options," in
                *,degraded,*) btrfs device ready "$(wait_for "$device")" 2>/dev/null || lacking=yes ;;
            esac
        done </etc/fstab
        [ -n "$lacking" ] || break
        tries=$((tries + 1))
        sleep 0.5
    done
    [ -z "$lacking" ] || echo "stage 1: a btrfs lacks a disk; mounting it without" >/dev/console
fi

while read -r device point kind options; do
    path=$(wait_for "$device") || fail "the device $device for $point did not appear"
    mkdir -p "/newroot$point"
    # x-... options are for systemd and people, not for the kernel.
    options=$(printf %s "$options" | tr , '\n' | grep -v -e '^x-' -e '^nofail$' -e '^defaults$' | tr '\n' , | sed 's/,$//')
    mount -t "$kind" ${options:+-o "$options"} "$path" "/newroot$point" || fail "cannot mount $path at $point"
done </etc/fstab

init=$(argument init)
[ -n "$init" ] || fail "no init= on the kernel command line"
for each in dev proc sys run; do
    mkdir -p "/newroot/$each"
    mount --move "/$each" "/newroot/$each"
done
exec switch_root /newroot "$init"
fail "cannot start $init"
