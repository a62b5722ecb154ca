"""What a step does: each action is exactly one thing that the executor does, nothing hidden behind it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from installer.frozen import Frozen, Sparse


class SecretReference(Frozen):
    """A secret by where it comes from; its value is fetched by the executor and lives nowhere else."""

    name: str
    """Which secret: `passphrase`, `password-hash:alice`."""
    file: str | None = None
    """File on the live system that holds it; none: asked for at the console."""


class Run(Frozen):
    """Run a program of the field; exit status 0 is success."""

    kind: Literal["run"] = "run"
    """Discriminator."""
    argv: tuple[str, ...] = Field(min_length=1)
    """Program and arguments, as they are run."""
    stdin: SecretReference | None = None
    """Secret fed to standard input, without a trailing newline."""
    environment: dict[str, str] = {}
    """Variables added to the executor's own environment."""
    timeout: int | None = None
    """Seconds after which it is stopped and counts as failed; none: it may take as long as it needs."""


class PartitionSpec(Frozen):
    """A partition to be made."""

    number: int
    """Partition number, from 1."""
    label: str
    """GPT name, at most 36 characters."""
    type_uuid: str
    """GPT type, lower case (UAPI Discoverable Partitions Specification, or UEFI for the ESP)."""
    start: int
    """Bytes from the start of the disk, a multiple of 1 MiB."""
    size: int
    """Bytes, a multiple of the logical sector."""


class WritePartitionTable(Frozen):
    """Replace the disk's partition table (pyparted), then let the kernel and udev see it."""

    kind: Literal["write-partition-table"] = "write-partition-table"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""
    partitions: tuple[PartitionSpec, ...]
    """In order of number."""


class FoundPartition(Frozen):
    """A partition as it was found when the plan was made."""

    number: int
    """Partition number, from 1."""
    uuid: str
    """Its GUID, lower case."""
    type_uuid: str
    """GPT type, lower case."""
    start: int
    """Bytes from the start of the disk."""
    size: int
    """Bytes."""


class ChangePartitionTable(Frozen):
    """Change a GPT that stays (pyparted): the entries of kept partitions come out byte for byte as they were."""

    kind: Literal["change-partition-table"] = "change-partition-table"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""
    found: tuple[FoundPartition, ...]
    """All that must be on it, in order of number; anything else, and nothing is written."""
    delete: tuple[int, ...] = ()
    """Numbers of those that go."""
    change: tuple[PartitionSpec, ...] = ()
    """Those that are given another type and name, and perhaps another end, in their place."""
    add: tuple[PartitionSpec, ...] = ()
    """New ones, in order of number."""

    @property
    def kept(self) -> tuple[int, ...]:
        """Numbers of those whose entries stay as they are."""
        other = {*self.delete, *(each.number for each in self.change)}
        return tuple(each.number for each in self.found if each.number not in other)


class LookAtEsp(Frozen):
    """Read another system's EFI system partition, mounted read-only and apart: keep hashes of all files that are not
    ours and copies of what it starts from, and refuse if there is too little room or another systemd-boot on it.
    """

    kind: Literal["look-at-esp"] = "look-at-esp"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""
    partition: int
    """Its number."""
    room: int
    """Bytes that must be free on it."""


class PutBackForeign(Frozen):
    """Put back what another system's EFI system partition had in `EFI/BOOT`, where our loader's installation put itself."""

    kind: Literal["put-back-foreign"] = "put-back-foreign"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""
    path: str
    """Where it is mounted."""


class ClearTarget(Frozen):
    """Remove everything from the mounted target but what is kept; file systems that are none of ours are not entered."""

    kind: Literal["clear-target"] = "clear-target"
    """Discriminator."""
    root: str
    """Mounted target."""
    keep: tuple[str, ...]
    """Absolute paths on the host."""
    room: int
    """Bytes that must be free for the system afterwards, what is kept counted; else nothing is removed."""


class SaveHeaders(Frozen):
    """Save the disk's partition table, its first and last MiB and the LUKS headers on it, before the first write."""

    kind: Literal["save-headers"] = "save-headers"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""


class StopIdle(Frozen):
    """Stop arrays and deactivate volume groups on these disks that came up by themselves and that nobody uses, so that the
    kernel lets the disks be written to. Nothing is erased by it.
    """

    kind: Literal["stop-idle"] = "stop-idle"
    """Discriminator."""
    disks: tuple[str, ...]
    """Keys of the disks in the plan, beyond which nothing of them may reach."""


