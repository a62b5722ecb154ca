"""What a disko configuration has for VMs beside the root: a pool on disks of its own, or data that stays."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from installer.answers.foreign.disks import for_guests, selector
from installer.answers.foreign.tree import Path, Tree
from installer.answers.sizes import KIB, MIB
from installer.facts import Facts

MODES = {
    "": "none",
    "mirror": "mirror",
    "raidz": "raidz1",
    "raidz1": "raidz1",
    "raidz2": "raidz2",
    "raidz3": "raidz3",
}
LEVELS = {1: "mirror", 5: "raid5", 6: "raid6", 10: "raid10"}
FIXED = "the installer chooses it"
SHARES = "a pool for VMs has disks of its own, or is part of the root's"
OTHER = (
    "no root is on it, and it is not called what VMs lie in: storage for VMs apart from the root is [storage.pool], data "
    "that is there already [[storage.partitions]] with `disk` and `mount`"
)
ONE = "there is one pool apart from the root"
LINEAR = (
    "LVM over several disks loses all with one of them; put md below it, which the installer does by itself"
)
RECORDS = {"K": KIB, "M": MIB}


@dataclass(frozen=True)
class Found:
    """A pool, as answers have it."""

    pool: dict[str, Any]
    """`[storage.pool]`."""
    path: str | None
    """`first_run.pool`; none: the file does not say."""


@dataclass(frozen=True)
class Candidate:
    """Something without a root that is on disks of its own."""

    path: Path
    """Where it stands in the file."""
    value: dict[str, Any]
    """What stands there."""
    disks: tuple[str, ...]
    """Names of the disks that it has for itself; empty: it shares them."""
    array: Path | None = None
    """The md array that joins them."""


def apart(tree: Tree, base: Path, roots: list[str], facts: Facts | None) -> Found | None:
    """The pool for VMs on disks of its own, taken over; of everything else without a root the reason why not.

    Args:
        tree: The file.
        base: Where disko's devices are in it.
        roots: Names of the disks that the root is on.
        facts: The machine that it is for.
    """
    found: Found | None = None
    for each in _candidates(tree, base, {*roots}):
        name = str(each.path[-1]) if each.path[len(base)] != "disk" else ""
        places = [place for place in _places(each.value) if for_guests(place)]
        if not places and not for_guests(name):
            _left(tree, each, OTHER)
        elif not each.disks:
            _left(tree, each, SHARES)
        elif found:
            _left(tree, each, ONE)
        else:
            found = _taken(tree, base, each, places[0] if places else None, facts)
    return found


def _candidates(tree: Tree, base: Path, roots: set[str]) -> Iterator[Candidate]:
    """Pools, groups and arrays without a root, then disks with one file system."""
    disks: dict[str, Any] = tree.look(*base, "disk") or {}
    own = {name: found for name, disk in disks.items() if name not in roots and (found := _alone(disk))}
    arrays: dict[str, Any] = tree.look(*base, "mdadm") or {}

    def members(kind: str, field: str, name: str) -> tuple[str, ...]:
        every = [each for each in disks if _names(disks[each], kind, field, name)]
        return tuple(every) if all(each in own for each in every) else ()

    for name, pool in (tree.look(*base, "zpool") or {}).items():
        if isinstance(pool, dict) and not _has_root(pool):
            yield Candidate((*base, "zpool", name), pool, members("zfs", "pool", name))
    for name, group in (tree.look(*base, "lvm_vg") or {}).items():
        if not isinstance(group, dict) or _has_root(group):
            continue
        array = next((key for key, each in arrays.items() if _names(each, "lvm_pv", "vg", name)), None)
        if array is not None:
            disks_of = members("mdraid", "name", array)
            yield Candidate((*base, "lvm_vg", name), group, disks_of, (*base, "mdadm", array))
        else:
            yield Candidate((*base, "lvm_vg", name), group, members("lvm_pv", "vg", name))
    for name, array in arrays.items():
        content = array.get("content") if isinstance(array, dict) else None
        if (
            isinstance(content, dict)
            and content.get("type") in ("filesystem", "btrfs")
            and not _has_root(content)
        ):
            path = (*base, "mdadm", name, "content")
            yield Candidate(path, content, members("mdraid", "name", name), (*base, "mdadm", name))
    for name, (where, content) in own.items():
        if content.get("type") in ("filesystem", "btrfs"):
            yield Candidate((*base, "disk", name, *where), content, (name,))


def _alone(disk: Any) -> tuple[Path, dict[str, Any]] | None:
    """The only thing on a disk, and where; none: there are several, or nothing."""
    content = disk.get("content") if isinstance(disk, dict) else None
    if not isinstance(content, dict) or disk.get("destroy") is False:
        return None
    if content.get("type") != "gpt":
        return ("content",), content
    partitions = content.get("partitions") or {}
    if len(partitions) != 1:
        return None
    ((name, partition),) = partitions.items()
    inner = partition.get("content") if isinstance(partition, dict) else None
    return (("content", "partitions", name, "content"), inner) if isinstance(inner, dict) else None


def _names(value: Any, kind: str, field: str, name: str) -> bool:
    """Whether a member of this kind with this name is somewhere in it."""
    if isinstance(value, dict):
        if value.get("type") == kind and value.get(field) == name:
            return True
        return any(_names(each, kind, field, name) for each in value.values())
    return isinstance(value, list) and any(_names(each, kind, field, name) for each in value)


def _has_root(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("mountpoint") == "/" or any(map(_has_root, value.values()))
    return isinstance(value, list) and any(map(_has_root, value))


def _places(value: Any) -> Iterator[str]:
    """Every mount point in it."""
    if isinstance(value, dict):
        if isinstance(place := value.get("mountpoint"), str) and place.startswith("/"):
            yield place
        for each in value.values():
            yield from _places(each)


def _left(tree: Tree, candidate: Candidate, why: str) -> None:
    for path in (candidate.path, candidate.array):
        if path is not None:
            tree.reasons.pop(path, None)
            tree.leave(path, why)


def _taken(tree: Tree, base: Path, each: Candidate, place: str | None, facts: Facts | None) -> Found | None:
    value, path = each.value, each.path
    pool: dict[str, Any] = {}
    several = len(each.disks) > 1
    kind = str(path[len(base)]) if each.path[-1] != "content" else "filesystem"
    if kind == "lvm_vg" and several and each.array is None:
        _left(tree, each, LINEAR)
        return None
    match kind:
        case "zpool":
            pool["kind"] = "zfs"
            joined = redundancy(tree, path, value, len(each.disks))
            if several and joined:
                pool["redundancy"] = joined
            pool |= _datasets(tree, path, place)
        case "lvm_vg":
            pool["kind"] = "lvm-thin"
            for name, volume in (value.get("lvs") or {}).items():
                if isinstance(volume, dict) and volume.get("lvm_type") == "thin-pool":
                    tree.take(*path, "lvs", name)
                else:
                    tree.leave(
                        (*path, "lvs", name), "volumes in the pool are made with the VMs that they are for"
                    )
        case _:
            pool |= {
                "kind": "dir",
                "filesystem": "btrfs" if value["type"] == "btrfs" else value.get("format"),
            }
            if pool["filesystem"] not in ("ext4", "xfs", "btrfs"):
                _left(tree, each, "a pool's file system is ext4, xfs or btrfs")
                return None
            for name in ("format", "mountpoint"):
                tree.take(*path, name)
            options = value.get("mountOptions") or []
            if "nodatacow" in options:
                pool["nodatacow"] = True
                tree.take(*path, "mountOptions", options.index("nodatacow"))
            tree.leave((*path, "mountOptions"), FIXED)
            tree.leave((*path, "extraArgs"), FIXED)
    tree.take(*path, "type")
    if each.array is not None:
        level = tree.look(*each.array, "level") or 1
        tree.take(*each.array, "type")
        if level in LEVELS:
            tree.take(*each.array, "level")
            pool["redundancy"] = LEVELS[level]
        tree.leave((*each.array, "metadata"), FIXED)
        for name in ("type", "vg"):
            tree.take(*each.array, "content", name)
    selectors = _selectors(tree, base, each.disks, facts)
    if selectors:
        pool["disks"] = selectors
    return Found(pool, place)


def _selectors(tree: Tree, base: Path, disks: tuple[str, ...], facts: Facts | None) -> list[dict[str, Any]]:
    selectors = []
    for name in disks:
        path = (*base, "disk", name)
        where = _alone(tree.look(*path))
        tree.take(*path, "type")
        for part in ("type", "vg", "pool", "name"):
            tree.take(*path, "content", part)
            if where is not None:
                tree.take(*path, *where[0], part)
        if where is not None and len(where[0]) > 1:
            for part in ("type", "size", "start", "end", "label", "priority"):
                tree.take(*path, *where[0][:-1], part)
        found = selector(str(tree.look(*path, "device") or ""), facts)
        if isinstance(found, str):
            tree.leave((*path, "device"), found)
        else:
            tree.take(*path, "device")
            selectors.append(found)
    return selectors


def redundancy(tree: Tree, path: Path, pool: dict[str, Any], disks: int) -> str | None:
    """How a pool's devices are joined; none: not as answers can ask for."""
    mode = pool.get("mode", "")
    if isinstance(mode, str) and mode in MODES:
        tree.take(*path, "mode")
        return MODES[mode]
    topology = mode.get("topology") if isinstance(mode, dict) else None
    groups = topology.get("vdev") if isinstance(topology, dict) else None
    if isinstance(groups, list) and groups and all(isinstance(each, dict) for each in groups):
        sizes = {len(each.get("members") or []) for each in groups}
        modes = {each.get("mode", "") for each in groups}
        if len(groups) == 1 and modes <= MODES.keys():
            joined: str | None = MODES[modes.pop()]
        elif modes == {"mirror"} and sizes == {2} and disks == 2 * len(groups):
            joined = "raid10"
        else:
            joined = None
        if joined:
            for part in ("type", "vdev"):
                tree.take(*path, "mode", "topology", part)
            return joined
    tree.leave(
        (*path, "mode"), "a pool is a mirror, pairs of mirrors, or raidz1 to raidz3 over all of its disks"
    )
    return None


