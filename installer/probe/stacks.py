"""What stands on a disk or partition: encryption, volumes, arrays, pools, down to the mounted file system."""

from installer.kinds import HolderKind
from installer.probe.blocks import Block, Blocks
from installer.probe.draft import Filesystem, Holder

MEMBERS = {
    "crypto_LUKS": HolderKind.luks,
    "LVM2_member": HolderKind.lvm_pv,
    "linux_raid_member": HolderKind.md,
    "ddf_raid_member": HolderKind.md,
    "isw_raid_member": HolderKind.md,
    "zfs_member": HolderKind.zfs,
    "bcache": HolderKind.bcache,
    "mpath_member": HolderKind.multipath,
    "btrfs": HolderKind.btrfs,
}
"""Signature (blkid's name) to the kind of stack whose member it marks."""
SHARED_UUID = frozenset({HolderKind.md, HolderKind.zfs, HolderKind.btrfs})
"""Stacks whose members all carry the UUID of the whole."""
MAPPED = {"CRYPT-": HolderKind.luks, "LVM-": HolderKind.lvm_lv, "mpath-": HolderKind.multipath}
"""Prefix of a device-mapper UUID, as each tool sets it."""
DEPTH = 12
"""No stack is as high; a record whose devices hold each other in a circle must not be followed for ever."""


def stack(blocks: Blocks, block: Block, depth: int = DEPTH) -> tuple[Holder, ...]:
    """The layers directly on a device: what the kernel has active, else what a member signature tells."""
    if depth == 0:
        return ()
    origin = blocks.disks_under(block.name)
    known = [blocks.all[name] for name in block.holders if name in blocks.all]
    active = tuple(_layer(blocks, holder, origin, depth - 1) for holder in known)
    signature = blocks.signature(block)
    kind = MEMBERS.get(signature.kind) if signature else None
    if signature is None or kind is None:
        return active
    if active and kind is not HolderKind.lvm_pv:
        return active
    return (
        active
        if active == () and _single_btrfs(blocks, kind, signature, origin)
        else (_member(blocks, block, signature, kind, origin, active),)
    )


def _single_btrfs(blocks: Blocks, kind: HolderKind, signature: Filesystem, origin: frozenset[str]) -> bool:
    """A btrfs on one device only is a file system like any other."""
    return kind is HolderKind.btrfs and not (blocks.disks_sharing(signature) - origin)


def _member(  # noqa: PLR0917
    blocks: Blocks,
    block: Block,
    signature: Filesystem,
    kind: HolderKind,
    origin: frozenset[str],
    above: tuple[Holder, ...],
) -> Holder:
    """A member by its signature; `above` is what stands on it."""
    points = signature.mountpoints
    up = False
    if kind is HolderKind.zfs:
        points = blocks.pool_points(signature.label or "")
        up = blocks.pool_is_up(signature.label or "")
    spans = blocks.disks_sharing(signature) if kind in SHARED_UUID else blocks.disks_of_group(block)
    spans |= {name for holder in above for name in holder.spans}
    volumes = (holder.name.partition("/")[0] for holder in above if holder.kind is HolderKind.lvm_lv)
    uuid, told = blocks.groups.get(block.name, (signature.uuid, ""))
    group = next(volumes, None) or told
    return Holder(
        kind=kind,
        name=group or signature.label or signature.kind,
        uuid=uuid,
        mountpoints=points,
        spans=tuple(sorted(spans - origin)),
        active=bool(above or points or up),
        layers=above,
    )


def _layer(blocks: Blocks, block: Block, origin: frozenset[str], depth: int) -> Holder:
    """An active device on top of others."""
    kind, name, uuid = _identity(block)
    return Holder(
        kind=kind,
        name=name,
        uuid=uuid,
        mountpoints=(),
        spans=tuple(sorted(blocks.disks_under(block.name) - origin)),
        active=True,
        layers=_contents(blocks, block, depth),
    )


def _contents(blocks: Blocks, block: Block, depth: int) -> tuple[Holder, ...]:
    """What is in a mapped device or array: a file system, swap, another stack, or partitions with these."""
    if depth == 0:
        return ()
    above = stack(blocks, block, depth)
    inside = [blocks.all[name] for name in block.partitions if name in blocks.all]
    nested = tuple(holder for part in inside for holder in _contents(blocks, part, depth - 1))
    signature = blocks.signature(block)
    if above or signature is None:
        return above + nested
    leaf = Holder(
        kind=HolderKind.swap if signature.kind == "swap" else HolderKind.filesystem,
        name=signature.kind,
        uuid=signature.uuid,
        mountpoints=signature.mountpoints,
        spans=(),
        active=bool(signature.mountpoints),
        layers=(),
    )
    return (leaf, *nested)


def _identity(block: Block) -> tuple[HolderKind, str, str | None]:
    """Kind, name and UUID of an active device."""
    if block.mapped is not None:
        name, uuid = block.mapped
        kind = next((kind for prefix, kind in MAPPED.items() if uuid.startswith(prefix)), HolderKind.dm)
        if kind is HolderKind.lvm_lv:
            group, separator, volume = name.replace("--", "\0").partition("-")
            name = (group + separator.replace("-", "/") + volume).replace("\0", "-")
        return kind, name, uuid or None
    if "md" in block.entries:
        name = block.udev.get("MD_NAME") or block.udev.get("MD_DEVNAME") or block.name
        return HolderKind.md, name, block.udev.get("MD_UUID")
    if "bcache" in block.entries or block.name.startswith("bcache"):
        return HolderKind.bcache, block.name, None
    return HolderKind.dm, block.name, None
