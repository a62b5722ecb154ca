"""What layouts are made for, and what they share: partitions cut from disks, and what is joined from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

from installer.answers.model import Answers, FilesystemKind, RecoveryKind, Redundancy, TokenKind
from installer.answers.recovery import recovery_kind
from installer.answers.sizes import MIB
from installer.facts.disks import Partition as Found
from installer.plan.actions import SecretReference
from installer.plan.layouts.kept import Kept
from installer.plan.naming import Names
from installer.plan.storage import gpt, luks
from installer.plan.storage.array import LEVELS, Array
from installer.plan.storage.disk import WholeDisk
from installer.plan.storage.element import Element
from installer.plan.storage.gpt import Partition, PartitionType
from installer.plan.storage.luks import Luks

DEFAULT_OPTIONS = {
    FilesystemKind.ext4: ("noatime",),
    FilesystemKind.xfs: ("noatime",),
    FilesystemKind.btrfs: ("noatime", "compress=zstd:1"),
    FilesystemKind.zfs: (),
}
"""Mount options nobody chose. None has `discard`: NixOS trims weekly, and btrfs does it by itself, asynchronously."""
LUKS_HEADER = 16 * MIB
"""Bytes of a LUKS2 header (LUKS2 on-disk format specification)."""
ARRAY_HEADER = 264 * MIB
"""Bytes at most that md keeps for itself on each member: metadata, bitmap, and room for reshaping (md(4))."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a layout is made for."""

    disks: tuple[WholeDisk, ...]
    """Which disks, the first being the one that boots."""
    pool: tuple[WholeDisk, ...] = ()
    """Disks that the pool has for itself."""
    firmware: str
    """`uefi` or `bios`."""
    memory: int
    """Bytes of the machine's memory."""
    pbkdf_memory: int
    """Bytes for argon2id."""
    system: int
    """Bytes of the system to be installed."""
    root_type: PartitionType = PartitionType.linux
    """Of a root that stands on its partition, with nothing between."""
    gate: tuple[str, ...] = ()
    """Ids of steps before the first write."""
    kept: tuple[Kept | None, ...] = ()
    """What stays of each disk; none of one that is blank; empty: the disks are emptied."""

    @property
    def smallest(self) -> int:
        """Bytes of the smallest of the system's disks: in a mirror the rest of the larger ones stays unused. Where things
        stay on them, of what is left for the root.
        """
        kept = self.kept or (None,) * len(self.disks)
        return min(
            each.room if each else disk.disk.size for disk, each in zip(self.disks, kept, strict=True)
        )

    @property
    def esp(self) -> Found | None:
        """The EFI system partition of another system that the host starts from."""
        return next((each.esp for each in self.kept if each and each.esp), None)


@dataclass(frozen=True)
class Slice:
    """A partition to be cut, before its place is known."""

    role: str
    """Last part of its label."""
    type: PartitionType
    """GPT type."""
    size: int | None
    """Bytes, a multiple of the alignment; none: the rest."""


def aligned(size: int) -> int:
    """Up to the next multiple of the alignment."""
    return -(-size // gpt.ALIGNMENT) * gpt.ALIGNMENT


def cut(  # noqa: PLR0917
    slices: tuple[Slice, ...],
    disk: WholeDisk,
    number: int | None,
    hostname: str,
    end: int,
    kept: Kept | None = None,
) -> Iterator[Partition]:
    """The partitions of one disk.

    Args:
        slices: In order.
        disk: Whose.
        number: Of the disk among several, from 1; none: it is the only one.
        hostname: For their labels.
        end: Bytes where the last one ends.
        kept: What stays on the disk; the partitions go into its free space.
    """
    start = kept.free[0] if kept else gpt.ALIGNMENT
    numbers = kept.numbers() if kept else count(1)
    for each, place in zip(slices, numbers, strict=False):
        size = end - start if each.size is None else each.size
        role = with_number(each.role, number)
        yield Partition(
            key=f"{each.role}-partition" if number is None else f"{each.role}-partition-{number}",
            table=f"{disk.key}-table",
            number=place,
            label=Names(hostname, (disk.disk,)).label(role, gpt.LABEL_LIMIT),
            type=each.type,
            start=start,
            size=size,
        )
        start += size


def with_number(name: str, number: int | None) -> str:
    """`name`, or `name-NUMBER` where there are several."""
    return name if number is None else f"{name}-{number}"


def joined(
    role: str, members: tuple[str, ...], redundancy: Redundancy, hostname: str, names: Names
) -> Array:
    """An md array of partitions."""
    return Array(
        key=f"{role}-array",
        on=members,
        level=LEVELS[redundancy],
        uuid=names.array_uuid(f"{role}-array"),
        name=role,
        hostname=hostname,
    )


def encrypted(
    key: str,
    on: str,
    names: Names,
    *,
    role: str,
    answers: Answers,
    memory: int,
    dispensable: bool = False,
    key_file: str | None = None,
) -> Luks:
    """LUKS on one device."""
    encryption = answers.storage.encryption
    file = getattr(encryption.passphrase, "file", None)
    return Luks(
        key=key,
        on=on,
        uuid=names.uuid(role),
        label=names.label(role, luks.LABEL_LIMIT),
        passphrase=SecretReference(name="passphrase", file=file),
        memory=memory,
        iterations=encryption.pbkdf_iterations,
        allow_discards=encryption.allow_discards,
        dispensable=dispensable,
        key_file=key_file,
        token=None if key_file else TOKENS[encryption.token],
        recovery=recovery_kind(answers) is not RecoveryKind.off,
    )


TOKENS: dict[TokenKind, Literal["tpm2", "fido2"] | None] = {
    TokenKind.none: None,
    TokenKind.tpm2: "tpm2",
    TokenKind.tpm2_pin: "tpm2",
    TokenKind.fido2: "fido2",
}
"""As crypttab(5) calls them."""


def usable(size: int, devices: int, redundancy: Redundancy) -> int:
    """Bytes that devices of this size give together."""
    match redundancy:
        case Redundancy.none:
            return size * devices
        case Redundancy.mirror:
            return size
        case Redundancy.raid10:
            return size * devices // 2
        case Redundancy.raid5 | Redundancy.raidz1:
            return size * (devices - 1)
        case Redundancy.raid6 | Redundancy.raidz2:
            return size * (devices - 2)
        case Redundancy.raidz3:
            return size * (devices - 3)


Elements = tuple[Element, ...]
