"""How a step is verified: by reading back what is there, never by trusting an exit status."""

from typing import Annotated, Literal

from pydantic import Field

from installer.frozen import Frozen
from installer.plan.actions import PartitionSpec


class HeadersSaved(Frozen):
    """The saved table and headers are there and not empty."""

    kind: Literal["headers-saved"] = "headers-saved"
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


class BootProof(Frozen):
    """The disk will boot: every boot entry's kernel and initrd are on the boot file system with the closure's content,
    the loader's own files are in place, every file system of the target resolves, the initrd has the modules that
    the root needs.
    """

    kind: Literal["boot-proof"] = "boot-proof"
    """Discriminator."""
    root: str
    """Mounted target."""
    firmware: Literal["uefi", "bios"]
    """What to look for."""
    disk: str
    """Key of the boot disk."""
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


class NotMounted(Frozen):
    """Nothing is mounted at or below the folder any more, and no mapped device of ours is open."""

    kind: Literal["not-mounted"] = "not-mounted"
    """Discriminator."""
    target: str
    """Folder."""
    mappers: tuple[str, ...] = ()
    """Names in /dev/mapper that must be gone."""


class LogSaved(Frozen):
    """Plan, journal and log are on the target."""

    kind: Literal["log-saved"] = "log-saved"
    """Discriminator."""
    path: str
    """Folder."""


Check = Annotated[
    HeadersSaved
    | NoSignatures
    | PartitionTableIs
    | SignatureIs
    | MapperIs
    | SubvolumesAre
    | MountedAt
    | SwapActive
    | FileIs
    | ConfigurationIs
    | HandoffIs
    | SystemRealised
    | ProfileIs
    | BootProof
    | LoginProof
    | NotMounted
    | LogSaved,
    Field(discriminator="kind"),
]
