"""The storage part of a kickstart (pykickstart documentation, Kickstart commands)."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from installer.answers.foreign.disks import (
    CHANGES,
    linux_partitions,
    partition,
    selector,
    storage_disks,
    which,
)
from installer.answers.foreign.tree import Imported, Tree
from installer.answers.select import telling
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
    ("--size", "--grow-to", "--maxsize", "--fstype", "--ondisk", "--ondrive", "--onpart", "--usepart", "--asprimary", "--label", "--fsoptions",
     "--passphrase", "--vgname", "--name", "--device", "--level", "--drives", "--only-use", "--type", "--location", "--append",
     "--boot-drive", "--timeout", "--poolname", "--percent", "--luks-version", "--pbkdf", "--cipher", "--data", "--metadata",
     "--subvol", "--parent", "--spares", "--disklabel", "--list", "--driveorder", "--pesize", "--chunksize", "--metadatasize")
)  # fmt: skip
"""Options that take the next word where they have no `=`; `--subvol` takes none and stands alone."""
FLAGS = frozenset(("--subvol", "--asprimary"))
SIZED = re.compile(r"^[0-9]+$")
NOT_READ = "only the storage part is read"
INCLUDE = ("%include", "%ksappend")
COMPUTES = ("%pre", "%pre-install")
WRITES = re.compile(r"(?:>>?|\btee\b(?:\s+-a)?)\s*[\"']?(/[\w./-]+)")
DEEPEST = 5
"""Files that include each other."""
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


Include = Callable[[str], str | None]
"""The text of an included file by the name that the kickstart gives it; none: it is not there."""


@dataclass
class Parsed:
    """A kickstart's commands, and what is only known when it runs."""

    commands: list[dict[str, Any]] = field(default_factory=list)
    """Each as a table: `command`, its `arguments`, and its options; sections (`%packages`) as one each."""
    missing: list[str] = field(default_factory=list)
    """Included files that are not there."""
    written: set[str] = field(default_factory=set)
    """Files that its scripts write before it is read."""


def parse(text: str, include: Include = lambda _: None) -> Parsed:
    """A kickstart's commands, those of files that it includes in their place."""
    found = Parsed()
    _parse(text, include, found, 0)
    return found


