"""How a step is verified: by reading back what is there, never by trusting an exit status."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from installer.frozen import Frozen, Sparse
from installer.plan.actions import PartitionSpec


class HeadersSaved(Frozen):
    """The saved table and headers are there and not empty."""

    kind: Literal["headers-saved"] = "headers-saved"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""


class NothingUp(Frozen):
    """Nothing that the kernel has put together stands on the disk or a partition of it."""

    kind: Literal["nothing-up"] = "nothing-up"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""


class NoSignatures(Frozen):
    """A low-level probe finds no signature on the device."""

    kind: Literal["no-signatures"] = "no-signatures"
    """Discriminator."""
    device: str
    """Device path."""


class PartitionTableIs(Frozen):
    """The table on the disk, and the kernel's view of it, are as planned."""

    kind: Literal["partition-table-is"] = "partition-table-is"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""
    partitions: tuple[PartitionSpec, ...]
    """In order of number."""


class EntriesKept(Frozen):
    """These entries of the GPT are in both its copies what they were before the first write, byte for byte: type, GUID,
    place, attributes and name.
    """

    kind: Literal["entries-kept"] = "entries-kept"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""
    numbers: tuple[int, ...]
    """Of the partitions."""


class ForeignFilesKept(Frozen):
    """Every file of another system on the shared EFI system partition has the content that it had."""

    kind: Literal["foreign-files-kept"] = "foreign-files-kept"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""
    path: str
    """Where it is mounted; empty: it is only looked whether the record of them is there."""


class StoredPlanIs(Frozen):
    """The mounted root holds the plan that installed this host, and it was for this host on these disks."""

    kind: Literal["stored-plan-is"] = "stored-plan-is"
    """Discriminator."""
    path: str
    """The plan on the target."""
    hostname: str
    """The host."""
    disks: tuple[str, ...]
    """Serial numbers or WWNs, sorted."""


class OnlyKept(Frozen):
    """Nothing is on the target but what is kept, the folders that lead there, and mount points."""

    kind: Literal["only-kept"] = "only-kept"
    """Discriminator."""
    root: str
    """Mounted target."""
    keep: tuple[str, ...]
    """Absolute paths on the host."""


class SignatureIs(Frozen):
    """A low-level probe (`blkid -p`) finds this file system, LUKS header or swap."""

    kind: Literal["signature-is"] = "signature-is"
    """Discriminator."""
    device: str
    """Device path."""
    type: str
    """blkid's TYPE."""
    uuid: str
    """blkid's UUID."""
    label: str | None = None
    """blkid's LABEL."""


class MapperIs(Frozen):
    """The mapped device is active and stands on this LUKS UUID."""

    kind: Literal["mapper-is"] = "mapper-is"
    """Discriminator."""
    name: str
    """Name in /dev/mapper."""
    uuid: str
    """LUKS UUID."""


class ArrayMembersAre(Frozen):
    """Each device carries the metadata of this md array (`mdadm --examine --export`)."""

    kind: Literal["array-members-are"] = "array-members-are"
    """Discriminator."""
    uuid: str
    """As md writes it."""
    level: str
    """`raid1`…"""
    devices: tuple[str, ...]
    """Members."""


class ArrayIs(Frozen):
    """The md array is up with all its members in it (`mdadm --detail --export`)."""

    kind: Literal["array-is"] = "array-is"
    """Discriminator."""
    device: str
    """Device path of the array."""
    uuid: str
    """As md writes it."""
    level: str
    """`raid1`…"""
    devices: tuple[str, ...]
    """Members."""


class VolumesAre(Frozen):
    """The volume group stands on these devices and has these volumes (`vgs`, `pvs` and `lvs` as JSON)."""

    kind: Literal["volumes-are"] = "volumes-are"
    """Discriminator."""
    group: str
    """Name of the volume group."""
    devices: tuple[str, ...]
    """Physical volumes."""
    volumes: dict[str, str]
    """Names, each with its segment type."""


class VolumesActive(Frozen):
    """The volumes' devices are there."""

    kind: Literal["volumes-active"] = "volumes-active"
    """Discriminator."""
    devices: tuple[str, ...]
    """Paths in /dev/mapper."""


class DevicesOf(Frozen):
    """The btrfs stands on these devices, none missing, with these profiles (`btrfs filesystem show`)."""

    kind: Literal["devices-of"] = "devices-of"
    """Discriminator."""
    uuid: str
    """UUID of the file system."""
    devices: tuple[str, ...]
    """Device paths."""


