"""One handler for each kind of check."""

from pathlib import Path
from typing import assert_never

from installer.execute.arrays import check_array, check_members, check_stopped
from installer.execute.boot_entries import check_boot_entry
from installer.execute.boot_proof import prove_boot
from installer.execute.btrfs import check_devices, check_in_place, check_subvolumes
from installer.execute.clear import check_only_kept, check_stored_plan
from installer.execute.configuration import check_configuration, check_handoff
from installer.execute.context import Context
from installer.execute.evidence import Evidence
from installer.execute.files import check_file
from installer.execute.headers import check_saved
from installer.execute.host_data import check_accounts, check_host_data
from installer.execute.idle import check_nothing_up
from installer.execute.kept_table import check_entries
from installer.execute.kexec import check_loaded
from installer.execute.keys import check_host_key, check_key
from installer.execute.login_proof import prove_login
from installer.execute.mounts import (
    check_held,
    check_mapper,
    check_mounted,
    check_not_mounted,
    check_swap_active,
    mounted_at,
    read_mounts,
)
from installer.execute.nix_store import check_profile, check_realised
from installer.execute.partition_table import check_table
from installer.execute.records import check_log
from installer.execute.recovery import RECOVERY_KEY, check_recovery_key, check_sealed
from installer.execute.shared_esp import check_foreign
from installer.execute.signatures import check_none, check_signature, probe_signature
from installer.execute.volumes import check_active, check_volumes
from installer.execute.zfs import (
    check_dataset_mounted,
    check_datasets,
    check_exported,
    check_pool,
    check_pool_members,
)
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
from installer.render.runtime import runtime_data


def says_absent(check: Check) -> bool:
    """Whether it asks for something not to be there, which later steps may rightly put there."""
    return isinstance(check, NothingUp | NoSignatures | NotMounted | OnlyKept)


def verify(check: Check, context: Context) -> Evidence:
    """Read back what should be there.

    Returns:
        What was found, a sentence each.

    Raises:
        Wrong: something else was found.
        HyperError: it could not be read.
    """
    live, runner = context.live, context.runner
    match check:
        case HeadersSaved():
            return check_saved(live, context.disk(check.disk))
        case NothingUp():
            return check_nothing_up(live, context.disk(check.disk))
        case NoSignatures():
            return check_none(runner, check.device)
        case PartitionTableIs():
            return check_table(live, runner, context.disk(check.disk), check.partitions)
        case EntriesKept():
            return check_entries(live, context.disk(check.disk), check.numbers)
        case ForeignFilesKept():
            place = Path(check.path) if check.path else None
            return check_foreign(live, context.disk(check.disk), place)
        case StoredPlanIs():
            return check_stored_plan(check)
        case OnlyKept():
            return check_only_kept(live, Path(check.root), check.keep)
        case SignatureIs():
            return check_signature(runner, check.device, check.type, check.uuid, check.label)
        case ArrayMembersAre():
            return check_members(runner, check)
        case ArrayIs():
            return check_array(runner, check)
        case VolumesAre():
            return check_volumes(runner, check)
        case VolumesActive():
            return check_active(runner, check)
        case DevicesOf():
            return check_devices(runner, check.uuid, check.devices)
        case PoolIs():
            return check_pool(runner, check)
        case PoolMembersAre():
            return check_pool_members(runner, check)
        case DatasetsAre():
            return check_datasets(runner, check)
        case DatasetMounted():
            return check_dataset_mounted(live, check)
        case KeyOpens():
            return check_key(runner, check.device, Path(check.path))
        case HostKeyIs():
            return check_host_key(runner, Path(check.path))
        case RecoveryKeyOpens():
            return check_recovery_key(runner, check, context.secrets.recovery_key)
        case RecoveryKeySealed():
            sealed = context.journal.learned(RECOVERY_KEY) if context.secrets.has_recovery_key else None
            return check_sealed(Path(check.path), sealed)
        case WrittenInPlace():
            return check_in_place(runner, check.path)
        case MountPointHeld():
            return check_held(live, runner, check.path)
        case BootEntryIs():
            return check_boot_entry(live, runner, context.disk(check.disk), check.partition)
        case MapperIs():
            return check_mapper(live, check.name, check.uuid)
        case SubvolumesAre():
            return check_subvolumes(live, runner, check.uuid, check.names)
        case MountedAt():
            mount = mounted_at(read_mounts(live.mountinfo), check.target)
            signature = probe_signature(runner, mount.source) if mount else None
            return check_mounted(
                live, check.target, check.options, check.uuid, signature.uuid if signature else None
            )
        case SwapActive():
            return check_swap_active(live, check.device)
        case FileIs():
            return check_file(Path(check.path), check.mode, check.sha256)
        case ConfigurationIs():
            return check_configuration(Path(check.path), context.rendered)
        case HostDataIs():
            return check_host_data(Path(check.root), runtime_data(context.answers, context.plan))
        case AccountsAre():
            return check_accounts(Path(check.root), runtime_data(context.answers, context.plan))
        case HandoffIs():
            return check_handoff(Path(check.path), context.plan.handoff)
        case SystemRealised():
            return check_realised(runner, check.store, context.toplevel, contents=_mounted_again(context))
        case ProfileIs():
            return check_profile(check.store, context.toplevel)
        case BootProof():
            disks = tuple(context.disk(key) for key in (check.disk, *check.mirrors))
            return prove_boot(live, runner, check, disks, context.plan.host)
        case LoginProof():
            return prove_login(runner, check)
        case NotMounted():
            return (
                *check_not_mounted(live, check.target, check.mappers),
                *(found for uuid in check.arrays for found in check_stopped(live, uuid)),
                *(found for name in check.pools for found in check_exported(runner, name)),
            )
        case KernelLoaded():
            return check_loaded(live)
        case LogSaved():
            return check_log(Path(check.path), context)
        case _:
            assert_never(check)


def _mounted_again(context: Context) -> bool:
    """Whether the target was mounted anew after the system began to be copied: then the disk may have been away."""
    copying = {
        step.id
        for step in context.plan.steps
        if any(isinstance(each, SystemRealised) for each in step.checks)
    }
    mounting = {
        step.id for step in context.plan.steps if any(isinstance(each, MountedAt) for each in step.checks)
    }
    begun = [event.step for event in context.journal.events if event.what == "started"]
    first = next((number for number, step in enumerate(begun) if step in copying), len(begun))
    return any(step in mounting for step in begun[first:])
