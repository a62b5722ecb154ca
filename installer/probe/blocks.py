"""Block devices as the kernel stacks them, with their signatures and mounts."""

from functools import cached_property

from installer.probe.draft import Filesystem
from installer.probe.mounts import MEDIUM_POINTS, MEDIUM_TYPES, SWAP, Mount, is_live, mounts, swaps
from installer.probe.root import Root, number

CLASS = "/sys/class/block"
KSTAT = "/proc/spl/kstat/zfs"


class Block:
    """A disk, partition, mapped device, array or loop."""

    def __init__(self, root: Root, name: str) -> None:
        self.root = root
        self.name = name
        self.path = root.real(f"{CLASS}/{name}") or f"{CLASS}/{name}"

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """Names in its folder."""
        return self.root.names(self.path)

    @cached_property
    def device(self) -> str:
        """major:minor."""
        return self.root.text(f"{self.path}/dev") or ""

    @cached_property
    def udev(self) -> dict[str, str]:
        """udev's properties; where udev is not running, what lsblk finds on it."""
        return dict(self.root.udev(self.path))

    @cached_property
    def partition(self) -> int | None:
        """Partition number."""
        return self.root.number(f"{self.path}/partition") if "partition" in self.entries else None

    @cached_property
    def parent(self) -> str:
        """The device whose partition this is."""
        return self.path.split("/")[-2]

    @cached_property
    def partitions(self) -> list[str]:
        """Its partitions, in order of number."""
        children = [name for name in self.entries if name.startswith(self.name) and name != self.name]
        numbered = [(self.root.number(f"{self.path}/{name}/partition"), name) for name in children]
        return [name for _, name in sorted((place, name) for place, name in numbered if place is not None)]

    @cached_property
    def holders(self) -> tuple[str, ...]:
        """What the kernel has on top."""
        return self.root.names(f"{self.path}/holders") if "holders" in self.entries else ()

    @cached_property
    def slaves(self) -> tuple[str, ...]:
        """What it stands on."""
        return self.root.names(f"{self.path}/slaves") if "slaves" in self.entries else ()

    @cached_property
    def mapped(self) -> tuple[str, str] | None:
        """Name and UUID in device-mapper."""
        if "dm" not in self.entries:
            return None
        return self.root.text(f"{self.path}/dm/name") or self.name, self.root.text(
            f"{self.path}/dm/uuid"
        ) or ""


