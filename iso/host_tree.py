"""An installed host put together in a folder, from the plan that would install it on a machine: the same steps by the same
handlers, with the folder for the mounted target. What the plan does to disks is collected, and done to files afterwards.

It runs in namespaces of its own (user_namespaces(7)), in which whoever called it is root: programs of the host's system run
there, files are root's, and nothing of it reaches the computer that it runs on.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from installer.errors import Exit, HyperError
from installer.execute.actions import carry_out
from installer.execute.boot_proof import prove_files
from installer.execute.bootloader import switch_to_boot
from installer.execute.checks import verify
from installer.execute.context import Context
from installer.execute.files import make_directory, within, write_file
from installer.execute.nix_store import profile_toplevel
from installer.plan.actions import (
    Action,
    ClearTarget,
    CopyClosure,
    CopyFile,
    InstallBootLoader,
    MakeDirectory,
    PartitionSpec,
    Run,
    SaveHeaders,
    SaveLog,
    SetProfile,
    WriteConfiguration,
    WriteHandoff,
    WritePartitionTable,
    WriteSecret,
)
from installer.plan.checks import Check, ConfigurationIs, FileIs, HandoffIs, ProfileIs, SystemRealised
from installer.plan.describe import describe
from installer.plan.installation import LOGS
from installer.plan.model import TARGET, DiskIdentity, Plan
from iso import host_grub
from iso.host_filesystems import MAKERS, TOOLS, Formatted

_ACTION: TypeAdapter[Action] = TypeAdapter(Action)
_CHECK: TypeAdapter[Check] = TypeAdapter(Check)
LATER = ("wipefs", "umount", "sync", "swapon", "swapoff")
"""Programs of a plan that have nothing to do in an image: it is blank, and nothing is mounted."""
EMPTY = ("dev", "proc", "sys", "run", "tmp")
"""Folders that the host finds empty, or not at all."""
OWN = ("etc/machine-id", "boot/loader/random-seed", "var/lib/systemd/random-seed")
"""What every host must have for itself: the first start of each copy makes it."""
NIX_LEFTOVERS = (
    "gc.lock",
    "gc-socket",
    "temproots",
    "daemon-socket",
    "userpool",
    "userpool2",
    "builds",
    "db/big-lock",
    "db/reserved",
)
"""Below nix/var/nix: what Nix makes again, some of it with the number of its process in the name."""


def refusals(plan: Plan) -> tuple[str, ...]:
    """What of the plan cannot be done to an image, a reason each; what of the answers cannot is told before there is a
    plan (iso/host_machine.py).
    """
    host = plan.host
    kinds = sorted({each.kind for each in host.filesystems} - TOOLS.keys())
    found = {
        "storage.redundancy, storage.volumes, ZFS: the kernel makes arrays, volumes and pools on block devices, as root": (
            host.arrays or host.lvm or host.zfs or host.mirrors or host.degraded
        ),
        "boot.loader: under UEFI grub-install asks the kernel about the disk; systemd-boot is files alone": (
            host.firmware == "uefi" and host.loader != "systemd-boot"
        ),
        **{f"{kind}: no tool is known that fills one in place": True for kind in kinds},
        "storage: files that are written in place get their attribute from a mounted btrfs": host.in_place,
        "boot.unlock: all copies would have one host key": host.unlock,
        "first_run: a key that opens the disk would be in the image": plan.handoff.enrolment,
    }
    return tuple(reason for reason, holds in found.items() if holds)


def retarget(value: Any, root: Path) -> Any:
    """The same with the folder for the mounted target, wherever a text is a path of the target."""
    match value:
        case str() if value == TARGET or value.startswith(f"{TARGET}/"):
            return f"{root}{value.removeprefix(TARGET)}"
        case list() | tuple():
            return [retarget(each, root) for each in value]
        case dict():
            return {name: retarget(each, root) for name, each in value.items()}
    return value


def at(action: Action, root: Path) -> Action:
    """An action on the folder."""
    return _ACTION.validate_python(retarget(action.model_dump(mode="json"), root))


def is_of_disk(action: Action) -> bool:
    """Whether it is about the disk and its mounts, and not about what lies in them."""
    match action:
        case Run(argv=(program, *_)):
            known = (("mount", "-t"), ("btrfs", "subvolume"))
            return program in MAKERS or program in LATER or action.argv[:2] in known
        case WritePartitionTable() | SaveHeaders() | ClearTarget() | SaveLog():
            return True
        case _:
            return False


@dataclass
class Collected:
    """What the plan does to its disk."""

    disk: DiskIdentity
    partitions: tuple[PartitionSpec, ...] = ()
    made: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Device: the command that makes what is on it."""
    mounted: list[str] = field(default_factory=list)
    """Where something is mounted on the host, in this order."""
    kinds: dict[str, str] = field(default_factory=dict)
    """Device: file system."""
    subvolumes: dict[str, list[str]] = field(default_factory=dict)
    """Device with a btrfs: its subvolumes."""

    def formatted(self, folders: dict[str, Path]) -> dict[int, Formatted]:
        """By number of the partition."""
        by_device = {self.disk.partition(each.number): each for each in self.partitions}
        return {
            by_device[device].number: Formatted(
                argv,
                by_device[device].size,
                folders.get(device),
                tuple(self.subvolumes.get(device, ())),
            )
            for device, argv in self.made.items()
        }