class AssembleArray(Frozen):
    """Bring up an md array that exists, unless it is up."""

    kind: Literal["assemble-array"] = "assemble-array"
    """Discriminator."""
    name: str
    """Name below /dev/md."""
    uuid: str
    """As md writes it."""
    devices: tuple[str, ...]
    """Members."""


class ImportPool(Frozen):
    """Bring up a ZFS pool that exists, unless it is up; nothing of it is mounted by that."""

    kind: Literal["import-pool"] = "import-pool"
    """Discriminator."""
    name: str
    """Name."""
    nodes: str
    """Folder in which its devices are looked for."""


class ExportPool(Frozen):
    """Let go of a ZFS pool of which nothing is mounted: ZFS itself would unmount whatever anybody has mounted of it."""

    kind: Literal["export-pool"] = "export-pool"
    """Discriminator."""
    name: str
    """Name."""


class WriteKey(Frozen):
    """Write a new random key of 64 bytes into a file of the target that only root can read."""

    kind: Literal["write-key"] = "write-key"
    """Discriminator."""
    path: str
    """Absolute path."""


class AddKeyFile(Frozen):
    """Let a key file open a LUKS device too, in place of what an interrupted try left in its slot."""

    kind: Literal["add-key-file"] = "add-key-file"
    """Discriminator."""
    device: str
    """Device path."""
    slot: int
    """Key slot, the file's own."""
    path: str
    """Absolute path of the file."""
    passphrase: SecretReference
    """What opens it already."""


class AddRecoveryKey(Frozen):
    """Let this installation's recovery key open a LUKS device too, in place of what an interrupted try left there."""

    kind: Literal["add-recovery-key"] = "add-recovery-key"
    """Discriminator."""
    device: str
    """Device path."""
    slot: int
    """Key slot, the recovery key's own."""
    passphrase: SecretReference
    """What opens it already."""


class SealRecoveryKey(Sparse):
    """Encrypt this installation's recovery key for those who shall have it (age(1)), into a file."""

    sparse: ClassVar[frozenset[str]] = frozenset(("copies",))

    kind: Literal["seal-recovery-key"] = "seal-recovery-key"
    """Discriminator."""
    path: str
    """Absolute path."""
    recipients: tuple[str, ...]
    """Public keys as age takes them."""
    copies: tuple[str, ...] = ()
    """Further places for the same text, one on each other boot disk."""


class MakeHostKey(Frozen):
    """Make a new SSH host key (ed25519, no passphrase), in place of what an interrupted try left there."""

    kind: Literal["make-host-key"] = "make-host-key"
    """Discriminator."""
    path: str
    """Absolute path of the secret key; the public one gets `.pub` appended."""
    comment: str
    """What the key is called."""


class WriteBootEntry(Frozen):
    """Write the firmware's boot entry for one disk's loader, in place of one for the same partition; none where the
    firmware's variables cannot be written: it starts the disk's `EFI/BOOT` then.
    """

    kind: Literal["write-boot-entry"] = "write-boot-entry"
    """Discriminator."""
    disk: str
    """Key of the disk in the plan."""
    partition: int
    """Number of the EFI system partition."""
    label: str
    """What the firmware's menu shows."""
    loader: str
    """Path on the partition, as firmware writes it; `ARCH` stands for the architecture's part of the name."""


class ForgetDevices(Frozen):
    """Have the kernel forget the devices of btrfs that are not mounted (btrfs-device(8), scan --forget)."""

    kind: Literal["forget-devices"] = "forget-devices"
    """Discriminator."""


class MakeDirectory(Frozen):
    """Make a folder and its parents."""

    kind: Literal["make-directory"] = "make-directory"
    """Discriminator."""
    path: str
    """Absolute path."""
    mode: int = 0o755
    """Permission bits of the last folder."""


class WriteSecret(Frozen):
    """Write a secret into a file of the target that only root can read."""

    kind: Literal["write-secret"] = "write-secret"
    """Discriminator."""
    secret: SecretReference
    """Which."""
    path: str
    """Absolute path."""


class WriteConfiguration(Frozen):
    """Write the rendered configuration."""

    kind: Literal["write-configuration"] = "write-configuration"
    """Discriminator."""
    path: str
    """Folder, `/mnt/etc/nixos`."""


