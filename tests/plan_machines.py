"""Random machines and random answers, for properties that every plan has."""

from typing import Any

from hypothesis import strategies as st

from installer.answers.model import Answers, FilesystemKind, Redundancy
from installer.answers.sizes import GIB, MIB
from installer.facts import Facts
from installer.facts.common import Unknown
from installer.facts.disks import Disk, Filesystem, Holder, HolderKind, Partition, Transport
from installer.facts.firmware import FirmwareKind
from tests import plan_cases as cases

TIB = 1 << 40
SECTORS = st.sampled_from((*(512,) * 12, *(4096,) * 4, 520))
SIZES = st.one_of(
    st.integers(min_value=0, max_value=32 * GIB),
    *(st.integers(min_value=24 * GIB, max_value=15 * TIB) for _ in range(6)),
    st.sampled_from((32 * GIB, 64 * GIB, 1_000_204_886_016, 2_000_398_934_016, 2 * TIB, 2 * TIB + GIB)),
)
KINDS = (
    "ext4",
    "vfat",
    "ntfs",
    "btrfs",
    "crypto_LUKS",
    "LVM2_member",
    "linux_raid_member",
    "zfs_member",
    "bcache",
    "swap",
)
UUIDS = st.sampled_from(("one", *map(str, range(30))))
"""Few, so that disks share them now and then."""


PLENTY = tuple(each * GIB for each in (32, 64, 256, 1024))
NOT_TOLD = Unknown(unknown_because="not told")


def seldom(times: int) -> st.SearchStrategy[bool]:
    """True once in so many times."""
    return st.integers(1, times).map(lambda drawn: drawn == times)


@st.composite
def _filesystem(draw: st.DrawFn) -> Filesystem | None:
    if draw(st.booleans()):
        return None
    return Filesystem(
        kind=draw(st.sampled_from(KINDS)),
        uuid=draw(UUIDS),
        label=draw(st.one_of(st.none(), st.text(max_size=12))),
    )


@st.composite
def _holders(draw: st.DrawFn, names: tuple[str, ...]) -> tuple[Holder, ...]:
    if not draw(seldom(25)):
        return ()
    return (
        Holder(
            kind=draw(st.sampled_from(HolderKind)),
            name=draw(st.sampled_from(("data", "cryptroot", "md0"))),
            spans=tuple(draw(st.lists(st.sampled_from(names), max_size=2, unique=True))),
            active=draw(st.booleans()),
        ),
    )


@st.composite
def disks(draw: st.DrawFn) -> tuple[Disk, ...]:
    """Up to four disks, which may look alike, share stacks, be in use, or be what the live system runs from."""
    names = tuple(f"sd{letter}" for letter in "abcd"[: draw(st.integers(1, 4))])
    found = []
    for place, name in enumerate(names):
        size = draw(SIZES)
        sector = draw(SECTORS)
        size = size // sector * sector
        partitions = []
        start = MIB
        for number in range(1, draw(st.integers(0, 4)) + 1):
            length = draw(st.integers(1, 200)) * GIB // 10 // sector * sector
            if start + length > size:
                break
            partitions.append(
                Partition(
                    number=number,
                    name=f"{name}{number}",
                    start=start,
                    size=length,
                    type_uuid=draw(st.sampled_from((None, "0x5", "0x83"))),
                    filesystem=draw(_filesystem()),
                    holders=draw(_holders(names)),
                )
            )
            start += length
        serial = draw(st.sampled_from((*(f"SERIAL{place}",) * 6, "TWIN", None)))
        wwn = draw(st.sampled_from((*(f"0x500000000000000{place}",) * 4, "0x5000000000000009", None, None)))
        found.append(
            cases.blank_disk(
                name=name,
                serial=serial,
                wwn=wwn,
                by_id=tuple(sorted(f"ata-Model_{each}" for each in (serial, wwn) if each)),
                path=draw(st.sampled_from((f"pci-0000:00:1f.{place}", None))),
                ends=None if serial or wwn else draw(st.sampled_from(("e" * 64, None))),
                model=draw(st.sampled_from(("Model", None))),
                transport=draw(st.sampled_from((Transport.sata, Transport.usb, Transport.virtio))),
                size=size,
                logical_sector=sector,
                removable=draw(st.booleans()),
                read_only=draw(seldom(20)),
                install_medium=draw(seldom(20)),
                in_use=("something is mounted",) if draw(seldom(20)) else (),
                filesystem=None if partitions else draw(_filesystem()),
                holders=draw(_holders(names)),
                partitions=tuple(partitions),
            )
        )
    return tuple(found)


