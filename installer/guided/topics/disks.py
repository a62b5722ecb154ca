"""Where the host goes: disks, how they are put together, the file system, swap; with a drawing of before and after."""

from collections.abc import Generator, Mapping
from typing import Any

from installer.answers.select import telling
from installer.errors import HyperError
from installer.facts.disks import Disk
from installer.guided.preview import disk_titles, drawing, preview
from installer.guided.questions import Answers, Dialogue, Item, Notice, One, Option
from installer.guided.situation import Level, Situation
from installer.guided.told import refusal, told
from installer.guided.topics import arrangement, data, disk_choice, partitions, reinstallation
from installer.guided.topics.host_names import host_on
from installer.guided.topics.swap import hibernation, swap
from installer.guided.words import _
from installer.plan.losses import losses
from installer.plan.model import Plan

EACH = "each"
"""Each partition is decided about by itself."""
_SHORT = 9
"""Lines of a drawing that leave room on 80x24 for what is lost."""


def title() -> str:
    """For the head of the page."""
    return _("Disks")


def dialogue(situation: Situation) -> Dialogue:
    """Layout, disks, file system, swap; then what it comes to, and round again if that is not wanted."""
    facts = situation.facts
    options = tuple(disk_choice.options(facts, situation, joined=True))
    possible = {option.value for option in options if option.refused is None}
    free = [disk for disk in facts.disks if disk.name in possible]
    if not free:
        yield Notice(
            title=_("No disk is free"),
            prompt=_("Noted?"),
            lines=(
                *(f"{option.title}: {option.refused}" for option in options),
                _(
                    "Way on: change what stands above, or connect another disk; then leave (Ctrl-C), and start again. "
                    "Your answers are kept."
                ),
            ),
        )
        return {("storage",): None}
    while True:
        changes = yield from _wanted(situation, options, free)
        plan = preview(situation, changes)
        if isinstance(plan, HyperError):
            yield _refusal(plan)
            continue
        agreed = yield _before_and_after(plan)
        if agreed:
            return changes


def _wanted(
    situation: Situation, options: tuple[Option, ...], free: list[Disk]
) -> Generator[Item, Any, Answers]:
    """One round of questions."""
    facts, suits = situation.facts, arrangement.suited(free)
    alone = tuple(disk_choice.options(facts, situation))
    there = reinstallation.host_on_several(free)
    kind = yield arrangement.layout(free, sum(option.refused is None for option in alone), there)
    for_guests: tuple[str, ...] = ()
    if kind == "one-disk":
        chosen = ((yield disk_choice.one(situation, alone)),)
    else:
        first = suits.system if suits.layout == kind else tuple(disk_choice.alike(facts, options))
        if there and kind == arrangement.layout_of(there):
            first = there.disks

        def check(names: tuple[Any, ...]) -> str | None:
            missing = None if kind == arrangement.SPLIT else disk_choice.lacking(names, facts)
            return arrangement.enough(kind, names) or missing

        asked = kind in ("mirror", "array")
        chosen = yield disk_choice.several(situation, options, check, first, asked=asked)
    if kind == arrangement.SPLIT:
        left = tuple(
            Option(
                each.value, each.title, _("The system goes there.") if each.value in chosen else each.refused
            )
            for each in options
        )
        usual = [name for name in suits.guests if name not in chosen]
        for_guests = yield disk_choice.for_guests(situation, left, usual, chosen)
    disks = [disk for disk in facts.disks if disk.name in chosen]
    existing = "erase"
    fates: list[Mapping[str, Any]] | None = None
    if kind == "one-disk" and disks[0].partitions:
        existing = yield _existing(situation, disks[0])
        if existing == "reinstall":
            return (yield from reinstallation.dialogue(situation, "one-disk", disks))
        if existing == EACH:
            existing, fates = "keep", (yield from partitions.dialogue(situation, disks[0]))
    layout = arrangement.system_layout(kind, len(disks))
    if kind in ("mirror", "array") and any(disk.partitions for disk in disks):
        existing = yield _on_several(situation, layout, disks)
        if existing == "reinstall":
            return (yield from reinstallation.dialogue(situation, layout, disks))
    filesystem = yield arrangement.filesystem(layout)
    changes = arrangement.decided(layout, disks, facts, filesystem, "none")
    changes |= {
        ("storage", "existing"): None if existing == "erase" else existing,
        ("storage", "partitions"): fates,
    }
    if kind == "array":
        changes[("storage", "redundancy")] = yield arrangement.redundancy(situation, changes)
    if situation.level is Level.expert and filesystem in ("ext4", "xfs"):
        value = yield arrangement.volumes(situation, changes)
        changes[("storage", "volumes")] = None if value == "none" else value
    pool: dict[str, Any] = {}
    if for_guests:
        pool["kind"] = yield arrangement.pool(("dir", "lvm-thin", "zfs"))
        pool["disks"] = [dict([telling(disk, facts)]) for disk in facts.disks if disk.name in for_guests]
    elif changes.get(("storage", "volumes")):
        pool["kind"] = yield arrangement.pool(("lvm-thin", "none"))
    elif filesystem == "zfs":
        pool["kind"] = yield arrangement.pool(("zfs", "none"))
    changes[("storage", "pool")] = None if pool.get("kind", "none") == "none" else pool
    swapping: dict[str, Any] = {"kind": (yield swap(situation))}
    changes[("storage", "swap")] = swapping
    asks = swapping["kind"] in ("partition", "file") and situation.level is not Level.beginner
    if asks and (yield hibernation(situation, changes)):
        changes[("storage", "swap")] = {**swapping, "hibernate": True}
    more = yield from data.dialogue(situation, changes, {*chosen, *for_guests}, [*(fates or ())])
    if more:
        changes[("storage", "partitions")] = [*(fates or ()), *more]
    return changes


