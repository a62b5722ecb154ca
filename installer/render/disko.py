"""A layout as a disko configuration (disko, lib/types), so that nobody is bound to this installer."""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.answers.model import Redundancy
from installer.answers.sizes import MIB
from installer.plan.storage.array import Array
from installer.plan.storage.biosboot import BiosBoot
from installer.plan.storage.btrfs import Btrfs
from installer.plan.storage.disk import WholeDisk
from installer.plan.storage.element import Element, Layout
from installer.plan.storage.filesystem import Filesystem
from installer.plan.storage.found import FoundDevice, FoundFilesystem
from installer.plan.storage.gpt import Partition, PartitionType, Table
from installer.plan.storage.luks import Luks
from installer.plan.storage.lvm import Volume, VolumeGroup
from installer.plan.storage.swap import RandomKeySwap, Swap
from installer.plan.storage.vfat import EfiSystem
from installer.plan.storage.zfs import PROPERTIES, ZfsDataset, ZfsPool
from installer.render.nix import Commented, Nix, to_nix

LEVELS = {"raid1": 1, "raid10": 10, "raid5": 5, "raid6": 6}
MODES = {
    Redundancy.none: "",
    Redundancy.mirror: "mirror",
    Redundancy.raidz1: "raidz1",
    Redundancy.raidz2: "raidz2",
    Redundancy.raidz3: "raidz3",
}


@dataclass(frozen=True)
class Exported:
    """A configuration, and what it does not say."""

    text: str
    """Nix."""
    left: tuple[str, ...]
    """What disko has nothing for, or what is not part of an export."""


def disko(layout: Layout, hostname: str) -> Exported:
    """The layout as disko has it, from blank disks."""
    found = _Disko(layout)
    devices = found.devices()
    left = tuple(found.left())
    head = (
        f"The disks of {hostname}, for disko: sizes, names and UUIDs as the installer would have made them."
    )
    comment = "\n".join([head, *(f"Not in here: {each}" for each in left)])
    return Exported(to_nix(Commented(comment, {"disko": {"devices": devices}})), left)