class Tree:
    """A host being put together."""

    def __init__(self, context: Context, work: Path) -> None:
        self.context, self.work = context, work
        self.root = work / "root"
        self.collected = Collected(context.plan.disks[0])
        self.folders: dict[str, Path] = {}
        """Device: the folder with what goes into its file system."""
        self.store = self.root
        """The folder that becomes /nix/store."""

    def build(self) -> None:
        """Carry out the plan's steps, verify what can be, and leave only what is the host's.

        Raises:
            HyperError: a step failed, or is one that an image cannot have.
        """
        make_directory(self.root, 0o755)
        progress, steps = self.context.progress, self.context.plan.steps
        ours = [
            step.model_copy(update={"summary": step.summary.replace(TARGET, "the image")})
            for step in steps
            if not all(is_of_disk(each) for each in step.actions)
        ]
        progress.begin(ours)
        shown = {step.id: step for step in ours}
        for step in steps:
            if step.id in shown:
                progress.start(shown[step.id])
            for action in step.actions:
                if is_of_disk(action):
                    self._collect(action)
                else:
                    self._carry_out(action)
            if step.id in shown:
                for check in step.checks:
                    self._verify(check)
                progress.end(shown[step.id], "verified")
        self._finish()

    def _collect(self, action: Action) -> None:
        """Keep what is done to the disk itself for later."""
        match action:
            case WritePartitionTable(partitions=partitions):
                self.collected.partitions = partitions
            case Run(argv=(program, *_)) if program in MAKERS:
                self.collected.made[action.argv[-1]] = action.argv
            case Run(argv=("mount", "-t", "btrfs", "-o", "subvolid=5", device, _)):
                self.collected.subvolumes[device] = []
            case Run(argv=("btrfs", "subvolume", "create", path)):
                [*_, names] = self.collected.subvolumes.values()
                names.append(path.removeprefix(f"{TARGET}/"))
            case Run(argv=("mount", "-t", kind, "-o", given, device, target)):
                self._mount(kind, given, device, target)
            case _:
                pass  # nothing to do in an image

    def _mount(self, kind: str, given: str, device: str, target: str) -> None:
        """A place of its own, so that programs of the host see something mounted. File systems of the boot loader are in
        memory: they are small, and it asks whether they are others than the root's.
        """
        place = Path(retarget(target, self.root))
        where = target.removeprefix(TARGET) or "/"
        self.collected.mounted.append(where)
        self.collected.kinds[device] = kind
        make_directory(place, 0o755)
        whole = self.folders.get(device)
        if whole is None:
            whole = self.folders[device] = self.work / f"part{len(self.folders)}"
            make_directory(whole, 0o755)
            if where.startswith("/boot") or kind == "vfat":
                self.context.runner.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "hv-image", str(whole)])
        folder = whole
        if kind == "btrfs":
            folder = whole / _subvolume(given)
            make_directory(folder, 0o755)
        if where in ("/", "/nix"):
            self.store = folder / ("nix/store" if where == "/" else "store")
        self.context.runner.run(["mount", "--bind", str(folder), str(place)])

    def _carry_out(self, action: Action) -> None:
        there = at(action, self.root)
        match there:
            case InstallBootLoader():
                # Activation is left to the first start, which has it anyway: it gives files to the host's people, and
                # here there is nobody but root.
                switch_to_boot(self.context.runner, self.root)
                self._forget_way_in()
                if self.context.plan.host.loader == "grub":
                    boot = self.root / "boot"
                    host_grub.require_found(boot, apart="/boot" in self.collected.mounted)
                    host_grub.install_files(boot)
            case CopyClosure():
                # Whoever is root is expected to have a group of builders; nothing is built.
                options = (*there.options, "--option", "build-users-group", "")
                carry_out(there.model_copy(update={"options": options}), self.context)
            case (
                SetProfile()
                | MakeDirectory()
                | WriteSecret()
                | WriteConfiguration()
                | WriteHandoff()
                | CopyFile()
            ):
                carry_out(there, self.context)
            case _:
                raise HyperError(
                    "the plan has a step that an image cannot have",
                    why=f"{action.kind}: {getattr(action, 'argv', '')}",
                    remedy="take out of the answers what asks for it, e.g. hooks, or install the machine itself",
                    code=Exit.unsuitable,
                )

    def _verify(self, check: Check) -> None:
        match check:
            case ConfigurationIs() | FileIs() | HandoffIs() | ProfileIs() | SystemRealised():
                there = _CHECK.validate_python(retarget(check.model_dump(mode="json"), self.root))
                for line in verify(there, self.context):
                    self.context.runner.log.write(f"checked: {line}")
            case _:
                pass  # of disks and mounts; the file systems are checked once they are made

    def _forget_way_in(self) -> None:
        """Entering the folder leaves the folders of its own path in it (enter.sh)."""
        place = Path(f"{self.root}{self.root}")
        while place != self.root:
            if place.is_dir():
                if any(place.iterdir()):
                    return
                place.rmdir()
            place = place.parent

    def _finish(self) -> None:
        plan, root = self.context.plan, self.root
        modules = tuple(dict.fromkeys(plan.host.initrd_modules))
        boot = prove_files(self.context.runner, root, plan.host, modules)
        require_same_mounts(plan, root)
        for line in boot:
            self.context.progress.say(f"checked: {line}")
        logs = root / LOGS[1:]
        make_directory(logs, 0o700)
        write_file(logs / "plan.json", plan.model_dump_json(indent=2).encode() + b"\n", 0o600)
        write_file(logs / "plan.txt", describe(plan).encode(), 0o600)
        for name in EMPTY:
            if (root / name).is_dir():
                shutil.rmtree(root / name)
        for path in OWN:
            (root / path).unlink(missing_ok=True)
        for name in NIX_LEFTOVERS:
            left = root / "nix/var/nix" / name
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        # Named by the hash of a path of this computer, where the profile is for Nix while it is put together.
        for root_of_profile in (root / "nix/var/nix/gcroots/auto").glob("*"):
            root_of_profile.unlink()
        profiles = root / "nix/var/nix/gcroots/profiles"
        profiles.unlink(missing_ok=True)
        profiles.symlink_to("/nix/var/nix/profiles")
        table = root / "etc/mtab"
        table.unlink(missing_ok=True)
        for name in ("dev", "proc", "sys", "run"):
            make_directory(root / name, 0o755)
        make_directory(root / "tmp", 0o1777)

    def unmount(self) -> None:
        """So that each file system's folder is seen alone."""
        for where in reversed(self.collected.mounted):
            self.context.runner.run(["umount", str(Path(f"{self.root}{where}"))])


