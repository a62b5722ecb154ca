"""Where the host goes: disks, how they are put together, the file system, swap; with a drawing of before and after."""

from collections.abc import Iterable, Iterator
from typing import Any

from installer.answers.select import may_destroy, telling
from installer.answers.select import title as disk_title
from installer.answers.sizes import format_size
from installer.errors import HyperError
from installer.facts import Facts
from installer.facts.disks import Disk, Health
from installer.guided.preview import drawing, preview
from installer.guided.questions import Answers, Dialogue, Many, Notice, One, Option
from installer.guided.situation import Situation
from installer.guided.words import _
from installer.plan.losses import losses


def title() -> str:
    """For the head of the page."""
    return _("Disks")


def dialogue(situation: Situation) -> Dialogue:
    """Layout, disks, file system, swap; then what it comes to, and round again if that is not wanted."""
    facts = situation.facts
    options = tuple(_options(facts, situation))
    possible = {option.value for option in options if option.refused is None}
    free = [disk for disk in facts.disks if disk.name in possible]
    if not free:
        yield Notice(
            title=_("No disk is free"),
            prompt=_("Noted?"),
            lines=(
                *(f"{option.title}: {option.refused}" for option in options),
                _(
                    "Way on: unmount or stop what uses a disk (on another console), or connect one, and start again."
                ),
            ),
        )
        return {("storage",): None}
    while True:
        layout = yield _layout(free)
        if layout == "mirror":
            chosen = yield _several(situation, options)
        else:
            name = yield _one(situation, options)
            chosen = (name,)
        disks = [disk for disk in facts.disks if disk.name in chosen]
        existing = "erase"
        if layout == "one-disk" and disks[0].partitions:
            existing = yield _existing(situation, disks[0])
        filesystem = yield _filesystem(layout)
        swap = yield _swap(situation)
        kept: Answers = {("storage", "existing"): None if existing == "erase" else existing}
        changes = {**_changes(layout, disks, facts, filesystem, swap), **kept}
        plan = preview(situation, changes)
        if not isinstance(plan, HyperError):
            agreed = yield One(
                title=_("Before and after"),
                prompt=_("Is this right? Nothing is written yet."),
                lines=(
                    drawing(plan),
                    *(
                        _("Lost on {disk}: {what}.").format(disk=each.disk, what="; ".join(each.losses))
                        for each in plan.destroyed
                    ),
                    *(
                        _("Stays on {disk}: {what}.").format(disk=each.disk, what="; ".join(each.kept))
                        for each in plan.destroyed
                        if each.kept
                    ),
                    *plan.warnings,
                ),
                options=(Option(True, _("Yes, go on")), Option(False, _("No, choose again"))),
                default=True,
            )
        else:
            agreed = False
            yield _refusal(plan)
        if agreed:
            return changes


