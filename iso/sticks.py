"""Which disk an image may be written to, and what has to be written to it. Nothing here touches a disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from installer.answers.select import title
from installer.answers.sizes import MIB, format_size
from installer.errors import Exit, HyperError
from installer.facts.disks import Disk
from installer.kinds import Transport
from installer.plan.losses import WORDS, content_words
from installer.plan.reach import require_contained
from iso.image import Image
from iso.partition_tables import (
    BASIC_DATA,
    MBR_PROTECTIVE,
    SECTOR,
    Gpt,
    GptPartition,
    both,
    mbr_entry,
    read_gpt,
    read_mbr,
    with_partition,
)
from iso.patches import Patch

CONFIG_LABEL = "HYPERNIXCFG"
"""installer/fetch looks for it."""
CONFIG_SIZE = 64 * MIB
MBR_FAT = 0x0C
_NAMESPACE = UUID("6f3c2d0b-3c49-4f57-9b7e-0b3f7f1c2f55")
MEMBERS = frozenset((*WORDS, "drbd")) - {"swap", "crypto_LUKS", "BitLocker"}
"""Signatures of what is part of something larger."""


def choose(name: str, everyone: Sequence[Disk]) -> Disk:
    """The disk with this kernel name. Raises HyperError (Exit.selection) for a partition, or what is no disk."""
    for disk in everyone:
        if disk.name == name:
            return disk
        if any(partition.name == name for partition in disk.partitions):
            raise HyperError(
                f"{name} is a partition",
                why="an image has a partition table of its own: it is written to a whole disk",
                remedy=f"name the disk, {title(disk)}: /dev/{disk.name}",
                code=Exit.selection,
            )
    found = "; ".join(title(disk) for disk in everyone if removable(disk)) or "none"
    raise HyperError(
        f"{name} is no disk",
        why=f"removable disks here: {found}",
        remedy="plug the stick in, and name its device (`lsblk -o NAME,SIZE,MODEL,SERIAL,RM`; on macOS `diskutil list`)",
        code=Exit.selection,
    )


def removable(disk: Disk) -> bool:
    """Whether it is a stick, a card, or a disk that is plugged in by USB."""
    return disk.removable or disk.transport in (Transport.usb, Transport.mmc)


def require_stick(disk: Disk, everyone: Sequence[Disk], size: int) -> None:
    """HyperError unless an image of this size may be written to the disk."""
    if not removable(disk):
        raise HyperError(
            f"{title(disk)} is not touched",
            why=f"it is neither removable nor plugged in by USB ({disk.transport}): it belongs to this computer",
            remedy="name a stick or card; `dd` is there for those who know better",
            code=Exit.busy,
        )
    if disk.read_only:
        raise HyperError(
            f"{title(disk)} cannot be written",
            why="the kernel says that it is read-only",
            remedy="move the switch on the card or stick",
            code=Exit.busy,
        )
    try:
        require_contained((disk,), everyone)
    except HyperError as error:
        raise HyperError(
            f"{title(disk)} is not touched",
            why=error.why,
            remedy="name another one, or free this one first (unmount it, or stop what uses it)",
            code=error.code,
        ) from error
    whole = ((disk.name, disk.filesystem), *((part.name, part.filesystem) for part in disk.partitions))
    for name, filesystem in whole:
        if filesystem and (filesystem.kind in MEMBERS or filesystem.kind.endswith("_raid_member")):
            raise HyperError(
                f"{title(disk)} is not touched",
                why=f"{name} is a {content_words(filesystem)}: part of something that may need it",
                remedy=f"if its data is not needed, take the mark off first: `wipefs --all /dev/{name}`",
                code=Exit.busy,
            )
    if disk.logical_sector != SECTOR:
        raise HyperError(
            f"{title(disk)} does not fit",
            why=f"its sectors have {disk.logical_sector} bytes, and the partition tables of images count 512",
            remedy="take another stick: with this one the image would not boot",
            code=Exit.unsuitable,
        )
    if disk.size < size:
        raise HyperError(
            f"{title(disk)} is too small",
            why=f"the image has {size} bytes, and the disk {disk.size}",
            remedy="take a larger one",
            code=Exit.unsuitable,
        )


_LEFT_OVER = 4096
"""Bytes that are cleared right behind the image: the beginning of a pack's header (iso/packs.py)."""


