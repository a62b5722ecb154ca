"""A machine with very many disks, for the speed of planning."""

from installer.facts import Facts
from installer.facts.disks import Disk, Filesystem, Holder, HolderKind, Partition
from tests import plan_cases as cases

GIB = 1 << 30
PARTITIONS = 10
"""On each disk."""


def disk(number: int) -> Disk:
    """One with partitions of many kinds, some of them members of arrays over several disks."""
    name = f"sd{number}"
    pair = number // 2
    kinds = (
        "ext4",
        "xfs",
        "linux_raid_member",
        "LVM2_member",
        "btrfs",
        "zfs_member",
        "crypto_LUKS",
        "swap",
        "vfat",
        "ntfs",
    )
    partitions = tuple(
        Partition(
            number=place + 1,
            name=f"{name}p{place + 1}",
            start=(1 + place * 100) * GIB,
            size=100 * GIB,
            filesystem=Filesystem(kind=kind, uuid=f"{kind}-{pair}", label=f"data{place}"),
            holders=(
                Holder(
                    kind=HolderKind.md,
                    name=f"md{pair}",
                    uuid=f"{kind}-{pair}",
                    spans=(f"sd{number ^ 1}",),
                    active=False,
                ),
            )
            if kind == "linux_raid_member"
            else (),
        )
        for place, kind in enumerate(kinds)
    )
    return cases.blank_disk(
        name=name,
        serial=f"SERIAL{number}",
        wwn=f"0x{number:016x}",
        by_id=(f"ata-Model_SERIAL{number}", f"wwn-0x{number:016x}"),
        size=2000 * GIB,
        table="gpt",
        partitions=partitions,
    )


def many_disks(count: int) -> Facts:
    """So many disks with ten partitions each, and a blank one besides, which is the one to install on."""
    return cases.machine(*map(disk, range(count)), cases.blank_disk())