def _datasets(tree: Tree, path: Path, place: str | None) -> dict[str, Any]:
    """What of the datasets is the pool's."""
    found: dict[str, Any] = {}
    if tree.look(*path, "mountpoint") == place:
        tree.take(*path, "mountpoint")
    for field in ("options", "rootFsOptions"):
        tree.leave((*path, field), FIXED)
    for name, dataset in (tree.look(*path, "datasets") or {}).items():
        here = (*path, "datasets", name)
        if isinstance(dataset, dict) and place is not None and dataset.get("mountpoint") == place:
            found |= guests_dataset(tree, here)
        else:
            tree.leave(here, "the pool has one dataset, for images; volumes in it are made with their VMs")
    return found


def guests_dataset(tree: Tree, path: Path) -> dict[str, Any]:
    """A dataset for images, taken over; what of it `[storage.pool]` says."""
    for field in ("type", "mountpoint"):
        tree.take(*path, field)
    size = str(tree.look(*path, "options", "recordsize") or "")
    number, unit = size[:-1], size[-1:].upper()
    if number.isdecimal() and unit in RECORDS:
        count = int(number) * RECORDS[unit]
        if 4 * KIB <= count <= MIB and not count & (count - 1):
            tree.take(*path, "options", "recordsize")
            return {"record_size": f"{number}{unit}iB"}
    tree.leave((*path, "options"), FIXED)
    return {}