@dataclass(frozen=True)
class Writing:
    """What is written: the image with changes."""

    patches: tuple[Patch, ...]
    notes: tuple[str, ...]
    """What is changed, for people."""


def changes(image: Image, size: int, config: bytes | None = None) -> Writing:
    """What a disk of this size needs besides the image: the copy of the GPT at its end, and the partition for answers.

    Args:
        image: The image.
        size: Bytes of the disk.
        config: A FAT file system for answers.

    Raises:
        HyperError: there is no room (Exit.unsuitable).
    """
    gpt, sectors = read_gpt(image), size // SECTOR
    patches: list[Patch] = []
    notes = []
    mbr = read_mbr(image)
    start = -(-image.size // MIB) * MIB
    if config is None:
        # Where a pack of this very image may be left over, from when it was written here with more behind it.
        patches.append(Patch(start, bytes(max(0, min(_LEFT_OVER, size - start)))))
    else:
        if start + len(config) + MIB > size:
            raise HyperError(
                "there is no room for a partition with answers",
                why=f"the image has {format_size(image.size)}, the disk {format_size(size)}, and the partition "
                f"needs {format_size(len(config))} more",
                remedy="take a larger stick, or put the answers into the image: `hv media embed`",
                code=Exit.unsuitable,
            )
        first, last = start // SECTOR, (start + len(config)) // SECTOR - 1
        patches.append(Patch(start, config))
        if gpt is not None:
            gpt = _with_config(gpt, first, last)
        number = next((n for n in range(1, 5) if n not in {each.number for each in mbr or ()}), None)
        if mbr and number and any(each.kind != MBR_PROTECTIVE for each in mbr):
            offset, entry = mbr_entry(number, False, MBR_FAT, first, last + 1 - first)
            patches.append(Patch(offset, entry))
        elif gpt is None:
            raise HyperError(
                "there is no place for a partition with answers",
                why="the image has no partition table, so it would not be found",
                remedy="put the answers into the image instead: `hv media embed`",
                code=Exit.unsuitable,
            )
        notes.append(f"a partition {CONFIG_LABEL} of {format_size(len(config))} for answers")
    if gpt is not None and (config is not None or gpt.other != sectors - 1):
        patches += [Patch(offset, content) for offset, content in both(gpt, sectors)]
        notes.append("the copy of the partition table at the end of the disk")
    return Writing(tuple(patches), tuple(notes))


def _with_config(gpt: Gpt, first: int, last: int) -> Gpt:
    used = {each.number for each in gpt.partitions}
    number = next(number for number in range(1, gpt.entry_count + 1) if number not in used)
    partition = GptPartition(number, BASIC_DATA, first, last, CONFIG_LABEL)
    return with_partition(gpt, partition, uuid5(_NAMESPACE, f"{gpt.disk} {partition.number}"))


def config_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files for the partition: answers, and a tar archive instead where they have secrets."""
    from installer import embed
    from installer.fetch.package import pack

    answers = files.get(embed.ANSWERS)
    if answers is None or any(
        name != embed.ANSWERS and not name.startswith(f"{embed.SECRETS}/") for name in files
    ):
        raise HyperError(
            "the partition for answers takes answers and secrets",
            why=f"what was named is: {', '.join(files) or 'nothing'}",
            remedy="name --answers, and put everything else into the image: `hv media embed`",
            code=Exit.usage,
        )
    secrets = {
        name.removeprefix(f"{embed.SECRETS}/"): data for name, data in files.items() if name != embed.ANSWERS
    }
    if secrets:
        return {"answers.tar": pack(answers, embed.ANSWERS, secrets)}
    return {embed.ANSWERS: answers}