class PoolIs(Frozen):
    """The ZFS pool is up and healthy, on these devices, joined like this (`zpool list`, `zpool status`)."""

    kind: Literal["pool-is"] = "pool-is"
    """Discriminator."""
    name: str
    """Name."""
    devices: tuple[str, ...]
    """Device paths."""
    redundancy: str
    """As the answers write it."""


class PoolMembersAre(Frozen):
    """Every device carries the label of this ZFS pool (`blkid -p`), whether it is up or not."""

    kind: Literal["pool-members-are"] = "pool-members-are"
    """Discriminator."""
    name: str
    """Name."""
    devices: tuple[str, ...]
    """Device paths."""


class DatasetsAre(Frozen):
    """The ZFS datasets are there (`zfs list`)."""

    kind: Literal["datasets-are"] = "datasets-are"
    """Discriminator."""
    names: tuple[str, ...]
    """Whole names."""


class DatasetMounted(Frozen):
    """The mount table has this ZFS dataset there."""

    kind: Literal["dataset-mounted"] = "dataset-mounted"
    """Discriminator."""
    target: str
    """Mount point."""
    dataset: str
    """Whole name."""


class KeyOpens(Frozen):
    """The key file opens the LUKS device (`cryptsetup open --test-passphrase`), and only root reads it."""

    kind: Literal["key-opens"] = "key-opens"
    """Discriminator."""
    device: str
    """Device path."""
    path: str
    """Absolute path of the key file."""


class RecoveryKeyOpens(Frozen):
    """This installation's recovery key opens the LUKS device (`cryptsetup open --test-passphrase`), from a slot that is
    marked as systemd-cryptenroll(1) marks recovery keys.
    """

    kind: Literal["recovery-key-opens"] = "recovery-key-opens"
    """Discriminator."""
    device: str
    """Device path."""
    slot: int
    """Key slot."""


class RecoveryKeySealed(Frozen):
    """The file holds this installation's recovery key as it was encrypted."""

    kind: Literal["recovery-key-sealed"] = "recovery-key-sealed"
    """Discriminator."""
    path: str
    """Absolute path."""


class HostKeyIs(Frozen):
    """The SSH host key can be read, by root alone, and the public key beside it is its own (ssh-keygen(1))."""

    kind: Literal["host-key-is"] = "host-key-is"
    """Discriminator."""
    path: str
    """Absolute path of the secret key."""


class WrittenInPlace(Frozen):
    """The folder has the attribute C: new files in it are written in place (`lsattr`)."""

    kind: Literal["written-in-place"] = "written-in-place"
    """Discriminator."""
    path: str
    """Absolute path."""


class MountPointHeld(Frozen):
    """The folder has the attribute i, so that nothing is written into it, or something is mounted there already."""

    kind: Literal["mount-point-held"] = "mount-point-held"
    """Discriminator."""
    path: str
    """Absolute path."""


class BootEntryIs(Frozen):
    """The firmware has an entry for this partition, or no variables that could be read."""

    kind: Literal["boot-entry-is"] = "boot-entry-is"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""
    partition: int
    """Number of the EFI system partition."""


class SubvolumesAre(Frozen):
    """The btrfs has these subvolumes at its top level."""

    kind: Literal["subvolumes-are"] = "subvolumes-are"
    """Discriminator."""
    uuid: str
    """UUID of the file system."""
    names: tuple[str, ...]
    """Names."""


class MountedAt(Frozen):
    """The mount table has this file system there, with these options."""

    kind: Literal["mounted-at"] = "mounted-at"
    """Discriminator."""
    target: str
    """Mount point."""
    uuid: str
    """UUID of the file system."""
    options: tuple[str, ...] = ()
    """Options that must be in force (`subvol=/@`)."""


class SwapActive(Frozen):
    """The kernel swaps to this device (/proc/swaps)."""

    kind: Literal["swap-active"] = "swap-active"
    """Discriminator."""
    device: str
    """Device path; a link counts as what it points to."""


class HostDataIs(Frozen):
    """Each file and link of the host's own data reads back as it was written, and is root's."""

    kind: Literal["host-data-is"] = "host-data-is"
    """Discriminator."""
    root: str
    """Mounted target."""


class AccountsAre(Frozen):
    """Each account has its name, home, shell, groups and, where there is one, the hash of its password."""

    kind: Literal["accounts-are"] = "accounts-are"
    """Discriminator."""
    root: str
    """Mounted target."""


