"""A disko configuration, as the JSON that Nix makes of it (disko, docs/reference; lib/types)."""

import re
from typing import Any

from installer.answers.foreign.disko_pool import (
    FIXED,
    LEVELS,
    OTHER,
    apart,
    guests_dataset,
    redundancy,
    staying,
)
from installer.answers.foreign.disks import for_guests, selector, storage_disks
from installer.answers.foreign.tree import Imported, Path, Tree
from installer.facts import Facts

SIZE = re.compile(r"^([0-9]+)([KMGTP])$")
MEMBERS = {"lvm_pv": ("vg", "lvm_vg"), "mdraid": ("name", "mdadm"), "zfs": ("pool", "zpool")}
"""Kind of content to the field that names what it is part of, and where that stands."""
ROOTS = ("ext4", "xfs", "btrfs")
OURS = "the installer cuts, names and numbers partitions by itself"
ONE_ROOT = "the root takes the rest of the disks; further file systems are folders of it, subvolumes, or [storage.pool]"


class _Reader:
    """One configuration at work."""

    def __init__(self, value: Any, facts: Facts | None) -> None:
        self.tree = Tree(value)
        self.facts = facts
        self.base: Path = ()
        for prefix in (("disko", "devices"), ("devices",), ("config", "disko", "devices")):
            if isinstance(self.tree.look(*prefix), dict):
                self.base = prefix
                break
        self.storage: dict[str, Any] = {}
        self.boot: dict[str, Any] = {}
        self.root_disks: list[str] = []
        self.redundancy: str | None = None
        self.place: str | None = None

    def read(self) -> Imported:
        for name, disk in (self.tree.look(*self.base, "disk") or {}).items():
            self._disk((*self.base, "disk", name), name, disk)
        for kind in ("mdadm", "lvm_vg", "zpool"):
            for name in self.tree.look(*self.base, kind) or {}:
                self._group((*self.base, kind, name), kind)
        self._disks()
        pool = apart(self.tree, self.base, self.root_disks, self.facts)
        if pool is not None:
            self.storage["pool"] = pool.pool
            self.place = pool.path or self.place
        answers: dict[str, Any] = {"storage": self.storage}
        if self.boot:
            answers["boot"] = self.boot
        if self.place:
            answers["first_run"] = {"pool": self.place}
        return Imported(answers, self.tree.left())

    def _disks(self) -> None:
        """Which disks the root is on, and how they are put together."""
        selectors = []
        for name in self.root_disks:
            path = (*self.base, "disk", name, "device")
            found = selector(str(self.tree.look(*path) or ""), self.facts)
            if isinstance(found, str):
                self.tree.leave(path, found)
            else:
                self.tree.take(*path)
                selectors.append(found)
        self.storage |= storage_disks(selectors)
        if len(self.root_disks) > 1:
            mirror = self.redundancy in (None, "mirror")
            self.storage["layout"] = "mirror" if mirror else "array"
            if self.redundancy and not mirror:
                self.storage["redundancy"] = self.redundancy

    def _disk(self, path: Path, name: str, disk: Any) -> None:
        self.tree.take(*path, "type")
        content = disk.get("content") if isinstance(disk, dict) else None
        if not isinstance(content, dict):
            return
        if disk.get("destroy") is False:
            if not self._holds_root(content):
                entries = staying(self.tree, path, name, disk, self.facts)
                if entries:
                    self.storage.setdefault("partitions", []).extend(entries)
                return
            self.tree.take(*path, "destroy")
            self.storage["existing"] = "keep"
        else:
            self.tree.take(*path, "destroy")
        if content.get("type") != "gpt" and not self._holds_root(content):
            self.tree.leave((*path, "content"), OTHER)
            return
        if content.get("type") != "gpt":
            self.tree.leave((*path, "content"), "each disk of the system gets a GPT")
            return
        self.tree.take(*path, "content", "type")
        for label in content.get("partitions", {}):
            self._partition((*path, "content", "partitions", label), name)

    def _partition(self, path: Path, disk: str) -> None:
        partition = self.tree.look(*path)
        if not isinstance(partition, dict):
            return
        for field in ("label", "name", "priority", "start", "end", "alignment", "uuid"):
            self.tree.leave((*path, field), OURS)
        kind, content = partition.get("type"), partition.get("content")
        if kind == "EF02":  # GRUB's place under BIOS, which the installer makes where it is needed
            self.tree.take(*path)
            return
        if (
            kind == "EF00"
            and isinstance(content, dict)
            and content.get("mountpoint") in ("/boot", "/efi", "/boot/efi")
        ):
            self._esp(path)
            return
        self.tree.take(*path, "type")
        if isinstance(content, dict):
            self._content((*path, "content"), content, disk, partition)
        if partition.get("size") == "100%":
            self.tree.take(*path, "size")
        elif (*path, "size") not in self.tree.taken:
            self.tree.leave((*path, "size"), ONE_ROOT)

    def _esp(self, path: Path) -> None:
        for field in ("type",):
            self.tree.take(*path, field)
        for field in ("type", "format"):
            self.tree.take(*path, "content", field)
        place = self.tree.look(*path, "content", "mountpoint")
        if place == "/boot":
            self.tree.take(*path, "content", "mountpoint")
        else:
            self.tree.leave((*path, "content", "mountpoint"), "it is mounted at /boot")
        self.tree.leave((*path, "content", "mountOptions"), "only root reads it (fmask=0077, dmask=0077)")
        size = str(self.tree.look(*path, "size") or "")
        match = SIZE.match(size)
        if match and int(match[1]) * {"K": 1 / 1024, "M": 1, "G": 1024}.get(match[2], 1 << 20) >= 1024:
            self.tree.take(*path, "size")
            self.boot["esp_size"] = f"{match[1]}{match[2]}iB"
        else:
            self.tree.leave(
                (*path, "size"),
                "less than 1 GiB runs full of kernels; without boot.esp_size it gets 2 GiB or more",
            )

    def _content(self, path: Path, content: Any, disk: str, partition: Any = None) -> None:
        """What is on a partition, a LUKS device, an array or a volume."""
        if not isinstance(content, dict):
            return
        match content.get("type"):
            case "filesystem" | "btrfs":
                self._filesystem(path, content, disk)
            case "luks":
                self._luks(path, content, disk, partition)
            case "swap":
                self._swap(path, content, partition)
            case "lvm_pv" | "mdraid" | "zfs":
                field, kind = MEMBERS[content["type"]]
                if not self._holds_root(self.tree.look(*self.base, kind, str(content.get(field)))):
                    self.tree.leave(path, OTHER)
                    return
                self.tree.take(*path, "type")
                self.tree.take(*path, field)
                if disk:
                    self.root_disks.append(disk)
            case kind:
                self.tree.leave(path, f"{kind} is nothing that answers can ask for")

    def _holds_root(self, value: Any) -> bool:
        """Whether the root is somewhere in or on it."""
        if isinstance(value, list):
            return any(map(self._holds_root, value))
        if not isinstance(value, dict):
            return False
        if value.get("mountpoint") == "/":
            return True
        if value.get("type") in MEMBERS:
            field, kind = MEMBERS[value["type"]]
            return self._holds_root(self.tree.look(*self.base, kind, str(value.get(field))))
        return any(map(self._holds_root, value.values()))

    def _filesystem(self, path: Path, content: dict[str, Any], disk: str) -> None:
        kind = "btrfs" if content["type"] == "btrfs" else content.get("format")
        subvolumes = content.get("subvolumes") or {}
        places = {content.get("mountpoint"), *(each.get("mountpoint") for each in subvolumes.values())}
        if "/" not in places:
            self.tree.leave(path, ONE_ROOT)
            return
        if kind not in ROOTS:
            self.tree.leave((*path, "format"), f"a root is {', '.join(ROOTS)} or ZFS")
            return
        for field in ("type", "format", "mountpoint"):
            self.tree.take(*path, field)
        self.storage["filesystem"] = kind
        if disk:
            self.root_disks.append(disk)
        self._more_devices(path, content)
        if content.get("mountOptions"):
            self._options((*path, "mountOptions"))
        self._subvolumes(path, subvolumes)
        self.tree.leave((*path, "extraArgs"), FIXED)

    def _more_devices(self, path: Path, content: dict[str, Any]) -> None:
        """Further devices of a btrfs, and how it spreads over them, which disko has among mkfs's arguments."""
        words = [str(each) for each in content.get("extraArgs") or []]
        joined = " ".join(words)
        if match := re.search(r"(?:-d|--data)[ =]?(single|raid0|raid1c[34]|raid10|raid1)\b", joined):
            name = match[1]
            self.redundancy = (
                "none"
                if name in ("single", "raid0")
                else "mirror"
                if name.startswith("raid1c") or name == "raid1"
                else "raid10"
            )
        devices = [word for word in words if word.startswith("/dev/")]
        for place, word in enumerate(words):
            if word.startswith("/dev/"):
                owner = self._owner(word)
                if owner:
                    self.root_disks.append(owner)
                    self.tree.take(*path, "extraArgs", place)
        if devices:
            for place, word in enumerate(words):
                if word in ("-f", "-d", "-m", "--data", "--metadata") or re.match(
                    r"^(-[dm] ?)?(single|raid)", word
                ):
                    self.tree.take(*path, "extraArgs", place)

    def _owner(self, device: str) -> str | None:
        """The disk whose partition a device path names."""
        for name, disk in (self.tree.look(*self.base, "disk") or {}).items():
            if isinstance(disk, dict) and str(disk.get("device", "\0")) in device:
                return str(name)
            partitions = (disk.get("content") or {}).get("partitions") or {}
            if any(f"disk-{name}-{each}" in device for each in partitions):
                return str(name)
            opened = (each.get("content") or {} for each in partitions.values() if isinstance(each, dict))
            if any(
                device == f"/dev/mapper/{each.get('name')}" for each in opened if each.get("type") == "luks"
            ):
                return str(name)
        return None

    def _options(self, path: Path) -> None:
        options = self.tree.take(*path)
        if isinstance(options, list) and options != ["defaults"]:
            self.storage["mount_options"] = options

    def _subvolumes(self, path: Path, subvolumes: dict[str, Any]) -> None:
        found = {}
        for name, each in subvolumes.items():
            here = (*path, "subvolumes", name)
            place = each.get("mountpoint")
            if place is None or each.get("swap"):
                why = (
                    'a swap file is storage.swap.kind = "file"'
                    if each.get("swap")
                    else "it is mounted nowhere"
                )
                self.tree.leave(here, why)
                continue
            self.tree.take(*here, "mountpoint")
            if each.get("type"):
                self.tree.take(*here, "type")
            found[name.strip("/")] = place
            options = each.get("mountOptions") or []
            if "nodatacow" in options and for_guests(place):
                self.storage["pool"] = {"kind": "dir", "nodatacow": True}
                self.place = place
                self.tree.take(*here, "mountOptions", options.index("nodatacow"))
            if place == "/" and each.get("mountOptions"):
                self._options((*here, "mountOptions"))
            elif each.get("mountOptions") == self.storage.get("mount_options"):
                self.tree.take(*here, "mountOptions")
            else:
                self.tree.leave(
                    (*here, "mountOptions"), "all subvolumes are mounted with storage.mount_options"
                )
        if found:
            self.storage["subvolumes"] = found

    def _luks(self, path: Path, content: dict[str, Any], disk: str, partition: Any) -> None:
        inner = content.get("content")
        if isinstance(inner, dict) and inner.get("type") == "swap":
            self.tree.take(*path, "type")
            self._content((*path, "content"), inner, disk, partition)
            self.tree.leave((*path, "name"), "swap on an encrypted host has a new random key at every boot")
            return
        if not self._holds_root(inner):
            self.tree.leave(path, OTHER)
            return
        self.tree.take(*path, "type")
        self.tree.leave((*path, "name"), FIXED)
        encryption: dict[str, Any] = self.storage.setdefault("encryption", {"enable": True})
        for field in ("passwordFile", "keyFile"):
            if file := content.get(field):
                self.tree.take(*path, field)
                encryption["passphrase"] = {"file": file}
        encryption.setdefault("passphrase", {"prompt": True})
        self.tree.take(*path, "askPassword")
        if isinstance(discards := self.tree.look(*path, "settings", "allowDiscards"), bool):
            self.tree.take(*path, "settings", "allowDiscards")
            encryption["allow_discards"] = discards
        self.tree.leave(
            (*path, "settings", "keyFile"), "a person unlocks the root; a key file on it opens data disks"
        )
        self.tree.leave((*path, "additionalKeyFiles"), "one passphrase and a recovery key open the disks")
        self.tree.leave((*path, "extraFormatArgs"), FIXED)
        self._content((*path, "content"), inner, disk, partition)

    def _swap(self, path: Path, content: dict[str, Any], partition: Any) -> None:
        self.tree.take(*path, "type")
        if content.get("randomEncryption"):
            self.tree.take(*path, "randomEncryption")
        swap: dict[str, Any] = {"kind": "partition"}
        if isinstance(partition, dict) and (match := SIZE.match(str(partition.get("size", "")))):
            swap["size"] = f"{match[1]}{match[2]}iB"
            self.tree.take(*path[:-1], "size") if path[-1] == "content" else None
        self.storage["swap"] = swap

    def _group(self, path: Path, kind: str) -> None:
        group = self.tree.look(*path)
        if not isinstance(group, dict):
            return
        if not self._holds_root(group):
            self.tree.leave(path, OTHER)
            return
        self.tree.take(*path, "type")
        match kind:
            case "mdadm":
                self._array(path, group)
            case "lvm_vg":
                self._volumes(path, group)
            case _:
                self._zpool(path, group)

    def _array(self, path: Path, group: dict[str, Any]) -> None:
        level = group.get("level", 1)
        if level in LEVELS:
            self.tree.take(*path, "level")
            self.redundancy = LEVELS[level]
        else:
            self.tree.leave((*path, "level"), f"md joins as {', '.join(map(str, LEVELS))}")
        self.tree.leave((*path, "metadata"), "1.2, on partitions that no firmware reads")
        content = group.get("content")
        if isinstance(content, dict) and content.get("type") == "gpt":
            self.tree.leave((*path, "content"), "an array carries one file system or volume group, no table")
        else:
            self._content((*path, "content"), content, "")

    def _volumes(self, path: Path, group: dict[str, Any]) -> None:
        self.storage["volumes"] = "lvm"
        for name, each in (group.get("lvs") or {}).items():
            here = (*path, "lvs", name)
            if not isinstance(each, dict):
                continue
            if each.get("lvm_type") == "thin-pool":
                self.tree.take(*here)
                self.storage["pool"] = {"kind": "lvm-thin"}
                continue
            content = each.get("content") or {}
            self._content((*here, "content"), content, "", each)
            if content.get("mountpoint") == "/":
                if each.get("lvm_type") == "thinlv":
                    self.tree.take(*here, "lvm_type")
                    self.tree.take(*here, "pool")
                    self.storage["volumes"] = "lvm-thin"
                    self.storage.pop("pool", None)
                if match := SIZE.match(str(each.get("size", ""))):
                    self.storage["root_size"] = f"{match[1]}{match[2]}iB"
                    self.tree.take(*here, "size")
                elif str(each.get("size", "")).startswith("100%"):
                    self.tree.take(*here, "size")

    def _zpool(self, path: Path, group: dict[str, Any]) -> None:
        datasets = group.get("datasets") or {}
        places = {group.get("mountpoint"), *(each.get("mountpoint") for each in datasets.values())}
        root = "/" in places
        if root:
            self.redundancy = redundancy(self.tree, path, group, len(self.root_disks))
        self.storage["filesystem"] = "zfs"
        for field in ("options", "rootFsOptions"):
            self.tree.leave((*path, field), FIXED)
        for each, dataset in datasets.items():
            if dataset.get("mountpoint") in ("/", "/nix"):
                for field in ("type", "mountpoint"):
                    self.tree.take(*path, "datasets", each, field)
                self.tree.leave((*path, "datasets", each, "options"), FIXED)
            elif for_guests(str(dataset.get("mountpoint") or "")) and "pool" not in self.storage:
                self.place = str(dataset["mountpoint"])
                self.storage["pool"] = {"kind": "zfs"} | guests_dataset(self.tree, (*path, "datasets", each))
            else:
                self.tree.leave((*path, "datasets", each), "the root's datasets are / and /nix")


def read_disko(value: Any, facts: Facts | None = None) -> Imported:
    """A disko configuration as JSON: the whole, or its `disko.devices`.

    Args:
        value: As `json.loads` gives it.
        facts: The machine that it is for, which tells what kernel names stand for there.
    """
    return _Reader(value, facts).read()
