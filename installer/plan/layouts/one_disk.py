"""One disk, GPT: what firmware needs first, then swap, then the root over the rest.

Under UEFI the EFI system partition is /boot, for systemd-boot and GRUB alike, so that neither ever opens LUKS.
Under BIOS GRUB's code has a partition of 1 MiB. GRUB always finds kernels on a plain ext4, which it has read for ever:
on the root where that is one (and within reach of old BIOSes), else on a /boot of its own as large as an ESP would be.
So no kernel hides behind LUKS, and no new default of mkfs.xfs or btrfs can make a host unbootable.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.answers.catalogue import zram_percent
from installer.answers.model import Answers, FilesystemKind
from installer.answers.sizes import GIB, MIB, format_size, parse_size
from installer.errors import Exit, HyperError
from installer.plan.actions import SecretReference
from installer.plan.naming import Names
from installer.plan.storage import gpt, luks, swap
from installer.plan.storage.biosboot import BIOS_BOOT_SIZE, BiosBoot
from installer.plan.storage.btrfs import Btrfs
from installer.plan.storage.disk import WholeDisk, disk_title
from installer.plan.storage.element import Element, Layout
from installer.plan.storage.ext4 import Ext4
from installer.plan.storage.filesystem import Filesystem, Mount
from installer.plan.storage.gpt import Partition, PartitionType, Table
from installer.plan.storage.luks import Luks
from installer.plan.storage.swap import RandomKeySwap, Swap
from installer.plan.storage.vfat import ESP_OPTIONS, EfiSystem
from installer.plan.storage.xfs import Xfs
from installer.plan.storage.zram import Zram

ESP_FLOOR = GIB
"""Smallest ESP or /boot: ten generations of kernel and initrd, or a few with large firmware in them."""
SWAP_CEILING = 16 * GIB
"""Largest swap that nobody asked for."""
RESERVE = 2 * GIB
"""Room for logs, journals, the file system's own structures and a first guest."""
BIOS_REACH = 2 << 40
"""Bytes of a disk that every BIOS reads; beyond, some count sectors in 32 bits."""
DEFAULT_OPTIONS = {
    FilesystemKind.ext4: ("noatime",),
    FilesystemKind.xfs: ("noatime",),
    FilesystemKind.btrfs: ("noatime", "compress=zstd:1"),
}
"""Mount options nobody chose. None has `discard`: NixOS trims weekly, and btrfs does it by itself, asynchronously."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a layout is made for."""

    disk: WholeDisk
    """Which disk."""
    firmware: str
    """`uefi` or `bios`."""
    memory: int
    """Bytes of the machine's memory."""
    pbkdf_memory: int
    """Bytes for argon2id."""
    system: int
    """Bytes of the system to be installed."""
    gate: tuple[str, ...] = ()
    """Ids of steps before the first write."""


@dataclass(frozen=True)
class Slice:
    """A partition to be cut, before its place is known."""

    role: str
    """Last part of its label."""
    type: PartitionType
    """GPT type."""
    size: int | None
    """Bytes, a multiple of the alignment; none: the rest."""


def one_disk(answers: Answers, ground: Ground) -> Layout:
    """The layout's elements, in order.

    Raises:
        HyperError: the disk is too small (Exit.unsuitable), or a size makes no sense (Exit.answers).
    """
    slices = _slices(answers, ground)
    _require_room(answers, ground, slices)
    names = Names(answers.hostname, ground.disk.disk)
    table = Table(key=f"{ground.disk.key}-table", disk=ground.disk.key)
    partitions = tuple(_cut(slices, names, table.key, ground.disk.disk.size))
    upper = (_upper(each, answers, ground, names) for each in slices)
    zram = (Zram(key="zram", percent=zram_percent(answers)),)
    return Layout(
        elements=(
            ground.disk,
            table,
            *partitions,
            *(element for group in upper for element in group),
            *(zram if answers.storage.swap.kind == "zram" else ()),
        ),
        gate=ground.gate,
    )


def _slices(answers: Answers, ground: Ground) -> tuple[Slice, ...]:
    encrypted = answers.storage.encryption.enable
    esp_size = _aligned(parse_size(answers.boot.esp_size))
    if esp_size < ESP_FLOOR:
        raise HyperError(
            f"boot.esp_size = {answers.boot.esp_size!r} is too small",
            why=f"every generation's kernel and initrd go there; less than {format_size(ESP_FLOOR)} runs full",
            remedy='leave it out (2 GiB), or write at least "1GiB"',
            code=Exit.answers,
        )
    found = []
    if ground.firmware == "uefi":
        found.append(Slice("esp", PartitionType.esp, esp_size))
    else:
        found.append(Slice("grub", PartitionType.bios_boot, BIOS_BOOT_SIZE))
        if not _grub_reads_root(answers, ground):
            found.append(Slice("boot", PartitionType.linux, esp_size))
    if answers.storage.swap.kind == "partition":
        kind = PartitionType.plain_crypt if encrypted else PartitionType.swap
        found.append(Slice("swap", kind, _swap_size(answers, ground)))
    found.append(Slice("root", PartitionType.luks if encrypted else PartitionType.linux, None))
    return tuple(found)


def _grub_reads_root(answers: Answers, ground: Ground) -> bool:
    plain_ext4 = answers.storage.filesystem is FilesystemKind.ext4 and not answers.storage.encryption.enable
    return plain_ext4 and ground.disk.disk.size <= BIOS_REACH


