"""Layouts with ZFS, and shell that looks at pools or makes them; the live system must know ZFS (tests/lab/zfs.py)."""

from tests.trial.cuts import CLEAR as CLEAR_OTHERS
from tests.trial.layouts import ENCRYPTED, FIRST, FOURTH, SECOND, THIRD, Layout

_SWAP = 'swap = { kind = "partition", size = "128MiB" }\n'
_GUESTS = '\n[storage.pool]\nkind = "zfs"\nrecord_size = "128KiB"\n'
MIRROR = Layout("zfs-mirror", (FIRST, SECOND), f'layout = "mirror"\nfilesystem = "zfs"\n{_SWAP}{_GUESTS}')
RAIDZ2 = Layout(
    "zfs-raidz2",
    (FIRST, SECOND, THIRD, FOURTH),
    f'layout = "array"\nfilesystem = "zfs"\nredundancy = "raidz2"\n{_SWAP}',
)
RAIDZ1 = Layout(
    "zfs-raidz1",
    (FIRST, SECOND, THIRD),
    f'layout = "array"\nfilesystem = "zfs"\nredundancy = "raidz1"\n{_SWAP}',
)
PAIRS = Layout(
    "zfs-pairs",
    (FIRST, SECOND, THIRD, FOURTH),
    f'layout = "array"\nfilesystem = "zfs"\nredundancy = "raid10"\n{_SWAP}',
)
LUKS = Layout(
    "zfs-luks", (FIRST, SECOND), f'layout = "mirror"\nfilesystem = "zfs"\n{_SWAP}{ENCRYPTED}{_GUESTS}'
)
BESIDE = Layout(
    "zfs-guests",
    (FIRST,),
    f'filesystem = "ext4"\n{_SWAP}\n[storage.pool]\nkind = "zfs"\nredundancy = "mirror"\n'
    + "".join(f'\n[[storage.pool.disks]]\nserial = "{serial}"\n' for serial in (THIRD, FOURTH)),
)
LAYOUTS = (MIRROR, RAIDZ2, RAIDZ1, PAIRS, LUKS, BESIDE)
LET_GO = "umount -R /mnt || true; zpool export -a; udevadm settle"
"""Shell: no pool is up."""
CLEAR = f"umount -R /mnt || true; zpool export -a || true\n{CLEAR_OTHERS}"
"""Shell: nothing is in use, and the disks carry no signature of what a test left."""
_BOTH = f"""set -eu
a=$(ls -d /dev/disk/by-id/*{FIRST} | head -n 1); b=$(ls -d /dev/disk/by-id/*{SECOND} | head -n 1)
"""
_KERNEL = "a=$(readlink -f $a); b=$(readlink -f $b); blockdev --rereadpt $a $b; udevadm settle\n"
OVER_BOTH = f"{_BOTH}{_KERNEL}zpool create -f -O mountpoint=none both mirror $a $b; udevadm settle; sync"
"""Shell: a pool over two whole disks."""
OLD = f"""{_BOTH}
for disk in $a $b; do
    printf 'label: gpt\\n1: size=1G\\n2: size=600M\\n' | sfdisk --quiet $disk
done
udevadm settle
zpool create -f -O mountpoint=none old mirror $a-part1 $b-part1
zfs create -o mountpoint=legacy old/data
mkdir -p /run/trial/old
mount -t zfs old/data /run/trial/old
head -c 20000000 /dev/urandom >/run/trial/old/file
sha256sum </run/trial/old/file >/run/trial/old.sum
umount /run/trial/old
mkfs.ext4 -q $a-part2
zpool export old
udevadm settle; sync"""
"""Shell: a pool with data in partitions of two disks, at rest."""
OLD_IS_WELL = """set -eu
zpool import -N -d /dev/disk/by-id old
zpool scrub -w old
zpool status -x old
mount -t zfs old/data /run/trial/old
sha256sum </run/trial/old/file | cmp - /run/trial/old.sum
umount /run/trial/old
zpool export old"""
"""Shell: whether it is what it was."""


def look(pool: str, nodes: str = "/dev/disk/by-id", more: str = "") -> str:
    """Shell that brings an exported pool up, shows what it is, runs `more` with its root at /run/trial/root, and exports it."""
    return f"""set -eu
zpool list -H -o name | grep . && exit 1
zpool import -N -d {nodes} {pool}
zpool status -P {pool}
zpool get -H -o property,value ashift,autotrim {pool}
zfs get -H -o property,value acltype,xattr,atime,compression,canmount,mountpoint {pool}
zfs list -H -r -o name,mountpoint,canmount,recordsize {pool}
mkdir -p /run/trial/root
{more}
zpool export {pool}"""
