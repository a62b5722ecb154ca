"""What the host's configuration must know of its disks, and what of them can grow."""

from re import fullmatch
from typing import Literal

from installer.answers.model import Answers
from installer.answers.sizes import GIB
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.handoff import GrowRoot
from installer.plan.initrd import controller_modules, root_modules
from installer.plan.model import HostBootMirror, HostStorage, HostZfs
from installer.plan.requirements import loader_to_use
from installer.plan.storage.element import Layout
from installer.plan.storage.filesystem import Mounted
from installer.plan.storage.gpt import Partition
from installer.plan.storage.luks import Luks
from installer.plan.unlock import unlock

ARC_SHARE, ARC_FLOOR, ARC_CEILING = 8, GIB, 16 * GIB
"""ZFS's cache takes an eighth of the memory, within these bounds: the rest is the guests'."""


def root_of(layout: Layout) -> Mounted:
    """The root file system."""
    return next(
        element
        for element in layout.elements
        if isinstance(element, Mounted) and any(mount.mountpoint == "/" for mount in element.mounts)
    )


def reaching_modules(facts: Facts, disks: tuple[Disk, ...]) -> tuple[str, ...]:
    """Modules without which some of the disks are not reached, sorted."""
    return tuple(sorted({module for disk in disks for module in root_modules(facts, disk)}))


def modules_to_root(reaching: tuple[str, ...], layout: Layout) -> tuple[str, ...]:
    """What reaches the root, from the controller up to its file system."""
    return tuple(dict.fromkeys((*reaching, *layout.host().initrd_modules, root_of(layout).type)))


def host_storage(
    facts: Facts,
    answers: Answers,
    disks: tuple[Disk, ...],
    layout: Layout,
    firmware: Literal["uefi", "bios"],
) -> HostStorage:
    """All of it."""
    part = layout.host()
    reaching = (*reaching_modules(facts, disks), *controller_modules(facts))
    return HostStorage(
        filesystems=tuple(sorted(part.filesystems, key=lambda each: each.mountpoint.rstrip("/").split("/"))),
        luks=part.luks,
        swap_devices=part.swap_devices,
        random_swap_devices=part.random_swap_devices,
        zram_percent=next(iter(part.zram_percent), None),
        firmware=firmware,
        loader=loader_to_use(firmware, answers),
        esp_mountpoint=next(iter(part.esp_mountpoints), None),
        xbootldr_mountpoint=next(iter(part.xbootldr_mountpoints), None),
        grub_device=next(iter(part.grub_devices), None),
        generations=answers.boot.generations,
        initrd_modules=modules_to_root(tuple(sorted({*reaching})), layout),
        supported_filesystems=tuple(sorted({*part.supported_filesystems})),
        mirrors=_mirrors(layout),
        arrays=part.arrays,
        lvm=("thin" if part.thin_pools else "plain") if part.volume_groups else None,
        zfs=_zfs(facts, layout),
        key_luks=part.key_luks,
        swap_files=part.swap_files,
        in_place=part.in_place,
        degraded=part.degraded,
        resume_device=next(iter(part.swap_devices), None) if answers.storage.swap.hibernate else None,
        unlock=unlock(facts, answers),
    )


def _mirrors(layout: Layout) -> tuple[HostBootMirror, ...]:
    """Boot file systems beside the first, with what GRUB needs under BIOS."""
    part = layout.host()
    mountpoints = sorted(
        mount.mountpoint
        for element in layout.elements
        if isinstance(element, Mounted)
        for mount in element.mounts
        if fullmatch("/boot[0-9]+", mount.mountpoint)
    )
    ordered = sorted(mountpoints, key=lambda place: int(place.removeprefix("/boot")))
    grub = part.grub_devices[1:] or (None,) * len(ordered)
    return tuple(
        HostBootMirror(mountpoint=mountpoint, grub_device=device)
        for mountpoint, device in zip(ordered, grub, strict=True)
    )


def _zfs(facts: Facts, layout: Layout) -> HostZfs | None:
    part = layout.host()
    if not part.zfs_pools:
        return None
    nodes = {*part.zfs_nodes}
    return HostZfs(
        pools=part.zfs_pools,
        nodes=nodes.pop() if len(nodes) == 1 else "/dev",
        cache=max(ARC_FLOOR, min(facts.memory.total // ARC_SHARE, ARC_CEILING)),
    )


def grow_root(layout: Layout) -> GrowRoot | None:
    """What can grow when the disk does: a root that has one partition, and nothing beside LUKS between."""
    root = root_of(layout)
    below = [layout[key] for key in root.below()]
    luks_name = below[0].key if isinstance(below[0], Luks) else None
    if len(below) != 1 or root.type not in ("ext4", "xfs", "btrfs"):
        return None
    partition = layout[below[0].on] if isinstance(below[0], Luks) else below[0]
    if not isinstance(partition, Partition):
        return None
    (disk,) = layout.disks(root.key)
    if partition.start < max(region.start for region in layout.regions(disk.key)):
        return None
    return GrowRoot.model_validate(
        {
            "disk_by_id": disk.by_id,
            "disk_by_path": disk.by_path,
            "partition": partition.number,
            "luks": luks_name,
            "filesystem": root.type,
        }
    )