class Blocks:
    """All block devices of a machine."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.all = {name: Block(root, name) for name in root.names(CLASS)}
        self.mounts = mounts(root)
        self.live = is_live(self.mounts)
        self._points: dict[str, list[str]] = {}
        self._kinds: dict[str, str] = {}
        for mount in self.mounts:
            if (block := self.of_mount(mount)) is not None:
                self._points.setdefault(block.name, []).append(mount.point)
                self._kinds.setdefault(block.name, mount.kind)
        for path in swaps(root):
            if (block := self._of_file(path)) is not None:
                self._points.setdefault(block.name, []).append(SWAP)
                self._kinds.setdefault(block.name, "swap")

    @cached_property
    def _by_device(self) -> dict[str, Block]:
        return {block.device: block for block in self.all.values() if block.device}

    @cached_property
    def _by_mapped_name(self) -> dict[str, Block]:
        return {block.mapped[0]: block for block in self.all.values() if block.mapped}

    def of_mount(self, mount: Mount) -> Block | None:
        """The device of a mount; btrfs shows a number of its own, so the source is looked at as well."""
        if not mount.device.startswith("0:") and (block := self._by_device.get(mount.device)) is not None:
            return block
        return self._of_file(mount.source)

    def _of_file(self, path: str) -> Block | None:
        if not path.startswith("/dev/"):
            return None
        if path.startswith("/dev/mapper/"):
            return self._by_mapped_name.get(path.removeprefix("/dev/mapper/"))
        return self.all.get(path.removeprefix("/dev/").replace("/", "!"))

    def points(self, block: Block) -> tuple[str, ...]:
        """Where a device is mounted, or `[SWAP]`."""
        return tuple(sorted(set(self._points.get(block.name, ()))))

    def pool_points(self, pool: str) -> tuple[str, ...]:
        """Where datasets of a ZFS pool are mounted."""
        return tuple(
            sorted(
                {
                    mount.point
                    for mount in self.mounts
                    if mount.kind == "zfs" and mount.source.split("/")[0] == pool
                }
            )
        )

    def pool_is_up(self, pool: str) -> bool:
        """Whether a ZFS pool is imported, mounted or not: it has a folder of statistics then (zfs, spa_stats.c)."""
        return bool(pool) and self.root.text(f"{KSTAT}/{pool}/state") is not None

    def signature(self, block: Block) -> Filesystem | None:
        """What blkid finds on a device.

        Without udev's word a mounted device is what the kernel mounts, and an idle one is asked with lsblk.
        """
        found = self.properties(block)
        points = self.points(block)
        kind = found.get("ID_FS_TYPE") or self._kinds.get(block.name)
        if kind is None:
            return None
        return Filesystem(
            kind=kind,
            uuid=decoded(found.get("ID_FS_UUID_ENC") or found.get("ID_FS_UUID")),
            label=decoded(found.get("ID_FS_LABEL_ENC") or found.get("ID_FS_LABEL")),
            mountpoints=points,
        )

    def properties(self, block: Block) -> dict[str, str]:
        """udev's properties, or lsblk's finding on an idle device that udev does not know."""
        idle = not block.udev and not self.points(block) and not block.holders
        if idle and (answer := self.root.ask("signature", block.name)) is not None:
            pairs = (line.partition("=") for line in answer.splitlines())
            block.udev.update({name: value for name, _, value in pairs})
        return block.udev

    def disks_under(self, name: str) -> frozenset[str]:
        """Whole devices that a device finally stands on."""
        found: set[str] = set()
        seen: set[str] = set()
        pending = [name]
        while pending:
            block = self.all.get(pending.pop())
            if block is None or block.name in seen:
                continue
            seen.add(block.name)
            if block.partition is not None:
                pending.append(block.parent)
            elif block.slaves:
                pending += block.slaves
            else:
                found.add(block.name)
        return frozenset(found)

    @cached_property
    def groups(self) -> dict[str, tuple[str, str]]:
        """UUID and name of the volume group of each LVM physical volume, where more than one disk has any."""
        found = ((block, self.signature(block)) for block in self.all.values())
        members = [block for block, signature in found if signature and signature.kind == "LVM2_member"]
        if len({disk for block in members for disk in self.disks_under(block.name)}) < 2:
            return {}
        asked = {block.name: self.root.ask("volume group", block.name) or "" for block in members}
        return {
            name: (uuid, group)
            for name, text in asked.items()
            for uuid, _, group in [text.partition(" ")]
            if uuid
        }

    @cached_property
    def _by_group(self) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for name, (uuid, _) in self.groups.items():
            found[uuid] = found.get(uuid, frozenset()) | self.disks_under(name)
        return found

    def disks_of_group(self, block: Block) -> frozenset[str]:
        """Whole devices of the volume group that a physical volume is of."""
        uuid, _ = self.groups.get(block.name, ("", ""))
        return self._by_group.get(uuid, frozenset())

    @cached_property
    def _by_signature(self) -> dict[tuple[str, str], frozenset[str]]:
        found: dict[tuple[str, str], frozenset[str]] = {}
        for block in self.all.values():
            if (signature := self.signature(block)) and signature.uuid:
                key = (signature.kind, signature.uuid)
                found[key] = found.get(key, frozenset()) | self.disks_under(block.name)
        return found

    def disks_sharing(self, signature: Filesystem) -> frozenset[str]:
        """Whole devices that carry a signature of the same kind and UUID."""
        return self._by_signature.get((signature.kind, signature.uuid or ""), frozenset())

    @cached_property
    def medium(self) -> frozenset[str]:
        """Whole devices that the running live system comes from.

        From its mounts: the image, through loops to the file system they lie on, through device-mapper (Ventoy)
        to the stick. A live system that hides these mounts has a whole disk that is an ISO image.
        """
        if not self.live:
            return frozenset()
        found: set[str] = set()
        for mount in self.mounts:
            if mount.kind in MEDIUM_TYPES or mount.point in MEDIUM_POINTS:
                found |= self._carriers(mount)
        if not found:
            whole = (block for block in self.all.values() if block.partition is None and not block.slaves)
            found = {block.name for block in whole if self.properties(block).get("ID_FS_TYPE") == "iso9660"}
        return frozenset(found)

    def _carriers(self, mount: Mount) -> frozenset[str]:
        found: set[str] = set()
        seen: set[str] = set()
        pending = [self.of_mount(mount)]
        while pending:
            block = pending.pop()
            if block is None or block.name in seen:
                continue
            seen.add(block.name)
            backing = self.root.text(f"{block.path}/loop/backing_file") if "loop" in block.entries else None
            if backing is None:
                found |= self.disks_under(block.name)
                continue
            above = [other for other in self.mounts if backing.startswith(other.point.rstrip("/") + "/")]
            if above:
                pending.append(self.of_mount(max(above, key=lambda other: len(other.point))))
        return frozenset(found)


def decoded(text: str | None) -> str | None:
    r"""udev writes characters that it does not trust as `\xNN` (udev(7), ENV encoding); None for nothing."""
    if not text:
        return None
    if "\\x" not in text:
        return text.strip() or None
    result = bytearray()
    first, *escaped = text.split("\\x")
    result += first.encode()
    for part in escaped:
        code = number(part[:2], 16)
        result += ("\\x" + part).encode() if code is None else bytes((code,)) + part[2:].encode()
    return result.decode("utf-8", "replace").strip() or None
