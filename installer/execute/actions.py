"""One handler for each kind of action."""

from pathlib import Path
from typing import assert_never

from installer.execute.arrays import assemble
from installer.execute.asleep import forget
from installer.execute.boot_entries import write_boot_entry
from installer.execute.bootloader import install_boot_loader
from installer.execute.btrfs import forget_devices
from installer.execute.certificates import write_certificates
from installer.execute.clear import clear_target
from installer.execute.configuration import write_configuration, write_handoff
from installer.execute.context import TOPLEVEL, Context
from installer.execute.evidence import Wrong
from installer.execute.files import copy_file, make_directory, write_file
from installer.execute.headers import erased_kept, save_headers
from installer.execute.host_data import make_accounts, write_host_data
from installer.execute.identity import OwnUse
from installer.execute.idle import stop_idle
from installer.execute.kept_table import change_table
from installer.execute.kexec import load_kernel
from installer.execute.keys import make_host_key, write_key
from installer.execute.nix_store import copy_closure, realise_flake, set_profile
from installer.execute.partition_table import write_table
from installer.execute.records import UNLOCK_KEY, save_log
from installer.execute.recovery import RECOVERY_KEY, add_key_file, add_recovery_key, seal
from installer.execute.shared_esp import look_at_esp, put_back_foreign
from installer.execute.zfs import export_pool, import_pool
from installer.plan.actions import (
    Action,
    AddKeyFile,
    AddRecoveryKey,
    AssembleArray,
    ChangePartitionTable,
    ClearTarget,
    CopyClosure,
    CopyFile,
    ExportPool,
    ForgetDevices,
    ImportPool,
    InstallBootLoader,
    LoadKernel,
    LookAtEsp,
    MakeAccounts,
    MakeDirectory,
    MakeHostKey,
    PutBackForeign,
    RealiseFlake,
    Run,
    SaveHeaders,
    SaveLog,
    SealRecoveryKey,
    SetProfile,
    StopIdle,
    WriteBootEntry,
    WriteCertificates,
    WriteConfiguration,
    WriteHandoff,
    WriteHostData,
    WriteKey,
    WritePartitionTable,
    WriteSecret,
)
from installer.plan.model import keeps_erased
from installer.render.runtime import runtime_data

_SECRET_MODE = 0o600


def carry_out(action: Action, context: Context) -> None:
    """Do exactly one thing.

    Raises:
        HyperError: it failed.
        OSError: a file or device could not be read or written.
    """
    runner = context.runner
    match action:
        case Run():
            stdin = context.secrets.value(action.stdin) if action.stdin else None
            kept = erased_kept(context.live, context.plan, action) if keeps_erased(action) else {}
            runner.run(
                action.argv, stdin=stdin, timeout=action.timeout, environment=action.environment | kept
            )
        case SaveHeaders():
            save_headers(context.live, runner, context.disk(action.disk))
        case StopIdle():
            stop_idle(
                context.live,
                runner,
                tuple(map(context.disk, action.disks)),
                context.plan.disks,
                OwnUse(frozenset()),
            )
        case AssembleArray():
            assemble(runner, action)
        case ExportPool():
            export_pool(context.live, runner, action.name)
        case ImportPool():
            import_pool(runner, action, context.plan.host_id)
        case WriteKey():
            write_key(Path(action.path))
        case MakeHostKey():
            fingerprint = make_host_key(runner, Path(action.path), action.comment)
            context.journal.record("learned", UNLOCK_KEY, details=(fingerprint,))
        case AddKeyFile():
            add_key_file(runner, action, context.secrets.value(action.passphrase))
        case AddRecoveryKey():
            passphrase = context.secrets.value(action.passphrase)
            add_recovery_key(runner, action, passphrase, context.secrets.recovery_key)
        case SealRecoveryKey():
            sealed = seal(runner, action, context.secrets.recovery_key)
            context.journal.record("learned", RECOVERY_KEY, details=(sealed,))
        case WriteBootEntry():
            write_boot_entry(context.live, runner, action, context.disk(action.disk))
        case WritePartitionTable():
            write_table(context.live, runner, context.disk(action.disk), action.partitions, context.held)
        case ChangePartitionTable():
            step = next(step.id for step in context.plan.steps if action in step.actions)
            begun = [each for each in context.journal.events if (each.what, each.step) == ("started", step)]
            again = len(begun) > 1
            change_table(context.live, runner, context.disk(action.disk), action, context.held, again=again)
        case LookAtEsp():
            look_at_esp(context.live, runner, context.disk(action.disk), action)
        case PutBackForeign():
            put_back_foreign(context.live, context.disk(action.disk), Path(action.path))
        case ClearTarget():
            clear_target(context.live, Path(action.root), action.keep, action.room)
        case ForgetDevices():
            forget_devices(context.live, runner)
        case MakeDirectory():
            make_directory(Path(action.path), action.mode)
        case WriteSecret():
            write_file(Path(action.path), context.secrets.value(action.secret), _SECRET_MODE)
        case WriteConfiguration():
            write_configuration(Path(action.path), context.rendered)
        case WriteHostData():
            write_host_data(Path(action.root), runtime_data(context.answers, context.plan))
        case MakeAccounts():
            make_accounts(runner, Path(action.root))
        case CopyFile():
            copy_file(
                Path(action.source), Path(action.path), action.mode, action.sha256, context.progress.inside
            )
        case WriteCertificates():
            write_certificates(Path(action.path), context.answers.system.ca_certificates)
        case WriteHandoff():
            write_handoff(Path(action.path), context.plan.handoff)
        case RealiseFlake():
            toplevel = realise_flake(runner, context.progress, action, context.medium.estimated_closure)
            context.journal.record("learned", TOPLEVEL, details=(toplevel,))
        case CopyClosure():
            toplevel = copy_closure(runner, context.progress, action)
            context.journal.record("learned", TOPLEVEL, details=(toplevel,))
        case SetProfile():
            if context.toplevel is None:
                raise Wrong("a realised system for the profile", "no earlier step realised one")
            set_profile(runner, action, context.toplevel)
        case InstallBootLoader():
            if forget(context.live, context.plan):
                runner.log.write("# the firmware knew of a memory on what was here before: forgotten")
            install_boot_loader(runner, Path(action.root))
        case LoadKernel():
            load_kernel(runner, Path(action.root))
        case SaveLog():
            save_log(Path(action.path), context)
        case _:
            assert_never(action)