class WriteHostData(Frozen):
    """Write what a system for many hosts leaves open: this host's name, network, file systems, people and keys."""

    kind: Literal["write-host-data"] = "write-host-data"
    """Discriminator."""
    root: str
    """Mounted target."""


class MakeAccounts(Frozen):
    """Make the host's accounts with the installed system's own systemd-sysusers(8), from the data on the target."""

    kind: Literal["make-accounts"] = "make-accounts"
    """Discriminator."""
    root: str
    """Mounted target."""


class CopyFile(Frozen):
    """Copy a file of the live system or the medium to the target."""

    kind: Literal["copy-file"] = "copy-file"
    """Discriminator."""
    source: str
    """Absolute path on the live system."""
    path: str
    """Absolute path to write."""
    sha256: str | None = None
    """Expected content."""
    mode: int = 0o644
    """Permission bits."""


class WriteCertificates(Frozen):
    """Write the live system's certificate bundle with the answers' certificates added, for Nix's own downloads."""

    kind: Literal["write-certificates"] = "write-certificates"
    """Discriminator."""
    path: str
    """Absolute path on the live system."""


class WriteHandoff(Frozen):
    """Write the hand-off record for the first run."""

    kind: Literal["write-handoff"] = "write-handoff"
    """Discriminator."""
    path: str
    """Absolute path."""


class RealiseFlake(Frozen):
    """Evaluate the rendered flake and realise its toplevel in the target's store."""

    kind: Literal["realise-flake"] = "realise-flake"
    """Discriminator."""
    flake: str
    """Flake reference, `path:/mnt/etc/nixos`."""
    attribute: str
    """Attribute of the toplevel."""
    store: str
    """Root of the target's store, `/mnt`."""
    options: tuple[str, ...] = ()
    """Nix options, e.g. substituters."""
    environment: dict[str, str] = {}
    """Variables added to the executor's own environment: proxies."""


class CopyClosure(Frozen):
    """Copy a ready system into the target's store."""

    kind: Literal["copy-closure"] = "copy-closure"
    """Discriminator."""
    toplevel: str
    """`/nix/store/…`."""
    source: str
    """Store or cache it comes from: `auto` for the medium's own, or `file:///…`."""
    store: str
    """Root of the target's store, `/mnt`."""
    options: tuple[str, ...] = ()
    """Nix options."""
    environment: dict[str, str] = {}
    """Variables added to the executor's own environment: proxies."""


class SetProfile(Frozen):
    """Make the realised toplevel the target's system profile."""

    kind: Literal["set-profile"] = "set-profile"
    """Discriminator."""
    store: str
    """Root of the target's store, `/mnt`."""


class InstallBootLoader(Frozen):
    """Activate in the target and run the closure's own `bin/switch-to-configuration boot`, as nixos-install does."""

    kind: Literal["install-boot-loader"] = "install-boot-loader"
    """Discriminator."""
    root: str
    """Mounted target."""


class LoadKernel(Frozen):
    """Have the running kernel hold the installed system's kernel, initrd and parameters ready (kexec(8))."""

    kind: Literal["load-kernel"] = "load-kernel"
    """Discriminator."""
    root: str
    """Mounted target; its system profile's boot.json says which they are."""


class SaveLog(Frozen):
    """Keep plan, journal, log and saved headers on the target."""

    kind: Literal["save-log"] = "save-log"
    """Discriminator."""
    path: str
    """Folder on the target."""


Action = Annotated[
    Run
    | WritePartitionTable
    | ChangePartitionTable
    | LookAtEsp
    | PutBackForeign
    | ClearTarget
    | SaveHeaders
    | StopIdle
    | AssembleArray
    | ImportPool
    | ExportPool
    | WriteKey
    | MakeHostKey
    | AddKeyFile
    | AddRecoveryKey
    | SealRecoveryKey
    | WriteBootEntry
    | ForgetDevices
    | MakeDirectory
    | WriteSecret
    | WriteConfiguration
    | WriteHostData
    | MakeAccounts
    | CopyFile
    | WriteCertificates
    | WriteHandoff
    | RealiseFlake
    | CopyClosure
    | SetProfile
    | InstallBootLoader
    | LoadKernel
    | SaveLog,
    Field(discriminator="kind"),
]
