"""One handler for each kind of check."""

from pathlib import Path
from typing import assert_never

from installer.execute.boot_proof import prove_boot
from installer.execute.btrfs import check_subvolumes
from installer.execute.configuration import check_configuration, check_handoff
from installer.execute.context import Context
from installer.execute.evidence import Evidence
from installer.execute.files import check_file
from installer.execute.headers import check_saved
from installer.execute.login_proof import prove_login
from installer.execute.mounts import (
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
from installer.execute.signatures import check_none, check_signature, probe_signature
from installer.plan.checks import (
    BootProof,
    Check,
    ConfigurationIs,
    FileIs,
    HandoffIs,
    HeadersSaved,
    LoginProof,
    LogSaved,
    MapperIs,
    MountedAt,
    NoSignatures,
    NotMounted,
    PartitionTableIs,
    ProfileIs,
    SignatureIs,
    SubvolumesAre,
    SwapActive,
    SystemRealised,
)


def says_absent(check: Check) -> bool:
    """Whether it asks for something not to be there, which later steps may rightly put there."""
    return isinstance(check, NoSignatures | NotMounted)


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
        case NoSignatures():
            return check_none(runner, check.device)
        case PartitionTableIs():
            return check_table(live, runner, context.disk(check.disk), check.partitions)
        case SignatureIs():
            return check_signature(runner, check.device, check.type, check.uuid, check.label)
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
        case HandoffIs():
            return check_handoff(Path(check.path), context.plan.handoff)
        case SystemRealised():
            return check_realised(runner, check.store, context.toplevel)
        case ProfileIs():
            return check_profile(check.store, context.toplevel)
        case BootProof():
            return prove_boot(live, runner, check, context.disk(check.disk), context.plan.host)
        case LoginProof():
            return prove_login(runner, check)
        case NotMounted():
            return check_not_mounted(live, check.target, check.mappers)
        case LogSaved():
            return check_log(Path(check.path), context)
        case _:
            assert_never(check)
