"""A plan for people: every disk by identity, every command as it will be run, in the 80 columns of a serial console."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from installer.answers.sizes import format_size
from installer.handoff import Handoff
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
from installer.plan.commands import build_command, copy_command, kexec_command, profile_command
from installer.plan.model import Plan, Region, Step
from installer.plan.prebuilt import HOST_DATA
from installer.plan.storage.gpt import PartitionType
from installer.plan.token import confirm_token

WIDTH = 80
"""Columns."""
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


Say = Callable[[str], str]
"""A sentence as people are told it: itself, or its translation."""


@dataclass(frozen=True)
class Paragraph:
    """A text that is folded once it is told."""

    text: str
    """The text."""
    first: str
    """Before its first line."""
    rest: str
    """Before the others."""


@dataclass(frozen=True)
class Command:
    """A line of a command or a drawing, which is no sentence."""

    text: str
    """The line."""


Line = str | Paragraph | Command


def describe(plan: Plan, answers_file: str = "ANSWERS", say: Say = str) -> str:
    """The plan as text.

    Args:
        plan: The plan.
        answers_file: What the answer file is called, for the command at the end.
        say: How each sentence is told.
    """
    title = say(f"Plan for host {plan.hostname}")
    token = confirm_token(plan)
    sections: tuple[tuple[str, Iterable[Line]], ...] = (
        ("What is destroyed", _destroyed(plan)),
        ("Layout", (*_because(plan), *_pictures(plan))),
        ("Warnings", (line for text in plan.warnings for line in _paragraph(text, "  * ", "    "))),
        ("Afterwards", _afterwards(plan)),
        (f"Steps ({len(plan.steps)})", _steps(plan, say)),
        ("To do exactly this", _confirmation(plan, token, answers_file)),
    )
    told = (line for heading, body in sections for line in _section(say(heading), _folded(body, say)))
    return "\n".join((title, "=" * len(title), *told)) + "\n"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    body = list(lines)
    while body and not body[-1]:
        body.pop()
    if body:
        yield from ("", title, "-" * len(title), *body)


def _paragraph(text: str, first: str, rest: str) -> Iterator[Line]:
    yield Paragraph(text, first, rest)


def _folded(lines: Iterable[Line], say: Say) -> Iterator[str]:
    for line in lines:
        if isinstance(line, Paragraph):
            # Never breaking words: a device path in two pieces could not be compared with anything.
            yield from wrap(
                say(line.text),
                WIDTH,
                initial_indent=line.first,
                subsequent_indent=line.rest,
                break_long_words=False,
                break_on_hyphens=False,
            )
        elif isinstance(line, Command):
            yield line.text
        else:
            text = line.lstrip()
            yield line[: len(line) - len(text)] + say(text)


def _destroyed(plan: Plan) -> Iterator[Line]:
    losses = {each.disk: each.losses for each in plan.destroyed}
    kept = {each.disk: each.kept for each in plan.destroyed}
    for disk in plan.disks:
        yield f"  Disk {disk.key}: {disk.model or 'unknown model'}, {format_size(disk.size)}"
        yield f"    serial  {disk.serial or 'none'}"
        yield f"    WWN     {disk.wwn or 'none'}"
        if disk.by_id:
            yield f"    by id   {disk.by_id}"
        else:
            yield f"    by path {disk.by_path}"
            yield f"    content {disk.ends} (SHA-256 of the first and last MiB)"
        yield f"    sectors of {disk.logical_sector} bytes"
        yield "    what is lost"
        for loss in losses.get(disk.key, ()):
            yield from _paragraph(loss, "      - ", "        ")
        if stays := kept.get(disk.key):
            yield "    what stays"
            for each in stays:
                yield from _paragraph(each, "      - ", "        ")
    if plan.mounted:
        yield "  On other disks, and mounted by the host as it is"
        for each in plan.mounted:
            yield from _paragraph(each, "      - ", "        ")


def _because(plan: Plan) -> Iterator[Line]:
    if plan.because:
        yield from _paragraph(f"Chosen for these disks: {plan.because}.", "  ", "  ")
        yield ""


def _pictures(plan: Plan) -> Iterator[Line]:
    for picture in plan.pictures:
        for when, regions in (("before", picture.before), ("after", picture.after)):
            yield f"  Disk {picture.disk} {when}"
            yield Command("  " + draw(regions, WIDTH - 4))
            for region in regions:
                number = "" if region.number is None else str(region.number)
                yield from _paragraph(
                    region.content, f"  {number:>4}  {format_size(region.size):>10}  ", " " * 20
                )
            yield ""
    for file in plan.host.swap_files:
        yield f"  Swap: {format_size(file.size)} in {file.path}, made at the first boot"
    swap = f"zram, {plan.host.zram_percent} % of the memory" if plan.host.zram_percent else None
    if swap:
        yield f"  Swap: {swap}"


def draw(regions: Sequence[Region], width: int) -> str:
    """A disk as a bar in ASCII: each region as wide as its share, but wide enough for its number."""
    labels = ["" if region.number is None else str(region.number) for region in regions]
    least = [len(label) + 1 for label in labels]
    spare = max(0, width - 1 - sum(least))
    total = sum(region.size for region in regions) or 1
    shares = [region.size * spare // total for region in regions]
    if shares:
        widest = max(range(len(shares)), key=lambda place: (shares[place], place))
        shares[widest] += spare - sum(shares)
    cells = (
        "|" + label + ("." if region.number is None else "=") * share
        for region, label, share in zip(regions, labels, shares, strict=True)
    )
    return "".join(cells) + "|"


def _afterwards(plan: Plan) -> Iterator[Line]:
    host, handoff = plan.host, plan.handoff
    yield from _paragraph(
        f"boots by {host.firmware.upper()} with {host.loader}, {host.generations} generations in the menu",
        "  ",
        "  ",
    )
    if host.mirrors:
        places = ", ".join(each.mountpoint for each in host.mirrors)
        yield from _paragraph(f"starts from any of its disks: beside /boot there is {places}", "  ", "    ")
    yield from _paragraph(f"administrators: {', '.join(handoff.administrators)}", "  ", "    ")
    if handoff.expectations.passthrough:
        kept = ", ".join(handoff.expectations.passthrough)
        yield from _paragraph(f"kept for guests: {kept}", "  ", "    ")
    yield from (line for text in _first_run(handoff) for line in _paragraph(text, "  ", "    "))


def _first_run(handoff: Handoff) -> Iterator[str]:
    for vm in handoff.vms:
        size = f", disk of {format_size(vm.disk_size)}" if vm.disk_size else ""
        yield (
            f"at first boot: VM {vm.name}, {vm.vcpus} CPU, {format_size(vm.memory)} of memory{size}, "
            f"{'started' if vm.start else 'not started'}"
        )
    yield f"ends in phase {handoff.phase}"


def _summary(step: Step) -> str:
    """The step, and what it does to what was there: adding partitions to a table that stays loses nothing."""
    for action in step.actions:
        if isinstance(action, ChangePartitionTable) and not (action.delete or action.change):
            return f"{step.summary} (writes to the disk)"
    return f"{step.summary} (destroys data)" if step.writes else step.summary


def _steps(plan: Plan, say: Say) -> Iterator[Line]:
    numbers = {step.id: number for number, step in enumerate(plan.steps, start=1)}
    for step in plan.steps:
        number = numbers[step.id]
        yield from _paragraph(_summary(step), f"{number:>3}. ", "     ")
        after = ", ".join(str(numbers[each]) for each in step.requires)
        yield f"     [{step.id}]" + (f" after {after}" if after else "")
        for action in step.actions:
            yield from _action(action, "     ")
        for check in step.checks:
            yield from _paragraph(f"verify: {check_words(check)}", "     ", "       ")
        yield from _undo(step, say)
        yield ""


def _undo(step: Step, say: Say) -> Iterator[Line]:
    for action in step.undo:
        first, *others = _folded(_action(action, "       "), say)
        head = f"     {say('undo:')}"
        joined = f"{head} {first.strip()}"
        yield from map(Command, (joined,) if len(joined) <= WIDTH else (head, first))
        yield from map(Command, others)


def command_lines(argv: Sequence[str], indent: str) -> Iterator[str]:
    """A command as a shell would take it, broken between arguments, an option kept with its value."""
    line = f"{indent}$ {shlex.quote(argv[0])}"
    pieces = list(_pieces(argv[1:], WIDTH - len(indent) - 6))
    for position, piece in enumerate(pieces, start=1):
        room = WIDTH - (0 if position == len(pieces) else 2)
        if len(line) + 1 + len(piece) > room:
            yield line + " \\"
            line = f"{indent}    {piece}"
        else:
            line += " " + piece
    yield line


def _pieces(words: Sequence[str], room: int) -> Iterator[str]:
    quoted = [shlex.quote(word) for word in words]
    while quoted:
        word = quoted.pop(0)
        if word.startswith("-") and quoted and (quoted[0] == "-" or not quoted[0].startswith("-")):
            pair = f"{word} {quoted[0]}"
            if len(pair) <= room:
                word = pair
                quoted.pop(0)
        yield word


def _secret_words(secret: SecretReference) -> str:
    if secret.file:
        return f"<{secret.name}> (from {secret.file})"
    if secret.name.startswith("password-hash:"):
        return f"<{secret.name}> (from the answers)"
    return f"<{secret.name}> (typed at the console)"


def action_lines(action: Action, indent: str) -> Iterator[str]:
    """An action for a person; a command as it is run, without its secret."""
    return _folded(_action(action, indent), str)


def _action(action: Action, indent: str) -> Iterator[Line]:
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
            yield from _paragraph(_plain_words(action), indent, indent + "  ")


def _command(argv: Sequence[str], indent: str) -> Iterator[Line]:
    return map(Command, command_lines(argv, indent))


def _environment(variables: dict[str, str], indent: str) -> Iterator[str]:
    for name, value in variables.items():
        yield f"{indent}with {name}={value}"


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


def _confirmation(plan: Plan, token: str, answers_file: str) -> Iterator[Line]:
    yield from _paragraph(
        "The token stands for this plan on these disks; it fits no other. "
        f"Until this command nothing is written; its first write is step {_first_write(plan)}.",
        "  ",
        "  ",
    )
    yield ""
    yield f"  token  {token}"
    yield ""
    yield from _command(("hv", "install", "--answers", answers_file, "--confirm", token), "  ")


def _first_write(plan: Plan) -> int:
    return next((number for number, step in enumerate(plan.steps, start=1) if step.writes), 0)


def _reader(recipient: str) -> str:
    """A public key, short."""
    kind, _, key = recipient.rpartition(" ")
    return f"{kind} …{key[-12:]}" if kind else f"{key[:12]}…"
