"""An action in words, for people; a command as it will be run."""

from collections.abc import Iterator, Sequence

from installer.answers.sizes import format_size
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
    SecretReference,
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
from installer.plan.commands import build_command, copy_command, kexec_command, profile_command
from installer.plan.lines import Command, Line, Paragraph, command_lines, folded
from installer.plan.prebuilt import HOST_DATA
from installer.plan.storage.gpt import PartitionType

TYPE_NAMES = {
    PartitionType.esp: "EFI system",
    PartitionType.xbootldr: "boot loader's kernels",
    PartitionType.bios_boot: "BIOS boot",
    PartitionType.linux: "Linux",
    PartitionType.root_arm64: "Linux root",
    PartitionType.root_x86_64: "Linux root",
    PartitionType.luks: "LUKS",
    PartitionType.plain_crypt: "plain dm-crypt",
    PartitionType.swap: "swap",
    PartitionType.raid: "Linux RAID",
    PartitionType.lvm: "Linux LVM",
    PartitionType.zfs: "ZFS",
}


def action_lines(action: Action, indent: str) -> Iterator[str]:
    """An action for a person; a command as it is run, without its secret."""
    return folded(described(action, indent), str)


def described(action: Action, indent: str) -> Iterator[Line]:
    """An action in lines that are still to be told."""
    match action:
        case Run():
            yield from _environment(action.environment, indent)
            yield from _command(action.argv, indent)
            if action.stdin:
                yield f"{indent}  standard input: {_secret_words(action.stdin)}"
            if action.timeout:
                yield f"{indent}  at most {action.timeout} s"
        case WritePartitionTable():
            yield f"{indent}pyparted: new GPT on disk {action.disk}"
            for each in action.partitions:
                name = TYPE_NAMES[PartitionType(each.type_uuid)]
                yield (
                    f"{indent}  {each.number}  from {format_size(each.start)}, {format_size(each.size)}, "
                    f"{name}, {each.label}"
                )
        case ChangePartitionTable():
            yield f"{indent}pyparted: change the GPT on disk {action.disk}"
            for number in action.delete:
                yield f"{indent}  {number}  removed"
            for word, specs in (("in its place", action.change), ("new", action.add)):
                for each in specs:
                    name = TYPE_NAMES[PartitionType(each.type_uuid)]
                    yield (
                        f"{indent}  {each.number}  {word}: from {format_size(each.start)}, {format_size(each.size)}, "
                        f"{name}, {each.label}"
                    )
        case RealiseFlake():
            yield from _environment(action.environment, indent)
            yield from _command(build_command(action), indent)
        case CopyClosure():
            yield from _environment(action.environment, indent)
            yield from _command(copy_command(action), indent)
        case SetProfile():
            yield from _command(profile_command(action, "TOPLEVEL"), indent)
        case InstallBootLoader():
            system = "/nix/var/nix/profiles/system"
            yield f"{indent}inside {action.root}, in namespaces of its own as nixos-enter does:"
            yield from _command((f"{system}/activate",), indent)
            yield from _environment({"NIXOS_INSTALL_BOOTLOADER": "1"}, indent)
            yield from _command((f"{system}/bin/switch-to-configuration", "boot"), indent)
        case LoadKernel():
            yield from _command(
                kexec_command(action.root, "KERNEL", "INITRD", "init=TOPLEVEL/init PARAMS"), indent
            )
            yield f"{indent}  each as boot.json of the target's system profile says"
        case _:
            yield Paragraph(_plain_words(action), indent, indent + "  ")


def _command(argv: Sequence[str], indent: str) -> Iterator[Line]:
    return map(Command, command_lines(argv, indent))


def _environment(variables: dict[str, str], indent: str) -> Iterator[str]:
    for name, value in variables.items():
        yield f"{indent}with {name}={value}"


def _secret_words(secret: SecretReference) -> str:
    if secret.file:
        return f"<{secret.name}> (from {secret.file})"
    if secret.name.startswith("password-hash:"):
        return f"<{secret.name}> (from the answers)"
    return f"<{secret.name}> (typed at the console)"


def _plain_words(
    action: SaveHeaders
    | LookAtEsp
    | PutBackForeign
    | ClearTarget
    | StopIdle
    | AssembleArray
    | ImportPool
    | ExportPool
    | WriteKey
    | AddKeyFile
    | AddRecoveryKey
    | MakeHostKey
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
    | SaveLog,
) -> str:
    match action:
        case SaveHeaders():
            return f"read the table, the first and last MiB and all LUKS headers of disk {action.disk} into files"
        case LookAtEsp():
            return (
                f"mount partition {action.partition} of disk {action.disk} read-only and apart, keep hashes of all files "
                f"that are not ours and copies of EFI/BOOT; {format_size(action.room)} must be free"
            )
        case PutBackForeign():
            return f"put back the EFI/BOOT that was in {action.path}, where the loader took it for itself"
        case ClearTarget():
            return (
                f"remove everything in {action.root} but {', '.join(action.keep)}, and not what is in /boot"
            )
        case StopIdle():
            disks = ", ".join(action.disks)
            return (
                "deactivate volume groups and stop arrays that nobody uses, with vgchange and mdadm, on these disks: "
                f"{disks}"
            )
        case AssembleArray():
            return f"have md bring up {action.name} ({action.uuid}), unless it is up: mdadm --assemble"
        case ExportPool():
            return f"export the pool {action.name}, if nothing of it is mounted: zpool export"
        case ImportPool():
            return f"import the pool {action.name} from {action.nodes}, unless it is up: zpool import -N"
        case WriteKey():
            return f"write 64 random bytes to {action.path} (mode 0600)"
        case AddKeyFile():
            return (
                f"let {action.path} open {action.device} from key slot {action.slot}: cryptsetup luksAddKey"
            )
        case MakeHostKey():
            return f"make a new SSH host key {action.path} (mode 0600): ssh-keygen -t ed25519"
        case AddRecoveryKey():
            return (
                f"empty key slot {action.slot} of {action.device}, and put a new recovery key into it: "
                "cryptsetup luksAddKey, cryptsetup token import"
            )
        case SealRecoveryKey():
            places = " and ".join((action.path, *action.copies))
            return (
                f"encrypt the recovery key into {places}, for {', '.join(map(_reader, action.recipients))}"
            )
        case WriteBootEntry():
            return (
                f"write the firmware's boot entry {action.label!r} for {action.loader} on partition "
                f"{action.partition} of disk {action.disk}, if its variables can be written: efibootmgr"
            )
        case ForgetDevices():
            return "forget devices of unmounted btrfs, if the kernel knows any"
        case MakeDirectory():
            return f"make folder {action.path} (mode {action.mode:04o})"
        case WriteSecret():
            return f"write {_secret_words(action.secret)} to {action.path}"
        case WriteConfiguration():
            return f"write the rendered files into {action.path}"
        case WriteHostData():
            return f"write this host's name, network, file systems, people and keys into {action.root}{HOST_DATA}"
        case MakeAccounts():
            return f"make the accounts in {action.root} with the system's own systemd-sysusers"
        case CopyFile():
            return f"copy {action.source} to {action.path} (mode {action.mode:04o})"
        case WriteCertificates():
            return f"write the live system's and the answers' certificates to {action.path}"
        case WriteHandoff():
            return f"write the hand-off record to {action.path}"
        case SaveLog():
            return f"copy plan, journal, log and saved headers to {action.path}"


def _reader(recipient: str) -> str:
    """A public key, short."""
    kind, _, key = recipient.rpartition(" ")
    return f"{kind} …{key[-12:]}" if kind else f"{key[:12]}…"
