"""Storage as a whole: layout, pool for VMs, what stays of what is there."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from installer.answers.disks import (
    DiskSelector,
    EncryptionAnswers,
    FilesystemKind,
    LayoutKind,
    Redundancy,
    SwapAnswers,
    VolumesKind,
)
from installer.answers.text_kinds import AbsolutePath, SizeText, true_or_false
from installer.frozen import Frozen


class PoolAnswers(Frozen):
    """Storage for VMs apart from the root."""

    kind: Literal["dir", "lvm-thin", "zfs"] = "dir"
    """`dir`: a file system at `first_run.pool`; `lvm-thin`: a thin pool of LVM; `zfs`: a ZFS dataset there."""
    disk: DiskSelector | None = None
    """Which disk or, with `count`, which disks; without any the system's own."""
    disks: tuple[DiskSelector, ...] = ()
    """The same as a list, each found by conditions of its own."""
    filesystem: Literal[FilesystemKind.ext4, FilesystemKind.xfs, FilesystemKind.btrfs] = FilesystemKind.xfs
    """`dir` on disks of its own: file system."""
    redundancy: Redundancy | None = None
    """What stays readable when disks fail; without it what suits the number of disks."""
    nodatacow: bool | None = None
    """btrfs: write images in place, which is fast and has no checksums; without it where nothing is mirrored, since
    copies without checksums can differ unnoticed."""
    record_size: SizeText = "64KiB"
    """ZFS: largest block of an image; a power of two from 4 KiB to 1 MiB."""


class ExistingKind(StrEnum):
    """What becomes of what is on the system's disks already."""

    erase = "erase"
    """All of it goes: the disks are emptied."""
    keep = "keep"
    """Every partition stays as it is, but for those that `partitions` says otherwise of; the host goes into what is
    free."""
    reinstall = "reinstall"
    """This host is on the disks: partitions and file systems stay, the VMs' storage and definitions and what `keep` names
    stay, everything else is removed and installed anew."""


class EspKind(StrEnum):
    """Whose EFI system partition the host starts from, beside partitions that are kept."""

    auto = "auto"
    """The one on the disk where it is large enough, else one of its own."""
    share = "share"
    """The one on the disk: it is never formatted, and other systems' files on it stay."""
    own = "own"
    """One of its own, in the free space."""


class PartitionAnswers(Frozen):
    """What becomes of one partition that is there already. All conditions must hold; exactly one must match."""

    disk: DiskSelector | None = None
    """Which disk it is on; without it one of the system's. On any other disk it is kept and mounted, and nothing of that
    disk's table changes, whichever kind it is; without `number`, `uuid` and `label` it is the file system of a disk that has
    no partitions."""
    number: int | None = Field(default=None, ge=1, le=128, examples=[3])
    """Its number."""
    uuid: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[0-9a-f]{8}((-[0-9a-f]{4}){3}-[0-9a-f]{12}|-[0-9a-f]{2})$"),
            Field(
                title="a GUID in lower case, or an MBR's number and the partition's",
                examples=["6f2d1c3e-4b5a-4c6d-8e7f-901234567890", "b1946ac9-01"],
            ),
        ]
        | None
    ) = None
    """Its GUID (`lsblk -o PARTUUID`); in an MBR what stands for it there."""
    label: str | None = Field(default=None, examples=["data"])
    """Its name in the partition table."""
    action: Literal["keep", "format", "delete"] = "keep"
    """`keep`: not a byte of it changes; `format`: its place stays, its content goes; `delete`: it becomes free space."""
    mount: AbsolutePath | None = Field(default=None, examples=["/srv/data"])
    """Where the host mounts it; `/` with `format` makes it the root."""
    grow: Annotated[bool, BeforeValidator(true_or_false)] = False
    """`format`: let it take the free space right behind it."""


class StorageAnswers(Frozen):
    """Disks and layout."""

    layout: LayoutKind = LayoutKind.one_disk
    """How the system's disks are put together: `one-disk`, `mirror`, `array`, or `auto`."""
    disk: DiskSelector | None = None
    """Which disk or, with `count`, which disks; must match exactly as many."""
    disks: tuple[DiskSelector, ...] = ()
    """The same as a list, each disk found by conditions of its own; the first is the one that boots."""
    filesystem: FilesystemKind = FilesystemKind.ext4
    """File system of the root."""
    redundancy: Redundancy | None = None
    """What stays readable when disks fail; without it what suits the layout and the number of disks."""
    volumes: VolumesKind = VolumesKind.none
    """LVM between disks and file systems: `none`, `lvm`, `lvm-thin`."""
    root_size: SizeText | None = Field(default=None, examples=["64GiB"])
    """LVM only: size of the root; without it all of the space, or 64 GiB where a pool takes the rest."""
    pool: PoolAnswers | None = None
    """Storage for VMs apart from the root."""
    subvolumes: dict[str, str] = Field(
        default={
            "@": "/",
            "@home": "/home",
            "@nix": "/nix",
            "@log": "/var/log",
            "@libvirt": "/var/lib/libvirt",
        }
    )
    """btrfs only: subvolume to mount point; `/` must be among them."""
    mount_options: tuple[str, ...] | None = Field(default=None, examples=[["noatime"]])
    """Options of the root; without it what suits the file system (`noatime`, `compress=zstd:1`, `discard`)."""
    swap: SwapAnswers = SwapAnswers()
    """Swap."""
    encryption: EncryptionAnswers = EncryptionAnswers()
    """LUKS2."""
    existing: ExistingKind = ExistingKind.erase
    """What becomes of what is on the system's disks already: `erase`, `keep` or `reinstall`."""
    partitions: tuple[PartitionAnswers, ...] = ()
    """Single partitions that are mounted; with `existing = "keep"` also such that are formatted or deleted."""
    esp: EspKind = EspKind.auto
    """With `existing = "keep"`, under UEFI: whose EFI system partition the host starts from."""
    keep: tuple[AbsolutePath, ...] = Field(default=(), examples=[["/home", "/srv"]])
    """With `existing = "reinstall"`: what stays besides the VMs' storage and definitions."""
    destroy: Literal["matched"] | None = None
    """`matched`: consent to destroy everything on the matched disks that `existing` does not keep, for unattended
    installation."""

    @property
    def selectors(self) -> tuple[DiskSelector, ...]:
        """Which disks the system goes to, one selector after the other."""
        return (*((self.disk,) if self.disk else ()), *self.disks)

    @property
    def pool_selectors(self) -> tuple[DiskSelector, ...]:
        """Which disks the pool has for itself."""
        if self.pool is None:
            return ()
        return (*((self.pool.disk,) if self.pool.disk else ()), *self.pool.disks)