def _changes(layout: str, disks: list[Disk], facts: Facts, filesystem: str, swap: str) -> Answers:
    selectors = [dict([telling(disk, facts)]) for disk in disks]
    several: Any = selectors if layout == "mirror" else None
    return {
        ("storage", "layout"): layout,
        ("storage", "disk"): None if several else selectors[0],
        ("storage", "disks"): several,
        ("storage", "filesystem"): filesystem,
        ("storage", "swap"): {"kind": swap},
    }


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
    refused = f"{plan.what}: {plan.why}" if isinstance(plan, HyperError) else None
    systems = [each.name for each in situation.facts.systems if each.disk == disk.name]
    return One(
        title=_("What is on the disk"),
        prompt=_("What shall become of what is on it?"),
        lines=(
            _("There is: {what}.").format(
                what="; ".join(losses(disk, disk.name, situation.facts.systems).losses)
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
            _("Recommended: keep it, and use the free space. Nothing that is there is written to.")
            if refused is None
            else _("Keeping it is not possible here, as it is said below. To stop, leave the installer."),
        ),
        more=(
            _(
                "Single partitions can be formatted, deleted or mounted too, and a host can be installed anew around its "
                "guests: write that into the answer file (storage.existing, storage.partitions)."
            ),
        ),
        options=(
            Option("keep", _("keep all of it: the host goes into the free space"), refused),
            Option("erase", _("erase all of it: the host gets the whole disk")),
        ),
        default="keep" if refused is None else None,
        field=("storage", "existing"),
    )


def _refusal(error: HyperError) -> Notice:
    return Notice(
        title=_("This is not possible"),
        prompt=_("Choose again?"),
        lines=(f"{error.what}.", error.why, _("What to do: {remedy}.").format(remedy=error.remedy)),
    )


def _layout(free: list[Disk]) -> One:
    sizes = [disk.size for disk in free]
    # Nobody is talked into losing what is on a second disk.
    alike = len(free) > 1 and all(map(_is_blank, free)) and min(sizes) * 10 >= max(sizes) * 9
    enough = len(free) > 1
    return One(
        title=_("Layout"),
        prompt=_("How shall the disks be used?"),
        lines=(
            _("Free disks: {count}.").format(count=len(free)),
            _(
                "Recommended: a mirror, since there are two or more blank disks of one size: the host goes on, and "
                "starts, when one of them fails. It costs the space of the others."
            )
            if alike
            else _("Recommended: one disk. The others stay as they are.")
            if enough
            else _("Recommended: one disk; a mirror would need two."),
        ),
        more=(
            _(
                "A mirror takes whole disks: what was on them is lost, and you see what before. One disk can be shared."
            ),
        ),
        options=(
            Option("one-disk", _("one disk")),
            Option(
                "mirror",
                _("mirror: the same on two or more disks"),
                None if enough else _("A mirror needs two free disks, and there is only one here."),
            ),
        ),
        default="mirror" if alike else "one-disk",
        field=("storage", "layout"),
    )


def _options(facts: Facts, situation: Situation) -> Iterator[Option]:
    for disk in facts.disks:
        reason = _why_not(disk) or _why_no_plan(disk, situation)
        serial = disk.serial or disk.wwn or _("no serial")
        yield Option(disk.name, f"{disk.name}, {format_size(disk.size)}, {serial}", reason)


def _contents(situation: Situation) -> str:
    """What is on each disk, as a table."""
    disks = situation.facts.disks
    width = max((len(disk.name) for disk in disks), default=0)
    return "\n".join(
        f" {disk.name:<{width}}  {disk.model or _('unknown model')}: {_found(disk, situation)}"
        for disk in disks
    )


def _why_no_plan(disk: Disk, situation: Situation) -> str | None:
    """What the planner says against the plainest host on this disk: too small, part of something larger."""
    plainest: Answers = {
        ("storage",): {"disk": dict([telling(disk, situation.facts)]), "swap": {"kind": "none"}}
    }
    plan = preview(situation, plainest)
    return f"{plan.what}: {plan.why}" if isinstance(plan, HyperError) else None


def _found(disk: Disk, situation: Situation) -> str:
    lost = losses(disk, disk.name, situation.facts.systems).losses
    return (
        lost[0]
        if len(lost) == 1
        else _("{first} and {count} more").format(first=lost[0], count=len(lost) - 1)
    )


def _why_not(disk: Disk) -> str | None:
    """Why a disk cannot be chosen; none: it can."""
    if disk.install_medium:
        return _("The installer itself runs from it.")
    if disk.in_use:
        return _("It is in use: {uses}. Unmount or stop that on another console, then start again.").format(
            uses="; ".join(disk.in_use)
        )
    if disk.read_only:
        return _("It can only be read: look for a write-protect switch.")
    if not may_destroy(disk):
        return _("It has no serial number, so it could not be told from another disk when it is written to.")
    return None


def _hints(disks: Iterable[Disk]) -> Iterator[str]:
    for disk in disks:
        if isinstance(disk.health, Health) and disk.health.failing:
            yield _("{disk} reports that it is failing: {summary}.").format(
                disk=disk_title(disk), summary=disk.health.summary
            )


def _one(situation: Situation, options: tuple[Option, ...]) -> One:
    possible = [each.value for each in options if each.refused is None]
    return One(
        title=_("Disk"),
        prompt=_("Which disk? What becomes of what is on it is asked next.")
        if any(disk.partitions for disk in situation.facts.disks if disk.name in possible)
        else _("Which disk? Everything on it will be lost."),
        lines=(_contents(situation), *_hints(situation.facts.disks)),
        more=(_("Names such as sda change from boot to boot; the serial number is what counts."),),
        options=options,
        default=possible[0] if len(possible) == 1 else None,
        field=("storage", "disk"),
    )


def _several(situation: Situation, options: tuple[Option, ...]) -> Many:
    def check(chosen: tuple[Any, ...]) -> str | None:
        return None if len(chosen) >= 2 else _("A mirror needs at least two disks: choose another.")

    return Many(
        title=_("Disks"),
        prompt=_("Which disks? Everything on them will be lost."),
        lines=(
            _contents(situation),
            _("The smallest decides how large the mirror is."),
            *_hints(situation.facts.disks),
        ),
        options=options,
        default=tuple(_alike(situation.facts, options)),
        check=check,
        field=("storage", "disks"),
    )


def _alike(facts: Facts, options: tuple[Option, ...]) -> Iterator[str]:
    """Blank disks of one size, the largest of those that can be chosen."""
    possible = {option.value for option in options if option.refused is None}
    blank = [disk for disk in facts.disks if disk.name in possible and _is_blank(disk)]
    largest = max((disk.size for disk in blank), default=0)
    yield from (disk.name for disk in blank if disk.size * 10 >= largest * 9)


def _is_blank(disk: Disk) -> bool:
    return not (disk.partitions or disk.filesystem or disk.holders)


def _filesystem(layout: str) -> One:
    mirrored = layout == "mirror"
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
        ),
        default="btrfs" if mirrored else "ext4",
        field=("storage", "filesystem"),
    )


def _swap(situation: Situation) -> One:
    memory = format_size(situation.facts.memory.total)
    return One(
        title=_("Swap"),
        prompt=_("Where may memory go when it runs short?"),
        lines=(
            _("Recommended: zram, compressed in the memory ({memory}): quick, and takes no disk.").format(
                memory=memory
            ),
        ),
        options=(
            Option("zram", _("zram: into the memory itself, compressed")),
            Option("partition", _("a partition: slower, but adds to the memory")),
            Option("none", _("nowhere: programs are ended when memory runs out")),
        ),
        default="zram",
        field=("storage", "swap", "kind"),
    )
