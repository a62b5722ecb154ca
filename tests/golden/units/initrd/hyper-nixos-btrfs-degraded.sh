: > /run/hyper-nixos-btrfs-degraded
udevadm trigger --action=change --subsystem-match=block --property-match=ID_BTRFS_READY=0
