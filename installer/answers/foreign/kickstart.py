"""The storage part of a kickstart (pykickstart documentation, Kickstart commands)."""

import re
import shlex
from typing import Any

from installer.answers.foreign.disks import selector, storage_disks
from installer.answers.foreign.tree import Imported, Tree
from installer.facts import Facts

STORAGE = (
    "autopart",
    "bootloader",
    "btrfs",
    "clearpart",
    "ignoredisk",
    "logvol",
    "part",
    "partition",
    "raid",
    "reqpart",
    "volgroup",
    "zerombr",
)
"""Commands that are read; of the others only what they are called is told."""
VALUED = frozenset(
    ("--size", "--grow-to", "--maxsize", "--fstype", "--ondisk", "--ondrive", "--onpart", "--asprimary", "--label", "--fsoptions",
     "--passphrase", "--vgname", "--name", "--device", "--level", "--drives", "--only-use", "--type", "--location", "--append",
     "--boot-drive", "--timeout", "--poolname", "--percent", "--luks-version", "--pbkdf", "--cipher", "--data", "--metadata",
     "--subvol", "--parent", "--spares", "--disklabel", "--list", "--driveorder", "--pesize", "--chunksize", "--metadatasize")
)  # fmt: skip
"""Options that take the next word where they have no `=`; `--subvol` takes none and stands alone."""
FLAGS = frozenset(("--subvol", "--asprimary"))
SIZED = re.compile(r"^[0-9]+$")
NOT_READ = "only the storage part is read"
ONE_BOOT = "there is one boot file system, as large as the largest here"
OURS = "the installer cuts and names partitions by itself"
LEVELS = {
    "1": "mirror",
    "raid1": "mirror",
    "5": "raid5",
    "raid5": "raid5",
    "6": "raid6",
    "raid6": "raid6",
    "10": "raid10",
    "raid10": "raid10",
}


def parse(text: str) -> list[dict[str, Any]]:
    """Each command as a table: `command`, its `arguments`, and its options; sections (`%packages`) as one each."""
    commands: list[dict[str, Any]] = []
    section: str | None = None
    for raw in text.splitlines():
        line = raw.strip()
        if section is not None:
            section = None if line == "%end" else section
            continue
        if not line or line.startswith("#"):
            continue
        if line.startswith("%") and not line.startswith(("%include", "%ksappend")):
            section = line.split()[0]
            commands.append({"command": section})
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.split()
        commands.append(_command(words))
    return commands


def _command(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"command": words[0]}
    arguments: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("--"):
            arguments.append(word)
            continue
        name, equals, value = word.partition("=")
        if equals:
            found[name] = value
        elif name in VALUED - FLAGS:
            found[name] = next(rest, "")
        else:
            found[name] = True
    if arguments:
        found["arguments"] = arguments
    return found