def _swap_size(answers: Answers, ground: Ground) -> int:
    if answers.storage.swap.size:
        return max(_aligned(parse_size(answers.storage.swap.size)), gpt.ALIGNMENT)
    size = min(ground.memory, SWAP_CEILING, ground.disk.disk.size // 10)
    return max(size // gpt.ALIGNMENT * gpt.ALIGNMENT, gpt.ALIGNMENT)


def _aligned(size: int) -> int:
    return -(-size // gpt.ALIGNMENT) * gpt.ALIGNMENT


def _require_room(answers: Answers, ground: Ground, slices: tuple[Slice, ...]) -> None:
    words = {
        "esp": "EFI system partition",
        "grub": "GRUB's BIOS code",
        "boot": "/boot",
        "swap": "swap",
    }
    needs = [(words[each.role], each.size) for each in slices if each.size is not None]
    needs += [
        ("the system", ground.system),
        ("its next generation beside it", ground.system),
        ("logs, file system and a first guest", RESERVE),
        ("partition tables", 2 * MIB),
    ]
    needed = sum(size for _, size in needs)
    disk = ground.disk.disk
    if needed <= disk.size:
        return
    smaller = "choose a larger disk"
    if answers.storage.swap.kind == "partition":
        smaller += ', or a smaller storage.swap.size, or storage.swap.kind = "zram"'
    raise HyperError(
        f"{disk_title(disk)} is too small",
        why=f"{format_size(needed)} are needed: "
        + ", ".join(f"{format_size(size)} {what}" for what, size in needs if size >= MIB),
        remedy=smaller,
        code=Exit.unsuitable,
    )


def _cut(slices: tuple[Slice, ...], names: Names, table: str, disk_size: int) -> Iterator[Partition]:
    start = gpt.ALIGNMENT
    for number, each in enumerate(slices, start=1):
        size = gpt.usable_end(disk_size) - start if each.size is None else each.size
        yield Partition(
            key=f"{each.role}-partition",
            table=table,
            number=number,
            label=names.label(each.role, gpt.LABEL_LIMIT),
            type=each.type,
            start=start,
            size=size,
        )
        start += size


def _upper(each: Slice, answers: Answers, ground: Ground, names: Names) -> tuple[Element, ...]:
    """What stands on a partition."""
    on = f"{each.role}-partition"
    match each.type, each.role:
        case PartitionType.esp, _:
            return (
                EfiSystem(
                    key="esp",
                    on=on,
                    uuid=names.volume_id("esp"),
                    label="ESP",
                    mounts=(Mount("/boot", ESP_OPTIONS),),
                ),
            )
        case PartitionType.bios_boot, _:
            return (BiosBoot(key="grub", on=on),)
        case PartitionType.plain_crypt, _:
            return (RandomKeySwap(key="swap", on=on),)
        case PartitionType.swap, _:
            return (
                Swap(
                    key="swap",
                    on=on,
                    uuid=names.uuid("swap"),
                    label=names.label("swap", swap.LABEL_LIMIT),
                ),
            )
        case PartitionType.linux, "boot":
            return (
                Ext4(
                    key="boot",
                    on=on,
                    uuid=names.uuid("boot"),
                    label=names.label("boot", Ext4.label_limit),
                    mounts=(Mount("/boot", ("noatime",)),),
                    read_by_grub=True,
                ),
            )
        case PartitionType.luks, _:
            crypt = _luks(on, answers, ground, names)
            return (crypt, _root(crypt.key, answers, ground, names))
        case _:
            return (_root(on, answers, ground, names),)


def _luks(on: str, answers: Answers, ground: Ground, names: Names) -> Luks:
    encryption = answers.storage.encryption
    file = getattr(encryption.passphrase, "file", None)
    return Luks(
        key="cryptroot",
        on=on,
        uuid=names.uuid("luks"),
        label=names.label("luks", luks.LABEL_LIMIT),
        passphrase=SecretReference(name="passphrase", file=file),
        memory=ground.pbkdf_memory,
        iterations=encryption.pbkdf_iterations,
        allow_discards=encryption.allow_discards,
    )


def _root(on: str, answers: Answers, ground: Ground, names: Names) -> Filesystem:
    kind = answers.storage.filesystem
    chosen = answers.storage.mount_options
    options = DEFAULT_OPTIONS[kind] if chosen is None else chosen or ("defaults",)
    uuid = names.uuid("root")
    match kind:
        case FilesystemKind.ext4:
            return Ext4(
                key="root",
                on=on,
                uuid=uuid,
                label=names.label("root", Ext4.label_limit),
                mounts=(Mount("/", options),),
                read_by_grub=ground.firmware == "bios" and _grub_reads_root(answers, ground),
            )
        case FilesystemKind.xfs:
            return Xfs(
                key="root",
                on=on,
                uuid=uuid,
                label=names.label("root", Xfs.label_limit),
                mounts=(Mount("/", options),),
            )
        case FilesystemKind.btrfs:
            subvolumes = sorted(answers.storage.subvolumes.items(), key=lambda pair: pair[1].split("/"))
            return Btrfs(
                key="root",
                on=on,
                uuid=uuid,
                label=names.label("root", Btrfs.label_limit),
                subvolumes=tuple(sorted(answers.storage.subvolumes)),
                mounts=tuple(Mount(place, (f"subvol=/{name}", *options)) for name, place in subvolumes),
            )