class _Disko:
    """One layout at work."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def devices(self) -> dict[str, Nix]:
        """What stands at the top: disks, and what is joined from them."""
        kinds: dict[str, dict[str, Nix]] = {"disk": {}, "mdadm": {}, "lvm_vg": {}, "zpool": {}}
        for element in self.layout.elements:
            match element:
                case WholeDisk():
                    kinds["disk"][element.key] = self._disk(element)
                case Array():
                    kinds["mdadm"][element.name] = {
                        "type": "mdadm",
                        "level": LEVELS[element.level],
                        "metadata": "1.2",
                        "extraArgs": [
                            "--bitmap=internal",
                            f"--homehost={element.hostname}",
                            f"--uuid={element.uuid}",
                        ],
                        **self._content(element),
                    }
                case VolumeGroup():
                    volumes = self._volumes(element)
                    kinds["lvm_vg"][element.name] = {"type": "lvm_vg", "lvs": volumes}
                case ZfsPool():
                    kinds["zpool"][element.name] = self._pool(element)
                case _:
                    pass
        return {kind: each for kind, each in kinds.items() if each}

    def left(self) -> Iterator[str]:
        """What the layout has besides."""
        for element in self.layout.elements:
            match element:
                case Luks(key_file=str()):
                    yield f"the key file {element.key_file} of {element.key} has to be made before disko runs"
                case (
                    WholeDisk()
                    | Table()
                    | Partition()
                    | BiosBoot()
                    | Luks()
                    | Array()
                    | VolumeGroup()
                    | Volume()
                ):
                    pass
                case FoundDevice():
                    pass
                case FoundFilesystem():
                    places = ", ".join(mount.mountpoint for mount in element.mounts)
                    yield f"the {element.kind} at {places}, which is there already"
                case ZfsPool() | ZfsDataset() | Filesystem() | Swap() | RandomKeySwap():
                    pass
                case _:
                    yield element.words()

    def _disk(self, disk: WholeDisk) -> dict[str, Nix]:
        (table,) = (each for each in self.layout.above(disk.key) if isinstance(each, Table))
        partitions = [each for each in self.layout.above(table.key) if isinstance(each, Partition)]
        last = max(each.number for each in partitions)
        return {
            "type": "disk",
            "device": disk.disk.device,
            "content": {
                "type": "gpt",
                "partitions": {
                    each.label: self._partition(each, last=each.number == last) for each in partitions
                },
            },
        }

    def _partition(self, partition: Partition, *, last: bool) -> dict[str, Nix]:
        types = {PartitionType.esp: "EF00", PartitionType.bios_boot: "EF02"}
        (disk,) = self.layout.disks(partition.key)
        rest = last and disk.size - (partition.start + partition.size) < 3 * MIB
        return {
            "label": partition.label,
            "priority": partition.number,
            "type": types.get(partition.type, partition.type.value),
            "size": "100%" if rest else f"{partition.size // MIB}M",
            **self._content(partition),
        }

    def _content(self, below: Element) -> dict[str, Nix]:
        """What stands on a device, as its `content`; empty: nothing that disko makes."""
        for element in self.layout.above(below.key):
            content = self._one(element, below)
            if content:
                return {"content": content}
        return {}

    def _one(self, element: Element, below: Element) -> dict[str, Nix] | None:
        match element:
            case Luks():
                return self._luks(element)
            case Array():
                return {"type": "mdraid", "name": element.name}
            case VolumeGroup():
                return {"type": "lvm_pv", "vg": element.name}
            case ZfsPool():
                return {"type": "zfs", "pool": element.name}
            case Btrfs():
                # Disks are made in order of their names: the file system comes with the last of its devices.
                return self._btrfs(element) if below.key == (element.on, *element.more)[-1] else None
            case Filesystem():
                return _filesystem(element)
            case Swap():
                return {"type": "swap", "extraArgs": ["-U", element.uuid, "-L", element.label]}
            case RandomKeySwap():
                return {"type": "swap", "randomEncryption": True}
            case _:
                return None

    def _luks(self, luks: Luks) -> dict[str, Nix]:
        files: dict[str, Nix] = {"passwordFile": luks.passphrase.file} if luks.passphrase.file else {}
        own: dict[str, Nix] = (
            {"additionalKeyFiles": [luks.key_file], "initrdUnlock": False} if luks.key_file else {}
        )
        return {
            "type": "luks",
            "name": luks.key,
            "settings": {"allowDiscards": luks.allow_discards},
            "extraFormatArgs": ["--uuid", luks.uuid, "--label", luks.label, "--pbkdf", "argon2id"],
            **files,
            **own,
            **self._content(luks),
        }

    def _btrfs(self, filesystem: Btrfs) -> dict[str, Nix]:
        more = self.layout.devices((filesystem.on, *filesystem.more)[:-1])
        content: dict[str, Nix] = {
            "type": "btrfs",
            "extraArgs": ["-f", "-U", filesystem.uuid, "-L", filesystem.label, *filesystem.profile(), *more],
        }
        places: dict[str, Nix] = {}
        for mount in filesystem.mounts:
            name = next(
                (each.removeprefix("subvol=") for each in mount.options if each.startswith("subvol=")), None
            )
            options = [each for each in (*mount.options, *mount.on_host) if not each.startswith("subvol=")]
            entry: dict[str, Nix] = {"mountpoint": mount.mountpoint, "mountOptions": list(options)}
            if name is None:
                content |= entry
            else:
                places[name] = entry
        return content | ({"subvolumes": places} if places else {})

    def _volumes(self, group: VolumeGroup) -> dict[str, Nix]:
        kinds = {"thin-pool": "thin-pool", "thin": "thinlv"}
        found: dict[str, Nix] = {}
        for place, volume in enumerate(group.volumes(self.layout), start=1):
            pool = self.layout[volume.pool] if volume.pool else None
            found[volume.name] = {
                "priority": 1000 + place,
                "size": f"{volume.size // MIB}M" if volume.size is not None else _rest(volume),
                **({"lvm_type": kinds[volume.segment]} if volume.segment in kinds else {}),
                **({"pool": pool.name} if isinstance(pool, Volume) else {}),
                **self._content(volume),
            }
        return found

    def _pool(self, pool: ZfsPool) -> dict[str, Nix]:
        datasets: dict[str, Nix] = {}
        for each in pool.datasets(self.layout):
            (mount,) = each.mounts
            properties = dict(word.split("=", 1) for word in each.properties)
            options: dict[str, Nix] = {"mountpoint": "legacy", **properties}
            datasets[each.name] = {"type": "zfs_fs", "mountpoint": mount.mountpoint, "options": options}
        return {
            "type": "zpool",
            "mode": self._pairs(pool) if pool.redundancy is Redundancy.raid10 else MODES[pool.redundancy],
            "options": {"ashift": "12", "autotrim": "on"},
            "rootFsOptions": dict(word.split("=", 1) for word in PROPERTIES),
            "datasets": datasets,
        }

    def _pairs(self, pool: ZfsPool) -> Nix:
        """Mirrors side by side: each names its devices as disko calls them."""
        devices = [self._called(key) for key in pool.on]
        pairs = zip(devices[::2], devices[1::2], strict=True)
        mirrors: list[Nix] = [{"mode": "mirror", "members": [*pair]} for pair in pairs]
        return {"topology": {"type": "topology", "vdev": mirrors}}

    def _called(self, key: str) -> str:
        """A pool's device by the path that disko has for it."""
        element = self.layout[key]
        if isinstance(element, Luks):
            return f"/dev/mapper/{element.key}"
        assert isinstance(element, Partition)
        return f"/dev/disk/by-partlabel/{element.label}"


def _rest(volume: Volume) -> str:
    return "95%FREE" if volume.segment == "thin-pool" else "100%FREE"


def _filesystem(filesystem: Filesystem) -> dict[str, Nix]:
    match filesystem:
        case EfiSystem():
            arguments = ["-F", "32", "-i", filesystem.uuid.replace("-", ""), "-n", filesystem.label]
        case _ if filesystem.kind == "xfs":
            arguments = ["-m", f"uuid={filesystem.uuid}", "-L", filesystem.label]
        case _:
            arguments = ["-U", filesystem.uuid, "-L", filesystem.label]
    (mount,) = filesystem.mounts
    return {
        "type": "filesystem",
        "format": filesystem.kind,
        "extraArgs": list(arguments),
        "mountpoint": mount.mountpoint,
        "mountOptions": [*mount.options, *mount.on_host],
    }
