"""What choosing disks drags along: everything that uses them, and every other disk that what is on them reaches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from installer.answers.select import title
from installer.errors import Exit, HyperError
from installer.facts.disks import Disk, Filesystem, Holder, HolderKind
from installer.plan.losses import all_layers, content_words

SHARING = frozenset(("btrfs", "zfs_member"))
"""Signatures whose UUID on a second disk means that both carry one thing; so does every `…_raid_member`."""
BY_ITSELF = frozenset(
    (HolderKind.md, HolderKind.lvm_pv, HolderKind.lvm_lv, HolderKind.filesystem, HolderKind.swap)
)
"""What comes up in a live system without anybody's doing: udev assembles arrays and activates volume groups (mdadm(8),
lvmautoactivation(7)), and what lies on them is only seen."""
MEMBERS = frozenset(("linux_raid_member", "LVM2_member"))
"""Signatures of what can be stopped so. The arrays of a RAID controller (ddf, isw) are the firmware's as well."""
CACHE = "bcache"
"""Its signature carries the device's own UUID: of which set it is does not show."""


@dataclass(frozen=True)
class Dragged:
    """One thing that a chosen disk drags along."""

    disk: Disk
    """Which disk."""
    what: str
    """What it is, for a person: `sda2 is mounted at /`, `md array rack7:root on sda2`."""
    used: bool = False
    """Whether it is in use now."""
    beyond: tuple[Disk, ...] = ()
    """Disks that were not chosen and that it stands on as well."""
    doubtful: bool = False
    """Whether it only may reach them: what is on the disks does not tell."""


def dragged_along(chosen: Sequence[Disk], everyone: Sequence[Disk]) -> tuple[Dragged, ...]:
    """Everything that emptying the chosen disks harms besides what lies on them alone, in the order of the disks."""
    names = {disk.name for disk in chosen}
    others = {disk.name: disk for disk in everyone if disk.name not in names}
    sharing = _sharing(others.values())
    return tuple(
        each
        for disk in chosen
        for each in (*_uses(disk), *_stacks(disk, others), *_signatures(disk, sharing))
    )


def require_contained(chosen: Sequence[Disk], everyone: Sequence[Disk]) -> None:
    """HyperError (Exit.busy) with the whole list, if anything on the chosen disks is in use or reaches beyond them."""
    found = dragged_along(chosen, everyone)
    if not found:
        return
    remedies = []
    if any(each.used for each in found):
        remedies.append("free this one (unmount, swapoff, close, export or stop what uses it)")
    if any(each.beyond for each in found):
        remedies.append(
            "choose all disks of what reaches several, or take it apart first (`wipefs` on every member, if its data "
            "is not needed)"
        )
    why: dict[str, list[str]] = {}
    for each in found:
        why.setdefault(title(each.disk), []).append(_line(each))
    one = len(why) == 1
    raise HyperError(
        f"{next(iter(why))} must not be touched" if one else f"{len(why)} of the disks must not be touched",
        why="\n".join(
            line
            for disk, lines in why.items()
            for line in (
                *(() if one else (disk,)),
                *(each if one else f"  {each}" for each in dict.fromkeys(lines)),
            )
        ),
        remedy=f"choose another disk in `storage`, or {', and '.join(remedies)}; then run again",
        code=Exit.busy,
    )


def at_rest(disk: Disk, among: Iterable[Disk]) -> Disk:
    """The disk as if arrays and volume groups on it that nothing uses were not up, where all that they stand on is among
    these disks: for those who would bring them up themselves, by their UUIDs, and for those who stop them first.
    """
    names = frozenset(each.name for each in among)
    idle = {
        f"{below} is part of {holder.kind.value} {holder.name}"
        for name, filesystem, holders in _contents(disk)
        for top in holders
        if _is_idle(filesystem, top, names)
        for below, holder in _pairs(name, (top,))
    }

    def down(filesystem: Filesystem | None, holders: tuple[Holder, ...]) -> tuple[Holder, ...]:
        return tuple(
            holder.model_copy(update={"active": False}) if _is_idle(filesystem, holder, names) else holder
            for holder in holders
        )

    return disk.model_copy(
        update={
            "in_use": tuple(use for use in disk.in_use if use not in idle),
            "holders": down(disk.filesystem, disk.holders),
            "partitions": tuple(
                part.model_copy(update={"holders": down(part.filesystem, part.holders)})
                for part in disk.partitions
            ),
        }
    )


