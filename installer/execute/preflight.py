"""What must be so before the first step: rights, programs, memory, clock, network."""

import os
import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from installer.answers.model import Answers
from installer.answers.sizes import MIB, format_size
from installer.errors import Exit, HyperError
from installer.execute.live import LiveSystem
from installer.execute.mounts import below, read_mounts
from installer.execute.nix_store import closure_size
from installer.execute.recovery import sealed_for
from installer.execute.runner import CommandError, Runner, find_program
from installer.medium import Medium
from installer.plan.actions import (
    AddKeyFile,
    AddRecoveryKey,
    AssembleArray,
    ChangePartitionTable,
    CopyClosure,
    ImportPool,
    InstallBootLoader,
    LoadKernel,
    LookAtEsp,
    MakeHostKey,
    RealiseFlake,
    Run,
    SealRecoveryKey,
    WriteBootEntry,
    WritePartitionTable,
)
from installer.plan.checks import DevicesOf, MountPointHeld, SubvolumesAre, VolumesAre, WrittenInPlace
from installer.plan.model import TARGET, Plan

_LEAST_MEMORY = 256 * MIB
"""Bytes free below which Nix cannot even open the store (measured: 60 MiB for a copy, more to evaluate)."""
_CONNECT = 5.0
_DAY = 86400.0
"""Seconds that a hardware clock may be off: it may well run by local time."""
_AHEAD = 5 * 365 * _DAY
"""Seconds after which a medium is so old that rather the clock is wrong."""
_ROOT = re.compile(r"\bat /(?![^ ,])")
"""In what a plan says of a partition's content."""
_ALWAYS = {
    "setpriv": "ends programs with the installer",
    "udevadm": "waits for device names",
    "blkid": "reads signatures back",
    "sfdisk": "saves and reads back partition tables",
    "partx": "shows partitions to the kernel",
}


def needed_programs(plan: Plan) -> dict[str, str]:
    """Programs that the plan needs on the live system, each with what for."""
    needed = dict(_ALWAYS)
    for step in plan.steps:
        for action in (*step.actions, *step.undo):
            match action:
                case Run(argv=argv):
                    needed.setdefault(argv[0], step.summary)
                case RealiseFlake() | CopyClosure():
                    needed |= {"nix": step.summary, "nix-env": "sets the system profile"}
                case InstallBootLoader():
                    needed |= {
                        "unshare": "keeps the target's mounts apart",
                        "chroot": "enters the target",
                        "sh": "prepares the target for entering it",
                        "zstd": "looks into the initrd",
                    }
                case LoadKernel():
                    needed["kexec"] = step.summary
                case AddRecoveryKey() | AddKeyFile():
                    needed.setdefault("cryptsetup", step.summary)
                case MakeHostKey():
                    needed["ssh-keygen"] = step.summary
                case SealRecoveryKey():
                    needed["age"] = step.summary
                case AssembleArray():
                    needed.setdefault("mdadm", step.summary)
                case ImportPool():
                    needed |= {"zpool": step.summary, "zfs": step.summary}
                case WriteBootEntry():
                    needed["efibootmgr"] = step.summary
                case LookAtEsp():
                    needed |= {"mount": step.summary, "umount": step.summary}
                case WritePartitionTable() | ChangePartitionTable():
                    needed |= {"wipefs": step.summary}
                case _:
                    pass
        for check in step.checks:
            match check:
                case SubvolumesAre():
                    needed |= {"btrfs": "lists subvolumes", "mount": "looks into the btrfs"}
                case DevicesOf():
                    needed["btrfs"] = "lists a file system's devices"
                case VolumesAre():
                    needed |= {"vgs": "reads the volume group back", "lvs": "reads its volumes back"}
                case WrittenInPlace() | MountPointHeld():
                    needed["lsattr"] = "reads a folder's attributes back"
                case _:
                    pass
    if plan.host.firmware == "uefi":
        needed["efibootmgr"] = "reads the firmware's boot menu back"
    return needed


