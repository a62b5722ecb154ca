"""A check in words, for people."""

from installer.plan.checks import (
    AccountsAre,
    ArrayIs,
    ArrayMembersAre,
    BootEntryIs,
    BootProof,
    Check,
    ConfigurationIs,
    DatasetMounted,
    DatasetsAre,
    DevicesOf,
    EntriesKept,
    FileIs,
    ForeignFilesKept,
    HandoffIs,
    HeadersSaved,
    HostDataIs,
    HostKeyIs,
    KernelLoaded,
    KeyOpens,
    LoginProof,
    LogSaved,
    MapperIs,
    MountedAt,
    MountPointHeld,
    NoSignatures,
    NothingUp,
    NotMounted,
    OnlyKept,
    PartitionTableIs,
    PoolIs,
    PoolMembersAre,
    ProfileIs,
    RecoveryKeyOpens,
    RecoveryKeySealed,
    SignatureIs,
    StoredPlanIs,
    SubvolumesAre,
    SwapActive,
    SystemRealised,
    VolumesActive,
    VolumesAre,
    WrittenInPlace,
)
from installer.plan.prebuilt import HOST_DATA


def check_words(check: Check) -> str:
    """A check for a person: what must be found."""
    match check:
        case HeadersSaved():
            return f"the saved table and headers of disk {check.disk} are there"
        case NothingUp():
            return (
                f"nothing stands on disk {check.disk} or a partition of it that the kernel has put together"
            )
        case NoSignatures():
            return f"blkid finds nothing on {check.device}"
        case PartitionTableIs():
            return f"the table on disk {check.disk}, and the kernel's view of it, are the ones above"
        case EntriesKept():
            numbers = ", ".join(map(str, check.numbers)) or "none"
            return (
                f"the entries of partitions {numbers} on disk {check.disk} are as they were, byte for byte"
            )
        case ForeignFilesKept():
            if not check.path:
                return f"the record of other systems' files on disk {check.disk} is there"
            return f"every file of other systems in {check.path} has the content that it had"
        case StoredPlanIs():
            return f"{check.path} is the plan of {check.hostname} on {', '.join(check.disks)}"
        case OnlyKept():
            return f"nothing is in {check.root} but {', '.join(check.keep)}, and what is in /boot"
        case SignatureIs():
            label = f" with label {check.label}" if check.label else ""
            return f"blkid finds {check.type} {check.uuid}{label} on {check.device}"
        case ArrayMembersAre():
            return f"each of {len(check.devices)} members carries the metadata of the {check.level} {check.uuid}"
        case ArrayIs():
            return f"{check.device} is up as {check.level} with all its {len(check.devices)} members"
        case VolumesAre():
            volumes = ", ".join(f"{name} ({kind})" for name, kind in check.volumes.items())
            return f"the volume group {check.group} stands on {', '.join(check.devices)} and has {volumes}"
        case VolumesActive():
            return f"{', '.join(check.devices) or 'no device'} is there"
        case DevicesOf():
            return f"btrfs {check.uuid} stands on {', '.join(check.devices)}, none missing"
        case PoolIs():
            return f"the pool {check.name} is healthy ({check.redundancy}) on {', '.join(check.devices)}"
        case PoolMembersAre():
            return f"{', '.join(check.devices)} carry the label of the pool {check.name}"
        case DatasetsAre():
            return f"ZFS has {', '.join(check.names)}"
        case DatasetMounted():
            return f"{check.dataset} is mounted at {check.target}"
        case KeyOpens():
            return f"{check.path} opens {check.device}, and only root reads it"
        case HostKeyIs():
            return f"{check.path} is an SSH host key that only root reads, its public key beside it"
        case RecoveryKeyOpens():
            return f"the recovery key opens {check.device} from key slot {check.slot}"
        case RecoveryKeySealed():
            return f"{check.path} holds the encrypted recovery key"
        case WrittenInPlace():
            return f"{check.path} has the attribute C"
        case MountPointHeld():
            return f"{check.path} has the attribute i, or is mounted over"
        case BootEntryIs():
            return f"the firmware has an entry for partition {check.partition} of disk {check.disk}"
        case MapperIs():
            return f"/dev/mapper/{check.name} is active and stands on LUKS {check.uuid}"
        case SubvolumesAre():
            return f"btrfs {check.uuid} has the subvolumes {', '.join(check.names)}"
        case MountedAt():
            options = f" with {', '.join(check.options)}" if check.options else ""
            return f"{check.uuid} is mounted at {check.target}{options}"
        case SwapActive():
            return f"the kernel swaps to {check.device}"
        case FileIs():
            content = f" and SHA-256 {check.sha256}" if check.sha256 else ""
            return f"{check.path} belongs to root, with mode {check.mode:04o}{content}"
        case ConfigurationIs():
            return f"every file in {check.path} reads back as rendered"
        case HostDataIs():
            return f"every file in {check.root}{HOST_DATA} reads back as it was written"
        case AccountsAre():
            return f"each account in {check.root} has its home, shell, groups and password"
        case HandoffIs():
            return f"{check.path} reads back equal"
        case SystemRealised():
            return f"the system and everything it refers to are valid in the store of {check.store}"
        case ProfileIs():
            return f"the system profile in {check.store} points to the system"
        case BootProof():
            mirrors = ", ".join(check.mirrors)
            disks = f"disk {check.disk} and each of {mirrors}" if mirrors else f"disk {check.disk}"
            return (
                f"{check.firmware.upper()} will boot {disks}: kernel and initrd of every entry are in "
                "place with the system's content, the loader is, all file systems resolve, and the initrd has "
                f"{', '.join(check.initrd_modules)}"
            )
        case LoginProof():
            return f"one of {', '.join(check.administrators)} can log in at the console or by SSH, in each phase"
        case NotMounted():
            ended = (*check.mappers, *check.arrays, *check.pools)
            closed = f", and {', '.join(ended)} is closed" if ended else ""
            return f"nothing is mounted at {check.target} or below{closed}"
        case KernelLoaded():
            return "/sys/kernel/kexec_loaded says that a kernel is held ready"
        case LogSaved():
            return f"plan, journal and log are in {check.path}"