def staying(
    tree: Tree, path: Path, name: str, disk: dict[str, Any], facts: Facts | None
) -> list[dict[str, Any]]:
    """Entries of `[[storage.partitions]]` for a disk that is not to be destroyed (`destroy = false`)."""
    found = selector(str(disk.get("device", "")), facts)
    if isinstance(found, str):
        tree.leave((*path, "device"), found)
        return []
    content = disk.get("content")
    if not isinstance(content, dict):
        return []
    entries = []
    if content.get("type") == "gpt":
        parts = [
            ((*path, "content", "partitions", key, "content"), each.get("content"), key, each)
            for key, each in (content.get("partitions") or {}).items()
            if isinstance(each, dict)
        ]
        tree.take(*path, "content", "type")
    else:
        parts = [((*path, "content"), content, None, {})]
    for where, inner, key, partition in parts:
        place = inner.get("mountpoint") if isinstance(inner, dict) else None
        if not isinstance(place, str) or place in ("/", "/boot", "/efi", "/boot/efi") or _has_root(inner):
            tree.leave(where, "it stays as it is; the host does not look into it")
            continue
        # As disko names a partition that nobody named.
        label = partition.get("label") or f"disk-{disk.get('name', name)}-{key}"
        entries.append({"disk": found, **({"label": label} if key else {}), "mount": place})
        for field in ("type", "format", "mountpoint"):
            tree.take(*where, field)
        tree.leave((*where, "mountOptions"), FIXED)
        for field in ("type", "size", "start", "end", "label", "priority", "name", "uuid", "alignment"):
            if key:
                tree.take(*where[:-1], field)
    if entries:
        for field in ("type", "device", "destroy"):
            tree.take(*path, field)
    return entries