def require_free_target(live: LiveSystem) -> None:
    """HyperError (Exit.busy) if something is mounted where the target goes, and no interrupted run did that."""
    there = below(read_mounts(live.mountinfo), TARGET)
    if there:
        raise HyperError(
            f"{TARGET} is in use",
            why=f"mounted there: {', '.join(mount.target for mount in there)}; the target goes to {TARGET}",
            remedy=f"`umount --recursive {TARGET}`, then run the same command again",
            code=Exit.busy,
        )


def check_live_system(
    plan: Plan, answers: Answers, medium: Medium, runner: Runner, live: LiveSystem
) -> list[str]:
    """Refuse before anything is written what could not come to an end.

    Returns:
        Warnings.

    Raises:
        HyperError: what is missing, all missing programs at once.
    """
    require_root()
    require_programs(plan, runner.search_path)
    _require_namespaces(runner)
    _require_memory()
    require_readable(plan, runner)
    warnings = check_clock(answers, medium, live, datetime.now(UTC))
    check_closure(plan, runner)
    warnings += _network(plan, answers)
    return warnings


def require_root(what: str = "installing") -> None:
    """HyperError (Exit.privilege) for anyone else."""
    if os.geteuid() != 0:
        installing = what == "installing"
        raise HyperError(
            f"{what} needs root",
            why=f"it {'writes to disks and mounts file systems' if installing else 'reads what only root may'}; "
            f"this is user {os.geteuid()}",
            remedy="run it with sudo" + ("; `--plan` and `--render` work without" if installing else ""),
            code=Exit.privilege,
        )


def require_programs(plan: Plan, search_path: str) -> None:
    missing = {
        name: what for name, what in needed_programs(plan).items() if not find_program(name, search_path)
    }
    if missing:
        raise HyperError(
            f"{len(missing)} program(s) that the plan needs are not on this live system",
            why="; ".join(f"{name} ({what})" for name, what in sorted(missing.items())),
            remedy=f"install them; they were looked for in {search_path}",
        )


def require_readable(plan: Plan, runner: Runner) -> None:
    """HyperError (Exit.answers) if age cannot encrypt to those who shall have the recovery key."""
    for action in (action for step in plan.steps for action in step.actions):
        if isinstance(action, SealRecoveryKey):
            try:
                sealed_for(runner, action.recipients, "a try")
            except CommandError as error:
                raise HyperError(
                    "the recovery key could not be encrypted",
                    why=error.why,
                    remedy="mend storage.encryption.recovery_recipients: age or SSH public keys, whole",
                    code=Exit.answers,
                ) from error


def _require_namespaces(runner: Runner) -> None:
    try:
        runner.run(["unshare", "--mount", "--propagation", "private", "true"])
    except CommandError as error:
        raise HyperError(
            "this live system does not let the installer mount",
            why=error.why,
            remedy="give it CAP_SYS_ADMIN: run it on the machine itself, not in a container",
            code=Exit.privilege,
        ) from error


def _require_memory() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    if available < _LEAST_MEMORY:
        raise HyperError(
            "there is too little free memory",
            why=f"{format_size(available)} are available, {format_size(_LEAST_MEMORY)} are needed",
            remedy="end other programs on the live system, or give the machine more memory",
            code=Exit.unsuitable,
        )


def check_clock(answers: Answers, medium: Medium, live: LiveSystem, now: datetime) -> list[str]:
    """A clock before the medium's own sources breaks TLS; without a network it only spoils dates. One far ahead may be
    right, the medium being old; and a hardware clock of its own is what the host starts with.

    Raises:
        HyperError: it must be set first (Exit.unsuitable).
    """
    return [*_system_clock(answers, medium, now), *_hardware_clock(live, now)]