def idle_stacks(disks: Sequence[Disk]) -> tuple[str, ...]:
    """Names of the arrays and volume groups that `at_rest` takes down on these disks, each once."""
    names = frozenset(each.name for each in disks)
    up = [
        holder
        for disk in disks
        for _, filesystem, holders in _contents(disk)
        for top in holders
        if top.active and _is_idle(filesystem, top, names)
        for holder in all_layers((top,))
        if holder.active
    ]
    arrays = (f"the array {each.name}" for each in up if each.kind is HolderKind.md)
    groups = (f"the volume group {each.name}" for each in up if each.kind is HolderKind.lvm_pv)
    return tuple(dict.fromkeys((*arrays, *groups)))


def _pairs(below: str, holders: Iterable[Holder]) -> Iterator[tuple[str, Holder]]:
    for holder in holders:
        yield below, holder
        yield from _pairs(holder.name, holder.layers)


def _is_idle(filesystem: Filesystem | None, top: Holder, names: frozenset[str]) -> bool:
    """Whether what stands on a device of this signature came up by itself, nothing of it is mounted or swapped to, and it
    reaches none but these disks.
    """
    return (
        filesystem is not None
        and filesystem.kind in MEMBERS
        and all(
            (each.kind in BY_ITSELF or not each.active)
            and not each.mountpoints
            and names.issuperset(each.spans)
            for each in all_layers((top,))
        )
    )


def _line(dragged: Dragged) -> str:
    if not dragged.beyond:
        return dragged.what
    reaches = "may reach" if dragged.doubtful else "reaches"
    return f"{dragged.what} {reaches} beyond what was chosen, to {', '.join(map(title, dragged.beyond))}"


def _contents(disk: Disk) -> Iterator[tuple[str, Filesystem | None, tuple[Holder, ...]]]:
    """The whole disk and its partitions: what they are called, their signature, what stands on them."""
    yield disk.name, disk.filesystem, disk.holders
    for partition in disk.partitions:
        yield partition.name, partition.filesystem, partition.holders


def _uses(disk: Disk) -> Iterator[Dragged]:
    """What uses the disk now."""
    medium = f"{disk.name} carries the install medium"
    if disk.install_medium and medium not in disk.in_use:
        yield Dragged(disk, medium, used=True)
    for use in disk.in_use:
        yield Dragged(disk, use, used=True)
    told = " ".join(disk.in_use)
    for name, _, holders in _contents(disk):
        for holder in holders:
            if holder.active and holder.name not in told:
                yield Dragged(disk, f"{holder.kind} {holder.name} is active on {name}", used=True)


def _stacks(disk: Disk, others: Mapping[str, Disk]) -> Iterator[Dragged]:
    """Stacks that reach disks that were not chosen, as the probe found them."""
    for name, _, holders in _contents(disk):
        for holder in all_layers(holders):
            if beyond := tuple(others[each] for each in holder.spans if each in others):
                yield Dragged(disk, f"{holder.kind} {holder.name} on {name}", beyond=beyond)


def _signatures(disk: Disk, sharing: Mapping[tuple[str, str], Sequence[Disk]]) -> Iterator[Dragged]:
    """Member signatures that other disks carry too, where no stack tells of them."""
    for name, filesystem, holders in _contents(disk):
        if filesystem is None or any(holder.spans for holder in holders):
            continue
        if beyond := tuple(sharing.get(_shared_key(filesystem), ())):
            yield Dragged(
                disk,
                f"{content_words(filesystem)} {filesystem.uuid or ''} on {name}",
                beyond=beyond,
                doubtful=filesystem.kind == CACHE,
            )


def _sharing(disks: Iterable[Disk]) -> dict[tuple[str, str], list[Disk]]:
    """Disks by what they may share with others: kind and UUID of the whole."""
    found: dict[tuple[str, str], list[Disk]] = {}
    for disk in disks:
        keys = {_shared_key(filesystem) for _, filesystem, _ in _contents(disk) if filesystem}
        for key in keys - {NOTHING_SHARED}:
            found.setdefault(key, []).append(disk)
    return found


NOTHING_SHARED = ("", "")


def _shared_key(filesystem: Filesystem) -> tuple[str, str]:
    if filesystem.kind == CACHE:
        return CACHE, ""
    if filesystem.uuid and (filesystem.kind in SHARING or filesystem.kind.endswith("_raid_member")):
        return filesystem.kind, filesystem.uuid
    return NOTHING_SHARED