def _parse(text: str, include: Include, found: Parsed, depth: int) -> None:
    section: str | None = None
    for raw in text.splitlines():
        line = raw.strip()
        if section is not None:
            if section in COMPUTES:
                found.written |= {*WRITES.findall(line)}
            section = None if line == "%end" else section
            continue
        if not line or line.startswith("#"):
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.split()
        if line.startswith("%") and words[0] not in INCLUDE:
            section = words[0]
            found.commands.append({"command": section})
            continue
        if words[0] in INCLUDE and len(words) > 1 and depth < DEEPEST:
            more = include(words[1])
            if more is not None:
                _parse(more, include, found, depth + 1)
                continue
            found.missing.append(words[1])
        found.commands.append(_command(words))


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

    def __init__(self, parsed: Parsed, facts: Facts | None) -> None:
        self.parsed, self.commands = parsed, parsed.commands
        commands = parsed.commands
        self.tree = Tree({self._title(place): each for place, each in enumerate(commands)})
        self.facts = facts
        self.storage: dict[str, Any] = {}
        self.boot: dict[str, Any] = {}
        self.drives: dict[str, tuple[str, ...]] = {}
        self.partitions: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.decided: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = []
        self.removes_linux: list[str] = []

    def _title(self, place: int) -> str:
        same = [
            each for each in self.commands[: place + 1] if each["command"] == self.commands[place]["command"]
        ]
        name = str(self.commands[place]["command"])
        return name if len(same) == 1 else f"{name} ({len(same)})"

    def read(self) -> Imported:
        for place, command in enumerate(self.commands):
            self._one(self._title(place), command)
        selectors = self._disks()
        self._linux(selectors)
        self._kept(selectors)
        answers: dict[str, Any] = {"storage": self.storage}
        if self.boot:
            answers["boot"] = self.boot
        return Imported(answers, self.tree.left())

    def _one(self, title: str, command: dict[str, Any]) -> None:
        name = command["command"]
        if name not in STORAGE:
            self.tree.leave((title,), self._unknown(command))
            return
        self.tree.take(title, "command")
        match name:
            case "zerombr" | "reqpart":
                self.tree.take(title)  # the installer makes tables and boot partitions in any case
            case "clearpart":
                self._clearpart(title, command)
            case "ignoredisk":
                self._use(title, "--only-use", command)
                self.tree.take(title, "--drives")  # what no selector names is not touched
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

    def _unknown(self, command: dict[str, Any]) -> str:
        """Why a command is not taken over, as exactly as can be known without running anything."""
        name = str(command["command"])
        written = sorted(self.parsed.written & {*self.parsed.missing})
        if name in COMPUTES:
            if written:
                return f"it is a script that writes {', '.join(written)} on the machine, and what comes of it is read from there"
            return "it is a script that runs on the machine; whether it writes more commands only running it tells"
        if name not in INCLUDE:
            return NOT_READ
        (file,) = (command.get("arguments") or [""])[:1]
        if file in self.parsed.written:
            return (
                f"%pre writes it on the machine, and until then disks, partitions and sizes that stand in it are not known: "
                f"run %pre there, put {file.rpartition('/')[2]} beside this file, and import again"
            )
        if "://" in file:
            return "nothing is fetched: put it beside this file by its last name, and import again"
        return "there is no such file beside this one: put it there, and import again"

    def _use(self, title: str, option: str, command: dict[str, Any]) -> None:
        for name in filter(None, str(command.get(option, "")).split(",")):
            self.drives.setdefault(name, (title, option))

    def _clearpart(self, title: str, command: dict[str, Any]) -> None:
        for option in ("--all", "--initlabel", "--none"):
            self.tree.take(title, option)
        if command.get("--linux") or command.get("--none") or command.get("--list"):
            self.storage["existing"] = "keep"
        for name in filter(None, str(command.get("--list", "")).split(",")):
            self._decide(title, "--list", name, {"action": "delete"})
        if command.get("--linux"):
            self.removes_linux.append(title)
        self.tree.leave((title, "--disklabel"), "tables are GPT")
        self._use(title, "--drives", command)

    def _decide(self, title: str, option: str, name: str, fate: dict[str, Any]) -> None:
        """What becomes of a partition that is there."""
        found = partition(name, self.facts)
        if isinstance(found, str):
            self.tree.leave((title, option), f"{name}: {found}")
            return
        self.storage["existing"] = "keep"
        if (title, option) not in self.tree.reasons:
            self.tree.take(title, option)
        self.partitions.append((found[0], found[1] | fate))
        self.decided.append((title, option, *self.partitions[-1]))

    def _linux(self, selectors: list[dict[str, Any]]) -> None:
        """`clearpart --linux`: what Linux has on the system's disks goes."""
        for title in self.removes_linux:
            if self.facts is None:
                why = f"which partitions are Linux' only the machine tells: {CHANGES.partition('; ')[2]}"
                self.tree.leave((title, "--linux"), why)
                continue
            decided = [each for _, each in self.partitions]
            for disk in self.facts.disks:
                chosen = dict([telling(disk, self.facts)])
                if chosen not in selectors:
                    continue
                self.tree.take(title, "--linux")
                for each in linux_partitions(disk):
                    if not any(which(each).items() <= other.items() for other in decided):
                        self.partitions.append((chosen, which(each) | {"action": "delete"}))
            if (title, "--linux") not in self.tree.taken:
                self.tree.leave(
                    (title, "--linux"), "no disk of the system is known: name it with --drives or --ondisk"
                )

    def _kept(self, selectors: list[dict[str, Any]]) -> None:
        """What becomes of partitions, and which disks the system is on where only they tell."""
        if not self.partitions:
            return
        if not selectors:
            own = [disk for disk, each in self.partitions if each.get("mount") == "/" or each.get("action")]
            selectors = [each for place, each in enumerate(own) if each not in own[:place]]
            self.storage |= storage_disks(selectors)
        alone = len(selectors) == 1
        for title, option, disk, each in [*self.decided]:
            if disk not in selectors and each.get("action"):
                self.tree.leave(
                    (title, option), "nothing is deleted or formatted on a disk that is not the system's"
                )
                self.partitions.remove((disk, each))
        self.storage["partitions"] = [
            each if alone and disk in selectors else {"disk": disk} | each for disk, each in self.partitions
        ]
        if all(disk not in selectors for disk, _ in self.partitions) and not self._says_keep():
            self.storage.pop("existing", None)

    def _says_keep(self) -> bool:
        options = ("--none", "--linux", "--list")
        return any(
            each.get(one) for each in self.commands for one in options if each["command"] == "clearpart"
        )

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
        if command.get("--onpart") or command.get("--usepart"):
            self._onpart(title, command, place)
        elif place in ("/boot", "/boot/efi", "biosboot") or command.get("--fstype") in (
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
        elif command.get("--noformat"):
            self.tree.leave((title,), "which partition it is nothing says: --onpart does")
        else:
            self.tree.leave(
                (title,), "file systems beside the root are folders of it, subvolumes, or [storage.pool]"
            )
        self._encryption(title, command)

    def _onpart(self, title: str, command: dict[str, Any], place: str) -> None:
        """A partition that is there already."""
        option = "--onpart" if command.get("--onpart") else "--usepart"
        name, stays = str(command[option]), bool(command.get("--noformat"))
        if place in ("/boot/efi", "/efi") and (stays or command.get("--fstype") == "efi"):
            self.storage |= {"existing": "keep", "esp": "share"}
            for each in ("arguments", option, "--noformat", "--fstype"):
                self.tree.take(title, each)
            if not stays:
                self.tree.leave(
                    (title, "--fstype"), "what is on an EFI system partition stays: it is shared"
                )
            return
        if not place.startswith("/") or (place == "/" and stays) or place in ("/boot", "/boot/efi", "/efi"):
            why = (
                "a root is never put over what stays"
                if place == "/"
                else "the installer makes boot partitions, swap and members of arrays and groups by itself, in free space"
            )
            self.tree.leave((title,), f"{why}; to give its place up, delete it in storage.partitions")
            return
        fate = {"mount": place} if stays else {"action": "format", "mount": place}
        self._decide(title, option, name, fate)
        if (title, option) not in self.tree.taken:
            self.tree.leave((title,), "which partition it is must be known first")
            return
        self.tree.take(title, "arguments")
        self.tree.take(title, "--noformat")
        if place == "/":
            if fstype := command.get("--fstype"):
                self._kind(title, str(fstype))
        elif stays:
            self.tree.take(title, "--fstype")  # it is mounted as what it is
        else:
            self.tree.leave((title, "--fstype"), "it is ext4, or xfs where the root is")

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

    def _disks(self) -> list[dict[str, Any]]:
        selectors: list[dict[str, Any]] = []
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
        return selectors


def read_kickstart(text: str, facts: Facts | None = None, include: Include = lambda _: None) -> Imported:
    """The storage part of a kickstart's text.

    Args:
        text: The kickstart.
        facts: The machine that it is for, which tells what kernel names stand for there.
        include: Finds what `%include` and `%ksappend` name. Nothing is run and nothing fetched.
    """
    return _Reader(parse(text, include), facts).read()