@st.composite
def machines(draw: st.DrawFn) -> Facts:
    """A machine with such disks, any firmware, and memory from almost none to plenty."""
    facts = cases.machine(
        *draw(disks()),
        firmware=FirmwareKind.uefi32
        if draw(seldom(20))
        else draw(st.sampled_from((FirmwareKind.uefi64, FirmwareKind.bios))),
    )
    total = draw(st.one_of(st.integers(256 * MIB, TIB), st.sampled_from(PLENTY), st.sampled_from(PLENTY)))
    available = draw(st.sampled_from((total, total * 3 // 4, total // 2, total // 50, NOT_TOLD)))
    return facts.model_copy(
        update={"memory": facts.memory.model_copy(update={"total": total, "available": available})}
    )


def _size(least: int, most: int) -> st.SearchStrategy[str]:
    return st.integers(least, most).map(lambda mebibytes: f"{mebibytes}MiB")


@st.composite
def answers(draw: st.DrawFn, facts: Facts) -> Answers:
    """Answers for that machine, which ask for one of its disks by something that may fit others too."""
    disk = draw(st.sampled_from(facts.disks))
    selector: dict[str, Any] = {"transport": disk.transport.value}
    if disk.serial and draw(st.integers(0, 3)):
        selector["serial"] = disk.serial
    if disk.wwn and draw(st.booleans()):
        selector["wwn"] = disk.wwn
    swap: dict[str, Any] = {"kind": draw(st.sampled_from(("none", "partition", "zram")))}
    if swap["kind"] == "partition" and draw(st.booleans()):
        swap["size"] = draw(_size(0, 1 << draw(st.sampled_from((14, 14, 14, 21)))))
    storage = {
        "disk": selector,
        "filesystem": draw(st.sampled_from(("ext4", "xfs", "btrfs"))),
        "encryption": cases.ENCRYPTED if draw(st.booleans()) else {},
        "swap": swap,
    }
    boot = {"firmware": draw(st.sampled_from(("uefi", "bios"))) if draw(seldom(15)) else "auto"}
    if draw(st.booleans()):
        boot["esp_size"] = draw(st.one_of(_size(1, 1023), _size(1024, 8192), _size(1024, 8192)))
    return cases.answers(storage=storage, boot=boot)


@st.composite
def several_disks(draw: st.DrawFn) -> Facts:
    """A machine with two to six disks, most of them free, large and told apart."""
    plain = cases.disks(draw(st.integers(2, 6)))
    found = []
    for disk in plain:
        sector = draw(st.sampled_from((512,) * 8 + (4096,)))
        size = draw(st.integers((12 if draw(seldom(8)) else 40) * GIB, 4 * TIB)) // sector * sector
        update = {"size": size, "logical_sector": sector}
        if draw(seldom(30)):
            update["in_use"] = ("something is mounted",)
        if draw(seldom(30)):
            update["install_medium"] = True
        found.append(disk.model_copy(update=update))
    facts = cases.machine(*found, firmware=draw(st.sampled_from((FirmwareKind.uefi64, FirmwareKind.bios))))
    memory = facts.memory.model_copy(update={"total": 64 * GIB, "available": 60 * GIB})
    return facts.model_copy(update={"memory": memory})


_REDUNDANCY = {
    "one-disk": (None,),
    "mirror": (None,),
    "array": (None, Redundancy.raid10, Redundancy.raid5, Redundancy.raid6, Redundancy.none),
    "auto": (None,),
}
"""What mostly goes with a layout."""


@st.composite
def several_answers(draw: st.DrawFn, facts: Facts) -> Answers:
    """Any layout of several disks with any file system, volumes, redundancy, pool, swap and encryption.

    What contradicts itself comes now and then, not most of the time.
    """
    serials = draw(st.permutations([str(disk.serial) for disk in facts.disks]))
    layout = draw(st.sampled_from(("one-disk", "mirror", "mirror", "array", "auto")))
    most = {"one-disk": 1, "mirror": min(3, len(serials)), "array": len(serials), "auto": len(serials)}[
        layout
    ]
    least = {"one-disk": 1, "mirror": min(2, most), "array": min(3, most), "auto": 1}[layout]
    count = draw(st.integers(least, most))
    filesystem = draw(st.sampled_from(FilesystemKind))
    joins = filesystem in (FilesystemKind.btrfs, FilesystemKind.zfs)
    wild = draw(seldom(8))
    storage: dict[str, Any] = {
        "layout": layout,
        "disks": [{"serial": serial} for serial in serials[:count]],
        "filesystem": filesystem.value,
        "volumes": draw(st.sampled_from(("none", "lvm", "lvm-thin"))) if wild or not joins else "none",
        "redundancy": draw(st.sampled_from(tuple(Redundancy) if wild else _REDUNDANCY[layout])),
        "encryption": cases.ENCRYPTED if draw(st.booleans()) else {},
        "swap": {"kind": draw(st.sampled_from(("none", "partition", "zram", *(("file",) if wild else ()))))},
    }
    if draw(st.booleans()):
        storage["pool"] = draw(_pool(tuple(serials[count:]), filesystem, wild))
    return cases.answers(storage=storage)


@st.composite
def _pool(draw: st.DrawFn, rest: tuple[str, ...], root: FilesystemKind, wild: bool) -> dict[str, Any]:
    """A pool on disks of its own, or on the system's."""
    own = rest[: draw(st.integers(0, len(rest)))]
    pool: dict[str, Any] = {"disks": [{"serial": serial} for serial in own]}
    pool["kind"] = draw(st.sampled_from(("dir", "lvm-thin", "zfs"))) if wild or own else "dir"
    if not wild and pool["kind"] == "zfs" and root is not FilesystemKind.zfs:
        pool["kind"] = "dir"
    if wild or (own and pool["kind"] == "dir"):
        pool["filesystem"] = draw(st.sampled_from(("ext4", "xfs", "btrfs")))
        if wild or pool["filesystem"] == "btrfs":
            pool["nodatacow"] = draw(st.sampled_from((None, True, False)))
    return pool


@st.composite
def several_inputs(draw: st.DrawFn) -> tuple[Facts, Answers]:
    """A machine with several disks, and answers for it."""
    facts = draw(several_disks())
    return facts, draw(several_answers(facts))


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Facts, Answers]:
    """A machine with answers for it."""
    facts = draw(machines())
    return facts, draw(answers(facts))