class FileIs(Frozen):
    """A file is there with these permission bits, owned by root."""

    kind: Literal["file-is"] = "file-is"
    """Discriminator."""
    path: str
    """Absolute path."""
    mode: int
    """Permission bits."""
    sha256: str | None = None
    """Content, where known beforehand."""


class ConfigurationIs(Frozen):
    """Each rendered file is there with the rendered content."""

    kind: Literal["configuration-is"] = "configuration-is"
    """Discriminator."""
    path: str
    """Folder."""


class HandoffIs(Frozen):
    """The hand-off record is there and reads back equal."""

    kind: Literal["handoff-is"] = "handoff-is"
    """Discriminator."""
    path: str
    """Absolute path."""


class SystemRealised(Frozen):
    """The toplevel and its whole closure are valid in the target's store."""

    kind: Literal["system-realised"] = "system-realised"
    """Discriminator."""
    store: str
    """Root of the target's store."""


class ProfileIs(Frozen):
    """The target's system profile points at the realised toplevel."""

    kind: Literal["profile-is"] = "profile-is"
    """Discriminator."""
    store: str
    """Root of the target's store."""


class BootProof(Sparse):
    """The disk will boot: every boot entry's kernel and initrd are on the boot file system with the closure's content,
    the loader's own files are in place, every file system of the target resolves, the initrd has the modules that
    the root needs.
    """

    sparse: ClassVar[frozenset[str]] = frozenset(("mirrors",))

    kind: Literal["boot-proof"] = "boot-proof"
    """Discriminator."""
    root: str
    """Mounted target."""
    firmware: Literal["uefi", "bios"]
    """What to look for."""
    disk: str
    """Key of the boot disk."""
    mirrors: tuple[str, ...] = ()
    """Keys of further disks, each of which must boot alone, in the order of the host's further boot file systems."""
    initrd_modules: tuple[str, ...]
    """Kernel modules that must be in the initrd or built in."""


class LoginProof(Frozen):
    """An administrator can log in, in both phases: unlocked account, real shell, wheel, keys in place, and
    `sshd -T -C user=…` of the rendered configuration admits the account.
    """

    kind: Literal["login-proof"] = "login-proof"
    """Discriminator."""
    root: str
    """Mounted target."""
    administrators: tuple[str, ...]
    """Accounts of which at least one must be able to log in."""


class NotMounted(Sparse):
    """Nothing is mounted at or below the folder any more, and no mapped device of ours is open."""

    sparse: ClassVar[frozenset[str]] = frozenset(("arrays", "pools"))

    kind: Literal["not-mounted"] = "not-mounted"
    """Discriminator."""
    target: str
    """Folder."""
    mappers: tuple[str, ...] = ()
    """Names in /dev/mapper that must be gone."""
    arrays: tuple[str, ...] = ()
    """md arrays, by UUID, that must be stopped."""
    pools: tuple[str, ...] = ()
    """ZFS pools that must be exported."""


class KernelLoaded(Frozen):
    """The running kernel holds another one ready (/sys/kernel/kexec_loaded)."""

    kind: Literal["kernel-loaded"] = "kernel-loaded"
    """Discriminator."""


class LogSaved(Frozen):
    """Plan, journal and log are on the target."""

    kind: Literal["log-saved"] = "log-saved"
    """Discriminator."""
    path: str
    """Folder."""


Check = Annotated[
    HeadersSaved
    | NothingUp
    | NoSignatures
    | PartitionTableIs
    | EntriesKept
    | ForeignFilesKept
    | StoredPlanIs
    | OnlyKept
    | SignatureIs
    | MapperIs
    | ArrayMembersAre
    | ArrayIs
    | VolumesAre
    | VolumesActive
    | DevicesOf
    | PoolIs
    | PoolMembersAre
    | DatasetsAre
    | DatasetMounted
    | KeyOpens
    | HostKeyIs
    | RecoveryKeyOpens
    | RecoveryKeySealed
    | WrittenInPlace
    | MountPointHeld
    | BootEntryIs
    | SubvolumesAre
    | MountedAt
    | SwapActive
    | FileIs
    | ConfigurationIs
    | HostDataIs
    | AccountsAre
    | HandoffIs
    | SystemRealised
    | ProfileIs
    | BootProof
    | LoginProof
    | NotMounted
    | KernelLoaded
    | LogSaved,
    Field(discriminator="kind"),
]
