#!/bin/sh
# A real lease: dnsmasq hands out option 224 in one network namespace, systemd-networkd takes it in another.
# Usage: dhcp_lease.sh FOLDER OPTION-VALUE; the lease file is copied to FOLDER/lease.
set -eu
folder=$1
server=hvs$$
client=hvc$$

ip netns add "$server"
ip netns add "$client"
trap 'kill $(cat "$folder/pid" 2>/dev/null) 2>/dev/null || true; ip netns delete "$server"; ip netns delete "$client"' EXIT
ip -n "$server" link add s0 type veth peer name c0 netns "$client"
ip -n "$server" address add 10.77.0.1/24 dev s0
ip -n "$server" link set s0 up
ip netns exec "$server" dnsmasq --port=0 --conf-file=/dev/null --interface=s0 --bind-interfaces \
    --dhcp-range=10.77.0.50,10.77.0.60 "--dhcp-option-force=224,$2" \
    --dhcp-leasefile="$folder/leases" --pid-file="$folder/pid" --log-facility="$folder/dnsmasq.log"
# Below a /run of its own, and with a /sys that cannot be written to: networkd takes that for a container without udev.
ip netns exec "$client" unshare --mount sh -c '
    mount -t tmpfs tmpfs /run
    mount -o remount,ro,bind /sys
    mkdir -p /run/systemd/network
    echo lxc >/run/systemd/container
    printf "[Match]\nName=c0\n[Network]\nDHCP=ipv4\n[DHCPv4]\nClientIdentifier=mac\n" >/run/systemd/network/10.network
    timeout 60 /lib/systemd/systemd-networkd 2>"$1/networkd.log" &
    tries=300
    until grep -qs ^ADDRESS= /run/systemd/netif/leases/*; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { cat "$1/networkd.log" >&2; exit 1; }
        sleep 0.1
    done
    cat /run/systemd/netif/leases/* >"$1/lease"
    kill $!
' sh "$folder"