def _before_and_after(plan: Plan) -> One:
    called = disk_titles(plan)
    notes = (
        *(
            _("Lost on {disk}: {what}.").format(
                disk=called[each.disk], what="; ".join(map(told, each.losses))
            )
            for each in plan.destroyed
        ),
        *(
            _("Stays on {disk}: {what}.").format(
                disk=called[each.disk], what="; ".join(map(told, each.kept))
            )
            for each in plan.destroyed
            if each.kept
        ),
        *(_("Mounted as it is: {what}.").format(what=told(each)) for each in plan.mounted),
    )
    # A long drawing fills more than a screen: what is lost must not be below its edge.
    drawn = drawing(plan)
    first = drawn.count("\n") > _SHORT
    return One(
        title=_("Before and after"),
        prompt=_("Is this right? Nothing is written yet."),
        lines=(
            *(notes if first else ()),
            drawn,
            *(() if first else notes),
            *map(told, plan.warnings),
        ),
        options=(Option(True, _("Yes, go on")), Option(False, _("No, choose again"))),
        default=True,
    )


def _on_several(situation: Situation, layout: str, disks: list[Disk]) -> One:
    """What becomes of what is on several disks."""
    wanted: Answers = {
        ("storage",): {
            "layout": layout,
            "disks": [dict([telling(disk, situation.facts)]) for disk in disks],
            "existing": "keep",
            "filesystem": "btrfs",
            "swap": {"kind": "none"},
        }
    }
    plan = preview(situation, wanted)
    refused = refusal(plan) if isinstance(plan, HyperError) else None
    name = host_on(disks)
    again = (
        Option("reinstall", _("install this host anew: its guests stay, the system is replaced"))
        if name
        else None
    )
    return One(
        title=_("What is on the disks"),
        prompt=_("What shall become of what is on them?"),
        lines=(
            *(
                (
                    _("The host {name} is on all of them.").format(name=name),
                    _("Recommended: install it anew, unless nothing of its guests is needed any more."),
                )
                if name
                else (
                    disk_choice.contents(situation, disks),
                    _("Recommended: keep it, and use the free space. Nothing that is there is written to.")
                    if refused is None
                    else _(
                        "Keeping it is not possible here, as it is said below. To stop, leave the installer."
                    ),
                )
            ),
        ),
        options=(
            *((again,) if again else ()),
            Option("keep", _("keep all of it: the host goes into the free space of each disk"), refused),
            Option(
                "erase",
                _("erase all of it: the host gets the whole disks"),
                disk_choice.why_not_empty(disks),
            ),
        ),
        default="reinstall" if name else "keep" if refused is None else None,
        field=("storage", "existing"),
    )


def _existing(situation: Situation, disk: Disk) -> One:
    """What becomes of what is on the one disk; where the host could go beside it, that is what is recommended."""
    wanted: Answers = {
        ("storage",): {
            "disk": dict([telling(disk, situation.facts)]),
            "existing": "keep",
            "swap": {"kind": "none"},
        }
    }
    plan = preview(situation, wanted)
    refused = refusal(plan) if isinstance(plan, HyperError) else None
    systems = [each.name for each in situation.facts.systems if each.disk == disk.name]
    name = host_on([disk])
    return One(
        title=_("What is on the disk"),
        prompt=_("What shall become of what is on it?"),
        lines=(
            _("There is: {what}.").format(
                what="; ".join(map(told, losses(disk, disk.name, situation.facts.systems).losses))
            ),
            *(
                [
                    _("{systems} can be started afterwards too, from the firmware's menu.").format(
                        systems=", ".join(systems)
                    )
                ]
                if systems and refused is None
                else []
            ),
            *((_("The host {name} is on it.").format(name=name),) if name else ()),
            _("Recommended: install it anew, unless nothing of its guests is needed any more.")
            if name
            else _("Recommended: keep it, and use the free space. Nothing that is there is written to.")
            if refused is None
            else _("Keeping it is not possible here, as it is said below. To stop, leave the installer."),
        ),
        options=(
            Option("keep", _("keep all of it: the host goes into the free space"), refused),
            Option(
                EACH,
                _("decide for each partition: keep, format or delete it"),
                partitions.why_not(situation, disk),
            ),
            Option("reinstall", _("install this host anew: its guests stay, the system is replaced")),
            Option(
                "erase",
                _("erase all of it: the host gets the whole disk"),
                disk_choice.why_not_empty([disk]),
            ),
        ),
        default="reinstall" if name else "keep" if refused is None else None,
        field=("storage", "existing"),
    )


def _refusal(error: HyperError) -> Notice:
    return Notice(
        title=_("This is not possible"),
        prompt=_("Choose again?"),
        lines=(
            f"{told(error.what)}.",
            told(error.why),
            _("What to do: {remedy}.").format(remedy=told(error.remedy)),
        ),
    )
