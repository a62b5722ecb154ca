#!/bin/sh
# Stands for NixOS's switch-to-configuration: the check, the boot loader, activation, networkd and nftables, and the
# targets that start what is new, in its order (pkgs/by-name/sw/switch-to-configuration-ng, 26.11).
set -eu
system=$(dirname "$(dirname "$(readlink -f "$0")")")
action=$1
echo "$action $(basename "$system")" >>/switched

netdevs() {
    cat /etc/systemd/network/*.netdev 2>/dev/null || true
}
activate() {
    rm -rf /etc/systemd/network
    cp -r "$system/etc/systemd/network" /etc/systemd/network
    mkdir -p /run/sshd
    ln -sfn "$system" /run/current-system.new
    mv -T /run/current-system.new /run/current-system
    # /etc/ssh/sshd_config leads to the system's own, where it has one.
    [ ! -e "$system/etc/ssh/sshd_config" ] || systemctl --no-block try-reload-or-restart ssh.service || true
}

if [ "$action" = stage-2 ]; then
    activate
    exit
fi
exec 9>/run/switch.lock
flock --nonblock 9 || { echo "Could not acquire lock" >&2; exit 1; }
if [ "${NIXOS_NO_CHECK-}" != 1 ]; then
    "$system/pre-switch-checks" "$system" "$action" >&2 || { echo "Pre-switch checks failed" >&2; exit 1; }
fi
case $action in switch | boot)
    ln -sfn "$system" /nix/var/nix/profiles/default.new
    mv -T /nix/var/nix/profiles/default.new /nix/var/nix/profiles/default
    mkdir -p /boot/loader/entries
    printf 'title x\noptions init=%s/init quiet\n' "$system" >"/boot/loader/entries/$(basename "$system").conf"
    printf 'default %s.conf\n' "$(basename "$system")" >/boot/loader/loader.conf
    ;;
esac
[ "$action" != boot ] || exit 0
before=$(netdevs)
activate
systemctl daemon-reload
systemctl reload nftables.service
# NixOS reloads networkd for .network files, and restarts it when others have changed.
if [ "$(netdevs)" = "$before" ]; then
    networkctl reload
else
    systemctl restart systemd-networkd.service
    # A container has no udev. networkd does not wait for it, then, and sets links up before it has read their old addresses,
    # which stay; where there is udev they go.
    networkctl reconfigure lan0 lan1
fi
systemctl start multi-user.target