def _hardware_clock(live: LiveSystem, now: datetime) -> list[str]:
    try:
        seconds = int((live.sysfs / "class/rtc/rtc0/since_epoch").read_text())
    except (OSError, ValueError):
        return []
    if abs(seconds - now.timestamp()) < _DAY:
        return []
    words = (
        f"The hardware clock says {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}, the system's {now:%Y-%m-%d}: the host "
        "starts with the former, until NTP sets it. `hwclock --systohc --utc` sets it now."
    )
    return [words]


def _system_clock(answers: Answers, medium: Medium, now: datetime) -> list[str]:
    modified = medium.nixpkgs.locked.get("lastModified")
    if not isinstance(modified, int):
        return []
    made = datetime.fromtimestamp(modified, UTC)
    if now.timestamp() > modified + _AHEAD:
        ahead = (
            f"The clock says {now:%Y-%m-%d}, and the medium's sources are of {made:%Y-%m-%d}: either the medium is old, or "
            "the clock is ahead, and certificates will seem to have expired."
        )
        return [ahead]
    if now.timestamp() >= modified:
        return []
    words = f"the clock says {now:%Y-%m-%d}, the medium's sources are of {made:%Y-%m-%d}"
    if answers.system.offline:
        return [f"The clock is wrong: {words}."]
    raise HyperError(
        "the clock is wrong",
        why=f"{words}; downloads would fail on certificates that are not valid yet",
        remedy=f"set it: `date --utc --set '{made:%Y-%m-%d %H:%M}'` or later, or let NTP do it",
        code=Exit.unsuitable,
    )


def root_room(plan: Plan) -> int:
    """Bytes of the largest partition that the root stands on: not of what stays beside it, nor of a pool's."""
    regions = (region for picture in plan.pictures for region in picture.after)
    return max((region.size for region in regions if _ROOT.search(region.content)), default=0)


def check_closure(plan: Plan, runner: Runner) -> None:
    """A ready system that lies on this machine is there whole, and the root has room for it and the next one.

    Raises:
        HyperError: it does not (Exit.unsuitable). What a network or an evaluation brings is known by estimate only, and
            was planned for.
    """
    room = root_room(plan)
    for action in (action for step in plan.steps for action in step.actions):
        if not isinstance(action, CopyClosure) or not (
            action.source == "auto" or action.source.startswith("file://")
        ):
            continue
        try:
            size = closure_size(runner, action)
        except (CommandError, ValueError, KeyError) as error:
            raise HyperError(
                "the system to be installed is not there whole",
                why=f"{action.toplevel} in {action.source}: {error.why if isinstance(error, CommandError) else error}",
                remedy="check the medium (its checksum), or choose another system in `system.closure`",
                code=Exit.unsuitable,
            ) from error
        if room < 2 * size:
            raise HyperError(
                "the system to be installed does not fit",
                why=f"{action.toplevel} has {format_size(size)}, its next generation comes beside it, and the "
                f"root's partition will have {format_size(room)}",
                remedy="choose a larger disk, or a smaller system in `system.closure`",
                code=Exit.unsuitable,
            )


def _network(plan: Plan, answers: Answers) -> list[str]:
    """At least one of the caches named answers; none named: nothing to try."""
    urls = {
        word
        for step in plan.steps
        for action in step.actions
        if isinstance(action, RealiseFlake | CopyClosure)
        for option in (*action.options, getattr(action, "source", ""))
        for word in option.split()
        if word.startswith(("http://", "https://"))
    }
    if answers.system.offline or not urls:
        return []
    tried = {answers.network.proxy} if answers.network.proxy else urls
    failures = [f"{url}: {reason}" for url in sorted(tried) if (reason := _unreachable(url))]
    if len(failures) < len(tried):
        return [f"A binary cache does not answer, {failure}." for failure in failures]
    raise HyperError(
        "the network does not reach any binary cache",
        why="; ".join(failures),
        remedy="connect the cable, set the network up (`nmtui`, `ip`), or write system.offline = true",
        code=Exit.unsuitable,
    )


def _unreachable(url: str) -> str | None:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT).close()
    except OSError as error:
        return str(error)
    return None