class _Reader:
    """One kickstart at work."""

    def __init__(self, commands: list[dict[str, Any]], facts: Facts | None) -> None:
        self.commands = commands
        self.tree = Tree({self._title(place): each for place, each in enumerate(commands)})
        self.facts = facts
        self.storage: dict[str, Any] = {}
        self.boot: dict[str, Any] = {}
        self.drives: dict[str, tuple[str, ...]] = {}
        self.boot_title = ""

    def _title(self, place: int) -> str:
        same = [
            each for each in self.commands[: place + 1] if each["command"] == self.commands[place]["command"]
        ]
        name = str(self.commands[place]["command"])
        return name if len(same) == 1 else f"{name} ({len(same)})"

    def read(self) -> Imported:
        for place, command in enumerate(self.commands):
            self._one(self._title(place), command)
        self._disks()
        answers: dict[str, Any] = {"storage": self.storage}
        if self.boot:
            answers["boot"] = self.boot
        return Imported(answers, self.tree.left())

    def _one(self, title: str, command: dict[str, Any]) -> None:
        name = command["command"]
        if name not in STORAGE:
            self.tree.leave((title,), NOT_READ)
            return
        self.tree.take(title, "command")
        match name:
            case "zerombr" | "reqpart":
                self.tree.take(title)  # the installer makes tables and boot partitions in any case
            case "clearpart":
                self._clearpart(title, command)
            case "ignoredisk":
                self._use(title, "--only-use", command)
            case "autopart":
                self._autopart(title, command)
            case "bootloader":
                self._bootloader(title, command)
            case "raid":
                self._raid(title, command)
            case "volgroup":
                self.storage.setdefault("volumes", "lvm")
                self.tree.leave((title, "arguments"), OURS)
                self.tree.leave((title,), OURS)
            case "logvol":
                self._logvol(title, command)
            case "btrfs":
                self._btrfs(title, command)
            case _:
                self._part(title, command)

    def _use(self, title: str, option: str, command: dict[str, Any]) -> None:
        for name in filter(None, str(command.get(option, "")).split(",")):
            self.drives.setdefault(name, (title, option))

    def _clearpart(self, title: str, command: dict[str, Any]) -> None:
        if command.get("--all"):
            self.tree.take(title, "--all")
        for option in ("--initlabel",):
            self.tree.take(title, option)
        if command.get("--linux") or command.get("--none") or command.get("--list"):
            self.storage["existing"] = "keep"
            self.tree.take(title, "--none")
            for option in ("--linux", "--list"):
                self.tree.leave(
                    (title, option),
                    'partitions stay, unless storage.partitions names them with action = "delete"',
                )
        self.tree.leave((title, "--disklabel"), "tables are GPT")
        self._use(title, "--drives", command)

    def _autopart(self, title: str, command: dict[str, Any]) -> None:
        kind = command.get("--type", "lvm")
        layout: dict[str, dict[str, Any]] = {
            "plain": {"filesystem": "xfs"},
            "partition": {"filesystem": "xfs"},
            "lvm": {"filesystem": "xfs", "volumes": "lvm"},
            "thinp": {"filesystem": "xfs", "volumes": "lvm-thin"},
            "btrfs": {"filesystem": "btrfs"},
        }
        if kind in layout:
            self.tree.take(title, "--type")
            self.storage |= layout[kind]
        self.storage["swap"] = {"kind": "none"} if command.get("--noswap") else {"kind": "partition"}
        self.tree.take(title, "--noswap")
        self.tree.take(title, "--nohome")
        if fstype := command.get("--fstype"):
            self._kind(title, str(fstype))
        self._encryption(title, command)

    def _bootloader(self, title: str, command: dict[str, Any]) -> None:
        if append := command.get("--append"):
            self.tree.take(title, "--append")
            self.boot["kernel_params"] = str(append).split()
        if command.get("--location") == "mbr":
            self.tree.take(title, "--location")
        self.tree.leave(
            (title, "--boot-drive"), "every disk of a mirror boots; else the one that storage names first"
        )
        self.tree.leave((title, "--timeout"), "the installer chooses it")

    def _encryption(self, title: str, command: dict[str, Any]) -> None:
        if not command.get("--encrypted"):
            return
        self.tree.take(title, "--encrypted")
        self.storage["encryption"] = {"enable": True, "passphrase": {"prompt": True}}
        self.tree.leave(
            (title, "--passphrase"), "a secret is never in an answer file: write `passphrase = { file = … }`"
        )
        if command.get("--luks-version") == "luks2":
            self.tree.take(title, "--luks-version")
        else:
            self.tree.leave((title, "--luks-version"), "it is LUKS2")
        for option in ("--pbkdf", "--cipher"):
            self.tree.leave((title, option), "LUKS2 with argon2id and cryptsetup's own cipher")

    def _kind(self, title: str, fstype: str) -> None:
        if fstype in ("ext4", "xfs", "btrfs"):
            self.tree.take(title, "--fstype")
            self.storage["filesystem"] = fstype
        else:
            self.tree.leave((title, "--fstype"), "a root is ext4, xfs or btrfs (or ZFS)")

    def _part(self, title: str, command: dict[str, Any]) -> None:
        place = str((command.get("arguments") or [""])[0])
        for option in ("--ondisk", "--ondrive"):
            self._use(title, option, command)
        self.tree.leave((title, "--asprimary"), "tables are GPT, where all are alike")
        self.tree.leave((title, "--label"), OURS)
        if place in ("/boot", "/boot/efi", "biosboot") or command.get("--fstype") in (
            "efi",
            "biosboot",
            "prepboot",
        ):
            self._boot(title, command, place)
        elif place == "swap":
            self.tree.take(title, "arguments")
            self.tree.take(title, "--fstype")
            self._swap(title, command)
        elif place == "/":
            self._root(title, command)
        elif place.startswith(("pv.", "raid.", "btrfs.")):
            self.tree.take(title, "arguments")
            self.tree.leave((title, "--size"), "the root takes the rest of the disks")
            self.tree.take(title, "--grow")
            if place.startswith("pv."):
                self.storage.setdefault("volumes", "lvm")
        elif command.get("--onpart") or command.get("--noformat"):
            self.storage["existing"] = "keep"
            self.tree.leave(
                (title,), f"write storage.partitions with the partition's uuid and mount = {place!r}"
            )
        else:
            self.tree.leave(
                (title,), "file systems beside the root are folders of it, subvolumes, or [storage.pool]"
            )
        self._encryption(title, command)

    def _boot(self, title: str, command: dict[str, Any], place: str) -> None:
        self.tree.take(title, "arguments")
        self.tree.take(title, "--fstype")
        size = str(command.get("--size", ""))
        if place != "biosboot" and SIZED.match(size) and int(size) >= 1024:
            before = int(str(self.boot.get("esp_size", "0MiB")).removesuffix("MiB"))
            if before >= int(size):
                self.tree.leave(
                    (title, "--size"), "there is one boot file system, as large as the largest here"
                )
                return
            self.tree.take(title, "--size")
            self.boot["esp_size"] = f"{size}MiB"
        elif place == "biosboot":
            self.tree.take(title, "--size")
        else:
            self.tree.leave((title, "--size"), "less than 1 GiB runs full of kernels; it gets 2 GiB or more")

    def _swap(self, title: str, command: dict[str, Any]) -> None:
        swap: dict[str, Any] = {"kind": "partition"}
        size = str(command.get("--size", ""))
        if SIZED.match(size):
            self.tree.take(title, "--size")
            swap["size"] = f"{size}MiB"
        self.tree.take(title, "--recommended")
        self.storage["swap"] = swap

    def _root(self, title: str, command: dict[str, Any]) -> None:
        self.tree.take(title, "arguments")
        self.tree.take(title, "--grow")
        if fstype := command.get("--fstype"):
            self._kind(title, str(fstype))
        if options := command.get("--fsoptions"):
            self.tree.take(title, "--fsoptions")
            self.storage["mount_options"] = str(options).split(",")
        if command.get("--grow") is None:
            self.tree.leave((title, "--size"), "the root takes the rest of the disks")
        else:
            self.tree.take(title, "--size")  # the least, from which it grows to the rest

    def _logvol(self, title: str, command: dict[str, Any]) -> None:
        place = str((command.get("arguments") or [""])[0])
        self.storage.setdefault("volumes", "lvm")
        self.tree.leave((title, "--name"), OURS)
        self.tree.leave((title, "--vgname"), OURS)
        size = str(command.get("--size", ""))
        if command.get("--thinpool"):
            self.tree.take(title, "--thinpool")
            self.tree.take(title, "arguments")
            self.storage["volumes"] = "lvm-thin"
            self.tree.leave((title, "--size"), "the pool takes the rest of the group")
            self.tree.take(title, "--grow")
        elif place == "swap":
            self.tree.take(title, "arguments")
            self.tree.take(title, "--fstype")
            self._swap(title, command)
        elif place == "/":
            self._root(title, command)
            if command.get("--thin"):
                self.tree.take(title, "--thin")
                self.storage["volumes"] = "lvm-thin"
            self.tree.leave((title, "--poolname"), OURS)
            if SIZED.match(size) and not command.get("--grow"):
                self.tree.reasons.pop((title, "--size"), None)
                self.tree.take(title, "--size")
                self.storage["root_size"] = f"{size}MiB"
        else:
            self.tree.leave((title,), "volumes beside the root are for guests: [storage.pool]")

    def _raid(self, title: str, command: dict[str, Any]) -> None:
        place = str((command.get("arguments") or [""])[0])
        level = str(command.get("--level", "")).lower()
        self.tree.leave((title, "--device"), OURS)
        if place in ("/boot", "/boot/efi"):
            self.tree.leave(
                (title,), "every disk of a mirror has a boot partition of its own, which are kept alike"
            )
            return
        if level in LEVELS:
            self.tree.take(title, "--level")
            mirror = LEVELS[level] == "mirror"
            self.storage["layout"] = "mirror" if mirror else "array"
            if not mirror:
                self.storage["redundancy"] = LEVELS[level]
        self.tree.take(title, "arguments")
        if place == "/":
            self._root(title, command)
        elif place == "swap":
            self._swap(title, command)
        elif place.startswith("pv."):
            self.storage.setdefault("volumes", "lvm")
        else:
            self.tree.leave((title,), "an array beside the root's is [storage.pool] on disks of its own")

    def _btrfs(self, title: str, command: dict[str, Any]) -> None:
        place = str((command.get("arguments") or [""])[0])
        self.storage["filesystem"] = "btrfs"
        if command.get("--subvol"):
            self.tree.take(title, "--subvol")
            self.tree.take(title, "arguments")
            name = command.get("--name")
            if name and place.startswith("/"):
                self.tree.take(title, "--name")
                self.storage.setdefault("subvolumes", {})[str(name)] = place
            return
        data = str(command.get("--data", "")).lower().removeprefix("raid")
        if data in ("0", "1", "10", "single"):
            self.tree.take(title, "--data")
            self.storage["layout"] = "mirror" if data == "1" else "array"
            if data != "1":
                self.storage["redundancy"] = "raid10" if data == "10" else "none"
        self.tree.take(title, "arguments")
        self.tree.leave((title, "--label"), OURS)
        self.tree.leave((title, "--metadata"), "metadata has as many copies as data, two at least")

    def _disks(self) -> None:
        selectors = []
        for name, (title, option) in self.drives.items():
            found = selector(name if not name.startswith("disk/") else f"/dev/{name}", self.facts)
            if isinstance(found, str):
                self.tree.leave((title, option), f"{name}: {found}")
            else:
                selectors.append(found)
        told = set(self.drives)
        for place, command in enumerate(self.commands):
            for option in ("--only-use", "--drives", "--ondisk", "--ondrive"):
                title, named = self._title(place), str(command.get(option, "")).split(",")
                wanted = selectors and {*named} <= told and (title, option) not in self.tree.reasons
                if wanted and len(selectors) == len(told):
                    self.tree.take(title, option)
                elif command.get(option):
                    self.tree.leave((title, option), "not all disks are known: see above")
        self.storage |= storage_disks(selectors)
        if len(selectors) > 1:
            self.storage.setdefault("layout", "array")


def read_kickstart(text: str, facts: Facts | None = None) -> Imported:
    """The storage part of a kickstart's text."""
    return _Reader(parse(text), facts).read()
