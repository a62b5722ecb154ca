"""Disks to choose from: what is on each, and why one cannot be had."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from installer.answers.select import may_destroy, telling
from installer.answers.select import title as disk_title
from installer.answers.sizes import format_size
from installer.errors import HyperError
from installer.facts import Facts
from installer.facts.disks import Disk, Health
from installer.guided.preview import preview
from installer.guided.questions import Answers, Many, One, Option
from installer.guided.situation import Situation
from installer.guided.told import refusal, told
from installer.guided.words import _
from installer.plan.losses import losses
from installer.plan.reach import at_rest, dragged_along


def options(facts: Facts, situation: Situation, *, joined: bool = False) -> Iterator[Option]:
    """Every disk, those that cannot be chosen with the reason. `joined`: others may be chosen along with it."""
    for disk in facts.disks:
        group = together(disk, facts) if joined else (disk,)
        reason = (None if joined else _half(disk, facts)) or why_not(disk, group)
        reason = reason or (
            why_no_plan(disk, situation) if len(group) == 1 else why_not_together(group, situation)
        )
        serial = disk.serial or disk.wwn or _("no serial")
        yield Option(disk.name, f"{disk.name}, {format_size(disk.size)}, {serial}", reason)


def _half(disk: Disk, facts: Facts) -> str | None:
    """Of what could be erased together with other disks, and not alone: with which; none: it stands alone, or is in use."""
    group = together(disk, facts)
    if len(group) == 1 or any(why_not(each, group) for each in group):
        return None
    others = ", ".join(each.name for each in group if each is not disk)
    return _("It belongs together with {others}, and can be chosen only along with them.").format(
        others=others
    )


def why_not_empty(disks: Sequence[Disk]) -> str | None:
    """Why what is on disks that were chosen cannot be erased; none: it can."""
    return next(filter(None, (why_not(disk, disks) for disk in disks)), None)


def contents(situation: Situation, disks: Sequence[Disk] = ()) -> str:
    """What is on each of these disks, or of all of them, as a table."""
    disks = disks or situation.facts.disks
    width = max((len(disk.name) for disk in disks), default=0)
    return "\n".join(
        f" {disk.name:<{width}}  {disk.model or _('unknown model')}: {found(disk, situation)}"
        for disk in disks
    )


def together(disk: Disk, facts: Facts) -> tuple[Disk, ...]:
    """The disk, and those that something on it stands on as well: an array, a mirror."""
    group = [disk]
    while more := {
        beyond.name: beyond
        for each in dragged_along(group, facts.disks)
        for beyond in each.beyond
        if beyond not in group
    }:
        group += more.values()
    return tuple(group)


def why_not_together(group: Sequence[Disk], situation: Situation) -> str | None:
    """What is said against emptying disks that belong together; none: nothing."""
    for disk in group:
        if reason := why_not(disk, group):
            return _("It belongs together with {disk}. {reason}").format(disk=disk.name, reason=reason)
    plainest: Answers = {
        ("storage",): {
            "layout": "mirror",
            "disks": [dict([telling(disk, situation.facts)]) for disk in group],
            "filesystem": "btrfs",
            "swap": {"kind": "none"},
        }
    }
    plan = preview(situation, plainest)
    return refusal(plan) if isinstance(plan, HyperError) else None


def lacking(names: Iterable[str], facts: Facts) -> str | None:
    """Which disks belong to these and are not among them; none: there are none."""
    picked = set(names)
    for disk in facts.disks:
        if disk.name not in picked:
            continue
        if missing := [each.name for each in together(disk, facts) if each.name not in picked]:
            return _("{disk} belongs together with {others}: choose them too, or leave it out.").format(
                disk=disk.name, others=", ".join(missing)
            )
    return None


def chosen(situation: Situation) -> tuple[Disk, ...]:
    """The disks that the answers so far name for the system."""
    storage = situation.said("storage", default={})
    named = [*filter(None, [storage.get("disk")]), *storage.get("disks", ())]
    return tuple(
        disk
        for disk in situation.facts.disks
        if any(all(getattr(disk, name) == value for name, value in each.items()) for each in named)
    )


def why_no_plan(disk: Disk, situation: Situation) -> str | None:
    """What the planner says against the plainest host on this disk: too small, part of something larger."""
    plainest: Answers = {
        ("storage",): {"disk": dict([telling(disk, situation.facts)]), "swap": {"kind": "none"}}
    }
    plan = preview(situation, plainest)
    return refusal(plan) if isinstance(plan, HyperError) else None


def found(disk: Disk, situation: Situation) -> str:
    lost = tuple(map(told, losses(disk, disk.name, situation.facts.systems).losses))
    return (
        lost[0]
        if len(lost) == 1
        else _("{first} and {count} more").format(first=lost[0], count=len(lost) - 1)
    )


def why_not(disk: Disk, chosen: Iterable[Disk]) -> str | None:
    """Why a disk cannot be chosen along with these; none: it can. What came up by itself on them is stopped first."""
    disk = at_rest(disk, chosen)
    if disk.install_medium:
        return _("The installer itself runs from it.")
    if disk.in_use:
        return _("It is in use: {uses}. Unmount or stop that on another console, then start again.").format(
            uses="; ".join(map(told, disk.in_use))
        )
    if disk.read_only:
        return _("It can only be read: look for a write-protect switch.")
    if not may_destroy(disk):
        return _("It has no serial number, so it could not be told from another disk when it is written to.")
    return None


def hints(disks: Iterable[Disk]) -> Iterator[str]:
    for disk in disks:
        if isinstance(disk.health, Health) and disk.health.failing:
            yield _("{disk} reports that it is failing: {summary}.").format(
                disk=disk_title(disk), summary=told(disk.health.summary)
            )


def one(situation: Situation, options: tuple[Option, ...]) -> One:
    """Which disk."""
    possible = [each.value for each in options if each.refused is None]
    blank = [disk for disk in situation.facts.disks if disk.name in possible and is_blank(disk)]
    recommended = blank[0].name if blank else possible[0] if len(possible) == 1 else None
    return One(
        title=_("Disk"),
        prompt=_("Which disk? What becomes of what is on it is asked next.")
        if any(disk.partitions for disk in situation.facts.disks if disk.name in possible)
        else _("Which disk? Everything on it will be lost."),
        lines=(
            contents(situation),
            _("Recommended: {disk}, since nothing is on it.").format(disk=recommended)
            if blank
            else _("Recommended: one of which nobody needs anything; none is blank."),
            *hints(situation.facts.disks),
        ),
        more=(_("Names such as sda change from boot to boot; the serial number is what counts."),),
        options=options,
        default=recommended,
        field=("storage", "disk"),
    )


def several(
    situation: Situation,
    options: tuple[Option, ...],
    check: Callable[[tuple[Any, ...]], str | None],
    chosen: Sequence[str] = (),
    *,
    asked: bool,
) -> Many:
    """Which disks for the system. `asked`: what becomes of what is on them is another question."""
    possible = [each.value for each in options if each.refused is None]
    marked = [disk for disk in situation.facts.disks if disk.name in chosen]
    empty = marked and all(map(is_blank, marked))
    return Many(
        title=_("Disks"),
        prompt=_("Which disks? What becomes of what is on them is asked next.")
        if asked and any(disk.partitions for disk in situation.facts.disks if disk.name in possible)
        else _("Which disks? Everything on them will be lost."),
        lines=(
            contents(situation),
            _("The smallest decides how large it becomes."),
            *((_("Recommended: those that are marked; nothing is on them."),) if empty else ()),
            *hints(situation.facts.disks),
        ),
        options=options,
        default=tuple(chosen),
        check=check,
        field=("storage", "disks"),
    )


def for_guests(
    situation: Situation, options: tuple[Option, ...], chosen: Iterable[str], system: Sequence[str]
) -> Many:
    """Which disks for guests alone."""
    return Many(
        title=_("Disks for guests"),
        prompt=_("Which disks are for guests alone? Everything on them will be lost."),
        lines=(
            contents(situation),
            _(
                "The host starts without them too. Two or more stand in for each other: pairs carry the same."
            ),
        ),
        options=options,
        default=tuple(chosen),
        check=lambda names: (
            lacking((*system, *names), situation.facts) if names else _("At least one disk: choose one.")
        ),
        field=("storage", "pool", "disks"),
    )


def alike(facts: Facts, options: tuple[Option, ...]) -> Iterator[str]:
    """Blank disks of one size, the largest of those that can be chosen."""
    possible = {option.value for option in options if option.refused is None}
    blank = [disk for disk in facts.disks if disk.name in possible and is_blank(disk)]
    largest = max((disk.size for disk in blank), default=0)
    yield from (disk.name for disk in blank if disk.size * 10 >= largest * 9)


def is_blank(disk: Disk) -> bool:
    """Whether nothing is on it."""
    return not (disk.partitions or disk.filesystem or disk.holders)
