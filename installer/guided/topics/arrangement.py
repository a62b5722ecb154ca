"""How disks are put together: what suits the machine's, and what else there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from installer.answers.model import LayoutKind, Redundancy
from installer.answers.presets import propose
from installer.answers.select import telling
from installer.answers.storage_shape import usual_redundancy
from installer.errors import HyperError
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.guided.preview import preview
from installer.guided.questions import Answers, One, Option
from installer.guided.situation import Situation
from installer.guided.told import refusal
from installer.guided.topics.disk_choice import is_blank
from installer.guided.words import _

SPLIT = "split"
"""System and guests on disks of their own; not a layout of the answer file, which has a pool for it."""


@dataclass(frozen=True)
class Suited:
    """What suits the blank disks: nobody is talked into losing what is on a second disk."""

    layout: str
    """Of the answer file, or SPLIT."""
    system: tuple[str, ...] = ()
    """Names of disks."""
    guests: tuple[str, ...] = ()
    """The same, with SPLIT."""


def suited(free: Sequence[Disk]) -> Suited:
    """By the same preset that `storage.layout = "auto"` takes, over the blank disks."""
    blank = tuple(filter(is_blank, free))
    if len(blank) < 2:
        return Suited(LayoutKind.one_disk.value)
    proposal = propose(blank)
    system, guests = (tuple(disk.name for disk in each) for each in (proposal.system, proposal.pool))
    if guests:
        return Suited(SPLIT, system, guests)
    sizes = [disk.size for disk in blank]
    if min(sizes) * 10 < max(sizes) * 9:
        return Suited(LayoutKind.one_disk.value)
    return Suited(proposal.layout.value, system)


@dataclass(frozen=True)
class HostThere:
    """A host that is on several disks already."""

    name: str
    """Its name."""
    disks: tuple[str, ...]
    """Names of the disks."""


def layout_of(there: HostThere) -> str:
    """What a host on several disks most likely is."""
    return (LayoutKind.mirror if len(there.disks) == 2 else LayoutKind.array).value


def layout(free: Sequence[Disk], alone: int, there: HostThere | None) -> One:
    """Which layout; the recommended one with the reason.

    Args:
        free: Disks that can be had, some only together with others.
        alone: How many of them can be had by themselves.
        there: The host that is on several of them.
    """
    count, suits = len(free), suited(free)
    if there:
        suits = Suited(layout_of(there), there.disks)
    enough = count > 1
    recommended = {
        "mirror": _(
            "Recommended: a mirror, since there are two or more blank disks of one size: the host goes on, and "
            "starts, when one of them fails. It costs the space of the others."
        ),
        "array": _(
            "Recommended: an array, since there are {count} blank disks of one class: room and speed of many, and a "
            "disk may fail. It costs half of the space, or what two disks hold."
        ).format(count=len(suits.system)),
        SPLIT: _(
            "Recommended: system and guests apart, since the blank disks are of two classes: {system} for the system, "
            "{guests} for guests."
        ).format(system=", ".join(suits.system), guests=", ".join(suits.guests)),
    }
    single = (
        _("Recommended: one disk. The others stay as they are.")
        if enough
        else _("Recommended: one disk; a mirror would need two.")
    )
    because = recommended.get(suits.layout, single)
    if there:
        because = _(
            "Recommended: as it is now, so that it can be installed anew: {host} is on {disks}."
        ).format(host=there.name, disks=", ".join(there.disks))
    one_only = _("It needs two free disks, and there is only one here.")
    return One(
        title=_("Layout"),
        prompt=_("How shall the disks be used?"),
        lines=(_("Free disks: {count}.").format(count=count), because),
        more=(
            _(
                "A mirror takes whole disks, or what is free on each of them; you see what is lost before it is."
            ),
        ),
        options=(
            Option(
                "one-disk",
                _("one disk"),
                None if alone else _("No disk can be had by itself: what is on each reaches another."),
            ),
            Option("mirror", _("mirror: the same on two or more disks"), None if enough else one_only),
            Option(
                "array",
                _("array: many disks, which stand in for each other"),
                None
                if count > 2
                else _("An array needs three free disks or more; here are {count}.").format(count=count),
            ),
            Option(SPLIT, _("system and guests apart, on disks of their own"), None if enough else one_only),
        ),
        default=suits.layout,
        field=("storage", "layout"),
    )


def enough(kind: str, names: Sequence[str]) -> str | None:
    """Why these are too few for a layout; none: they are not."""
    if kind == "mirror" and len(names) < 2:
        return _("A mirror needs at least two disks: choose another.")
    if kind == "array" and len(names) < 3:
        return _("An array needs at least three disks: choose more, or take a mirror.")
    return None if names else _("At least one disk: choose one.")


def system_layout(kind: str, count: int) -> str:
    """What the answer file calls it."""
    if kind != SPLIT:
        return kind
    usual = usual_redundancy(count)
    if usual is Redundancy.none:
        return LayoutKind.one_disk.value
    return LayoutKind.mirror.value if usual is Redundancy.mirror else LayoutKind.array.value


def decided(
    layout: str, disks: Sequence[Disk], facts: Facts, filesystem: str, swap_kind: str
) -> dict[tuple[str | int, ...], Any]:
    """What was said of the layout; what an earlier round said of its finer points is taken back."""
    selectors = [dict([telling(disk, facts)]) for disk in disks]
    several: Any = selectors if len(disks) > 1 else None
    return {
        ("storage", "layout"): layout,
        ("storage", "disk"): None if several else selectors[0],
        ("storage", "disks"): several,
        ("storage", "filesystem"): filesystem,
        ("storage", "redundancy"): None,
        ("storage", "volumes"): None,
        ("storage", "pool"): None,
        ("storage", "partitions"): None,
        ("storage", "swap"): {"kind": swap_kind},
    }


def redundancy(situation: Situation, changes: Answers) -> One:
    """How many disks of an array may fail; each choice that does not go says why."""
    words = {
        Redundancy.raid10: _("raid10: pairs that carry the same; fast, half of the space"),
        Redundancy.raid6: _("raid6: any two may fail; slow for small writes"),
        Redundancy.raid5: _("raid5: any one may fail; slow for small writes"),
        Redundancy.raidz1: _("raidz1: any one may fail"),
        Redundancy.raidz2: _("raidz2: any two may fail"),
        Redundancy.raidz3: _("raidz3: any three may fail"),
        Redundancy.mirror: _("mirror: all carry the same; the space of one"),
        Redundancy.none: _("none: all of the space; every disk is needed"),
    }
    reasons = {
        each: preview(situation, {**changes, ("storage", "redundancy"): each.value}) for each in words
    }
    options = tuple(
        Option(
            each.value,
            text,
            refusal(plan) if isinstance(plan := reasons[each], HyperError) else None,
        )
        for each, text in words.items()
    )
    return One(
        title=_("When disks fail"),
        prompt=_("How many disks may fail?"),
        lines=(
            _(
                "Recommended: the first that is possible here. Guests write small blocks all over, which pairs do "
                "fast and parity slowly. Nothing of it is a backup."
            ),
        ),
        options=options,
        default=next((each.value for each in options if each.refused is None), None),
        field=("storage", "redundancy"),
    )


def volumes(situation: Situation, changes: Answers) -> One:
    """Whether LVM lies between."""

    def refused(value: str) -> str | None:
        plan = preview(situation, {**changes, ("storage", "volumes"): value})
        return refusal(plan) if isinstance(plan, HyperError) else None

    return One(
        title=_("Volumes"),
        prompt=_("Shall LVM divide the space?"),
        lines=(_("Recommended: no. It adds a layer, for those who make volumes of their own."),),
        options=(
            Option("none", _("no")),
            Option("lvm", _("lvm: the root is a logical volume"), refused("lvm")),
            Option("lvm-thin", _("lvm-thin: volumes that take what they use"), refused("lvm-thin")),
        ),
        default="none",
        field=("storage", "volumes"),
    )


def pool(options: Sequence[str]) -> One:
    """What guests' storage is, where it is apart from the root."""
    words = {
        "dir": _("files on xfs: simple, and every tool can copy them"),
        "lvm-thin": _("lvm-thin: a volume for each guest, without a file system between"),
        "zfs": _("zfs: checksums and snapshots; a module beside the kernel"),
        "none": _("nothing of its own: guests are files on the root"),
    }
    return One(
        title=_("Storage of guests"),
        prompt=_("What shall guests' disks lie on?"),
        lines=(_("Recommended: the first. It cannot be changed later without moving the guests."),),
        options=tuple(Option(each, words[each]) for each in options),
        default=options[0],
        field=("storage", "pool", "kind"),
    )


def filesystem(layout: str) -> One:
    """Of the root."""
    mirrored = layout in ("mirror", "array")
    return One(
        title=_("File system"),
        prompt=_("Which file system?"),
        lines=(
            _("Recommended: btrfs, since it notices on which disk of a mirror data went bad, and mends it.")
            if mirrored
            else _(
                "Recommended: ext4, which everything can read and repair. Guests' images are quick on it."
            ),
        ),
        options=(
            Option("ext4", _("ext4: plain and sturdy")),
            Option("xfs", _("xfs: for large disks and many guests; cannot be made smaller")),
            Option("btrfs", _("btrfs: checksums, snapshots, compression; slower for large images")),
            Option("zfs", _("zfs: the same and more; a module beside the kernel, the least tried here")),
        ),
        default="btrfs" if mirrored else "ext4",
        field=("storage", "filesystem"),
    )
