"""A plan as values: identified disks, what is destroyed, the steps, and what the host's configuration must say."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from installer.frozen import Frozen, Sparse
from installer.handoff import Handoff
from installer.plan.actions import Action, ChangePartitionTable, ClearTarget, Run, WritePartitionTable
from installer.plan.checks import Check

TARGET = "/mnt"
"""Where the target is mounted while it is installed."""


FORMATTERS = frozenset(
    (
        "wipefs",
        "blkdiscard",
        "mkfs.fat",
        "mkfs.ext4",
        "mkfs.xfs",
        "mkfs.btrfs",
        "mkswap",
        "pvcreate",
        "vgcreate",
        "lvcreate",
    )
)
"""Programs whose every use destroys what was there."""


CREATORS = frozenset((("cryptsetup", "luksFormat"), ("mdadm", "--create"), ("zpool", "create")))
"""The same of programs that do other things as well."""


class DiskIdentity(Frozen):
    """A disk, named so that no reordering of kernel names can change which one is meant."""

    key: str
    """What the plan calls it: `main`."""
    wwn: str | None
    """World-wide name."""
    serial: str | None
    """Serial number."""
    by_id: str | None
    """The name in /dev/disk/by-id that all device paths of this plan use, without the folder."""
    by_path: str | None = None
    """Where it hangs, for a disk that has no name of its own: the name in /dev/disk/by-path, used instead."""
    ends: str | None = None
    """Of such a disk: SHA-256 over its first and last MiB; what was confirmed, and must stand there still."""
    model: str | None
    """Model, for people."""
    size: int
    """Bytes."""
    logical_sector: int
    """Bytes."""

    @property
    def name(self) -> str:
        """The name that device paths use, for messages."""
        return self.by_id or self.by_path or self.key

    @model_validator(mode="after")
    def _found_again(self) -> Self:
        """Refuse a disk that nothing would find again, or that nothing could be compared with."""
        if not self.by_id and not (self.by_path and self.ends):
            raise ValueError("a disk has neither a name in by-id, nor a place and content to know it by")
        return self

    @property
    def device(self) -> str:
        """Path of the whole disk."""
        return f"/dev/disk/{'by-id' if self.by_id else 'by-path'}/{self.name}"

    def partition(self, number: int) -> str:
        """Path of a partition (udev's `-partN` links)."""
        return f"{self.device}-part{number}"


class Destruction(Sparse):
    """What is lost on one disk."""

    sparse: ClassVar[frozenset[str]] = frozenset(("kept",))

    disk: str
    """Key of the disk."""
    losses: tuple[str, ...]
    """One sentence each: partitions, file systems, stacks; `nothing: the disk is blank`."""
    kept: tuple[str, ...] = ()
    """What stays, one sentence each."""


class Region(Frozen):
    """A stretch of a disk, for the drawing."""

    number: int | None
    """Partition number; none: free space, or the whole disk without a table."""
    start: int
    """Bytes from the start of the disk."""
    size: int
    """Bytes."""
    content: str
    """What is in it, for a person: `vfat "EFI"`, `LUKS2 > btrfs at /, /home`."""


class DiskPicture(Frozen):
    """One disk as it is and as it will be."""

    disk: str
    """Key of the disk."""
    before: tuple[Region, ...]
    """In order of place on the disk."""
    after: tuple[Region, ...]
    """In order of place on the disk."""


class Step(Frozen):
    """One step of the plan."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """Stable name; the journal goes by it."""
    summary: str
    """One sentence for a person, in the imperative, naming the disk by identity where it writes to one."""
    requires: tuple[str, ...] = ()
    """Ids of the steps that must be verified before this one."""
    writes: tuple[str, ...] = ()
    """Keys of the disks it writes to destructively; their identity is read again right before it."""
    actions: tuple[Action, ...]
    """What is done, in order."""
    checks: tuple[Check, ...]
    """How it is verified."""
    undo: tuple[Action, ...] = ()
    """What takes it back before a retry (unmount, close); nothing brings overwritten data back but the saved headers."""
    transient: bool = False
    """Its effect does not survive a reboot of the live system (mounts, opened LUKS): a resumed run checks it again."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the progress bar, relative to the others."""


class HostFilesystem(Sparse):
    """One entry of the host's `fileSystems`."""

    sparse: ClassVar[frozenset[str]] = frozenset(("later",))

    mountpoint: str
    """Where."""
    device: str
    """`/dev/disk/by-uuid/…` or `/dev/mapper/…`."""
    kind: str
    """`fsType`."""
    options: tuple[str, ...]
    """All options."""
    needed_for_boot: bool = False
    """Whether stage 1 mounts it."""
    later: bool = False
    """Whether the host alone mounts it, and nobody does while it is installed."""


class HostLuks(Sparse):
    """One entry of the host's `boot.initrd.luks.devices`."""

    sparse: ClassVar[frozenset[str]] = frozenset(("dispensable", "token"))

    name: str
    """Mapper name."""
    device: str
    """`/dev/disk/by-uuid/…` of the LUKS header."""
    token: Literal["tpm2", "fido2"] | None = None
    """What opens it at boot beside the passphrase, once that is enrolled."""
    allow_discards: bool
    """TRIM passes through."""
    dispensable: bool = False
    """The root can do without it, as with a mirror's other half: nobody waits for it for ever."""


class HostKeyLuks(Frozen):
    """One line of the host's crypttab: a data device, opened in stage 2 with a key file that the root holds."""

    name: str
    """Mapper name."""
    device: str
    """`/dev/disk/by-uuid/…` of the LUKS header."""
    key_file: str
    """Absolute path on the host."""
    allow_discards: bool
    """TRIM passes through."""


class HostArray(Frozen):
    """One line of the host's mdadm.conf."""

    name: str
    """Name below /dev/md."""
    uuid: str
    """As md writes it."""


class HostBootMirror(Frozen):
    """A further boot file system, on a disk of its own."""

    mountpoint: str
    """Where it is mounted: `/boot2`."""
    grub_device: str | None = None
    """BIOS: the whole disk for GRUB's code, by id."""


class HostSwapFile(Frozen):
    """A swap file that the host makes at its first boot."""

    path: str
    """Where."""
    size: int
    """Bytes."""


class HostZfs(Frozen):
    """ZFS on the host."""

    pools: tuple[str, ...]
    """Names."""
    nodes: str
    """Folder in which the pools' devices are looked for."""
    cache: int
    """Bytes of memory that the ARC may take: guests need the rest."""


class HostUnlock(Frozen):
    """Typing the passphrase over SSH in stage 1."""

    port: int
    """TCP port."""
    keys: tuple[str, ...]
    """authorized_keys(5) lines."""
    host_key: str
    """Path on the host of the secret key; not in the Nix store."""
    drivers: tuple[str, ...]
    """Modules of the network cards."""
    kinds: tuple[str, ...]
    """Modules of what stands on them: bonds, bridges, VLANs."""


class HostStorage(Sparse):
    """What the host's configuration must say about storage and booting, for rendering."""

    sparse: ClassVar[frozenset[str]] = frozenset(
        (
            "mirrors",
            "arrays",
            "lvm",
            "zfs",
            "key_luks",
            "swap_files",
            "in_place",
            "degraded",
            "unlock",
            "resume_device",
            "xbootldr_mountpoint",
        )
    )

    filesystems: tuple[HostFilesystem, ...]
    """In mount order."""
    luks: tuple[HostLuks, ...] = ()
    """Devices opened in stage 1."""
    swap_devices: tuple[str, ...] = ()
    """Paths for `swapDevices`."""
    random_swap_devices: tuple[str, ...] = ()
    """Further paths for `swapDevices`, with `randomEncryption`: encrypted with a new key at every boot."""
    zram_percent: int | None = None
    """Size of zram in percent of memory; none: no zram."""
    firmware: Literal["uefi", "bios"]
    """What it boots with."""
    loader: Literal["systemd-boot", "grub"]
    """Which loader."""
    esp_mountpoint: str | None = None
    """Where the ESP is, `/boot`."""
    xbootldr_mountpoint: str | None = None
    """Where kernels lie apart from the ESP; none: on it."""
    grub_device: str | None = None
    """Whole disk for GRUB's BIOS code, by id."""
    generations: int
    """Entries in the boot menu."""
    initrd_modules: tuple[str, ...]
    """`boot.initrd.availableKernelModules`: what reaches the root, from facts."""
    supported_filesystems: tuple[str, ...]
    """`boot.supportedFilesystems`/initrd: kinds in use."""
    mirrors: tuple[HostBootMirror, ...] = ()
    """Boot file systems of the other disks, each of which starts the host alone."""
    arrays: tuple[HostArray, ...] = ()
    """md arrays."""
    lvm: Literal["plain", "thin"] | None = None
    """Whether there are volume groups, and thin pools in them."""
    zfs: HostZfs | None = None
    """ZFS pools."""
    key_luks: tuple[HostKeyLuks, ...] = ()
    """Data devices that a key file opens."""
    swap_files: tuple[HostSwapFile, ...] = ()
    """Swap files."""
    in_place: tuple[str, ...] = ()
    """Folders of a btrfs whose files are written in place (attribute C)."""
    degraded: tuple[str, ...] = ()
    """UUIDs of btrfs file systems that the host starts with although a disk is missing."""
    resume_device: str | None = None
    """Where stage 1 looks for a hibernated host; none: nowhere, or where a UEFI variable says."""
    unlock: HostUnlock | None = None
    """Typing the passphrase over SSH."""


def is_destructive(action: Action) -> bool:
    """Whether the action overwrites what was on a device."""
    match action:
        case WritePartitionTable() | ChangePartitionTable() | ClearTarget():
            return True
        case Run(argv=argv):
            return argv[0] in FORMATTERS or argv[:2] in CREATORS
        case _:
            return False


def keeps_erased(action: Action) -> bool:
    """Whether the action is wipefs told to keep what it erases."""
    return isinstance(action, Run) and action.argv[0] == "wipefs" and "--backup" in action.argv


def is_reversible(step: Step) -> bool:
    """Whether a step can be taken back to the byte: it writes nothing, or only erases signatures, which are kept, and
    replaces the partition table, which lies within the ends of the disk that were saved.
    """
    return not step.writes or all(
        isinstance(action, WritePartitionTable | ChangePartitionTable) or keeps_erased(action)
        for action in step.actions
    )


class Plan(Sparse):
    """Everything that will be done. Same facts, answers and medium: same plan, byte for byte."""

    sparse: ClassVar[frozenset[str]] = frozenset(("because", "mounted"))

    version: Literal[1] = 1
    """Format of the plan."""
    hostname: str
    """The host to be."""
    host_id: str = Field(pattern=r"^[0-9a-f]{8}$")
    """`networking.hostId`, derived from identity."""
    inputs_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 over answers and medium, so that the token covers what is rendered from them."""
    disks: tuple[DiskIdentity, ...]
    """Disks it touches."""
    destroyed: tuple[Destruction, ...]
    """What is lost."""
    mounted: tuple[str, ...] = ()
    """What the host mounts from disks that are not written to, one sentence each."""
    pictures: tuple[DiskPicture, ...] = ()
    """The same disks as they are and as they will be, for drawing."""
    warnings: tuple[str, ...] = ()
    """What a person should know before confirming."""
    because: str | None = None
    """Why the layout was chosen, where the answers left that to the plan."""
    host: HostStorage
    """What rendering says about storage."""
    handoff: Handoff
    """What the first run takes up."""
    steps: tuple[Step, ...]
    """In an order that fits `requires`."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        """Refuse what no executor should be given: steps out of order, destruction without an identity."""
        identities = {disk.key for disk in self.disks}
        done: set[str] = set()
        for step in self.steps:
            if step.id in done:
                raise ValueError(f"there are two steps {step.id}")
            if missing := set(step.requires) - done:
                raise ValueError(
                    f"step {step.id} requires {', '.join(sorted(missing))}, which no earlier step is"
                )
            if unknown := set(step.writes) - identities:
                raise ValueError(
                    f"step {step.id} writes to {', '.join(sorted(unknown))}, a disk without identity"
                )
            for action in filter(is_destructive, step.actions):
                match action:
                    case WritePartitionTable(disk=disk) | ChangePartitionTable(disk=disk):
                        named = {disk}
                    case _:
                        named = set(step.writes)
                if not named or not named <= set(step.writes):
                    raise ValueError(f"step {step.id} destroys data and does not say on which disk")
            done.add(step.id)
        return self
