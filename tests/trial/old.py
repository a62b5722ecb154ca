"""What stands on disks before: an array over both, an encrypted partition, a volume group over both."""

from tests.trial.layouts import FIRST, SECOND

OLD = f"""
a=$(ls -d /dev/disk/by-id/*{FIRST} | head -n 1); b=$(ls -d /dev/disk/by-id/*{SECOND} | head -n 1)
for disk in $a $b; do
    wipefs --all --force $disk*
    printf 'label: gpt\\n1: size=600M\\n2: size=600M\\n3: size=600M\\n' | sfdisk --quiet $disk
done
udevadm settle
for part in $a-part1 $b-part1 $a-part2 $b-part2 $a-part3 $b-part3; do
    until [ -b $part ]; do udevadm settle; done
    wipefs --all --force $part
done
mdadm --create /dev/md/old --run --level=1 --raid-devices=2 --assume-clean --metadata=1.2 $a-part1 $b-part1
udevadm settle
mkfs.ext4 -q /dev/md/old
printf %s 'the old passphrase' | cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $a-part2 -
mkfs.ext4 -q $b-part2
pvcreate --yes --quiet $a-part3 $b-part3
vgcreate --yes --quiet old $a-part3 $b-part3
lvcreate --yes --quiet --name data --size 400M old
mkfs.xfs -q -f /dev/old/data
"""
"""Shell that makes it."""
OPENS = f"""
a=$(ls -d /dev/disk/by-id/*{FIRST} | head -n 1)
printf %s 'the old passphrase' | cryptsetup open --test-passphrase --key-file - $a-part2
"""
"""Shell: whether the encrypted partition still opens."""
LET_GO = "vgchange --activate n; mdadm --stop --scan; udevadm settle; sync"
"""Shell: nothing of it is in use."""
UP = (
    "udevadm settle; mdadm --assemble --scan --quiet || true; vgchange --quiet --activate y >/dev/null; udevadm settle; "
    "ls /dev/md | grep -x old; ls /dev/mapper | grep -x old-data"
)
"""Shell: all of it is up, and nobody uses it; says so."""