def _subvolume(options: str) -> str:
    """The subvolume that is mounted (btrfs(5), subvol=)."""
    found = next(word for word in options.split(",") if word.startswith("subvol="))
    return found.removeprefix("subvol=").lstrip("/")


def require_same_mounts(plan: Plan, root: Path) -> None:
    """The system's fstab names the file systems of the image: it was built from what this plan renders.

    Raises:
        HyperError: it was not.
    """
    table = within(root, f"{profile_toplevel(root)}/etc/fstab")
    rows = [line.split() for line in table.read_text().splitlines() if line.strip() and line[0] != "#"]
    there = {(row[0], row[1]) for row in rows if len(row) > 1}
    if missing := [each for each in plan.host.filesystems if (each.device, each.mountpoint) not in there]:
        raise HyperError(
            "the system was built for other disks",
            why=f"its fstab lacks {missing[0].device} at {missing[0].mountpoint}",
            remedy="build it from what `hv media host ANSWERS --render DIR` writes, with the same answers",
            code=Exit.answers,
        )


def for_any_disk(plan: Plan) -> Plan:
    """The plan, with a hand-off that finds the disk to grow on by what is on it: nobody knows the machine's own name of it."""
    grow = plan.handoff.grow
    if grow is None:
        return plan
    root = next(each.device for each in plan.host.filesystems if each.mountpoint == "/")
    uuid = root.removeprefix("/dev/disk/by-uuid/")
    grow = grow.model_copy(update={"disk_by_id": None, "disk_by_path": None, "filesystem_uuid": uuid})
    return plan.model_copy(update={"handoff": plan.handoff.model_copy(update={"grow": grow})})
