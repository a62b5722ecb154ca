"""What becomes of each partition that is on the disk already: it stays, is formatted or deleted."""

from collections.abc import Generator, Mapping
from typing import Any

from installer.answers.select import telling
from installer.answers.sizes import format_size
from installer.errors import HyperError
from installer.facts.disks import Disk, Partition
from installer.guided.preview import complete, filled, preview
from installer.guided.questions import Answers, Item, Line, One, Option
from installer.guided.situation import Level, Situation, changed
from installer.guided.told import refusal, told
from installer.guided.words import _
from installer.plan.describe import draw
from installer.plan.layouts.kept import Kept, keep
from installer.plan.losses import partition_words, picture
from installer.plan.model import Plan, Region
from installer.plan.requirements import firmware_to_use

DONE = 0
"""No partition has this number."""
ROOT = "/"
_BAR = 76

Fate = Mapping[str, Any]
"""As in the answer file's storage.partitions, without what says which partition."""


def answers(situation: Situation, disk: Disk, fates: Mapping[int, Fate]) -> dict[tuple[str | int, ...], Any]:
    """What the answer file says of the disk's partitions; of those that just stay it says nothing."""
    named = [
        {**_which(partition), **fates[partition.number]}
        for partition in disk.partitions
        if fates.get(partition.number)
    ]
    return {
        ("storage", "layout"): None,
        ("storage", "disks"): None,
        ("storage", "pool"): None,
        ("storage", "volumes"): None,
        ("storage", "redundancy"): None,
        ("storage", "disk"): dict([telling(disk, situation.facts)]),
        ("storage", "existing"): "keep",
        ("storage", "partitions"): named or None,
    }


def dialogue(situation: Situation, disk: Disk) -> Generator[Item, Any, list[Fate] | None]:
    """A page of all partitions, from which each is gone to; until the host has its place."""
    fates: dict[int, Fate] = {}
    while True:
        number = yield _overview(situation, disk, fates)
        if number == DONE:
            named: list[Fate] | None = answers(situation, disk, fates)[("storage", "partitions")]
            return named
        partition = next(each for each in disk.partitions if each.number == number)
        fates[number] = yield from _decided(situation, disk, fates, partition)


def why_not(situation: Situation, disk: Disk) -> str | None:
    """Why nothing on the disk can be kept; none: it can."""
    found = _kept(situation, disk, {})
    return refusal(found) if isinstance(found, HyperError) else None


def _which(partition: Partition) -> Fate:
    return {"uuid": partition.part_uuid} if partition.part_uuid else {"number": partition.number}


def _kept(situation: Situation, disk: Disk, fates: Mapping[int, Fate]) -> Kept | HyperError:
    """What these answers leave on the disk, whether the host has a place on it or not."""
    try:
        asked = complete(changed(filled(situation), answers(situation, disk, fates)))
        return keep(situation.facts, asked, disk, firmware_to_use(situation.facts, asked))
    except HyperError as error:
        return error


def _overview(situation: Situation, disk: Disk, fates: Mapping[int, Fate]) -> One:
    swapless: Answers = {**answers(situation, disk, fates), ("storage", "swap"): {"kind": "none"}}
    plan = preview(situation, swapless)
    kept = _kept(situation, disk, fates)
    return One(
        title=_("Partitions"),
        prompt=_("Which one shall be decided about?"),
        lines=(
            "\n".join(
                (
                    f" {_('before')}:",
                    f" {draw(picture(disk), _BAR)}",
                    f" {_('after')}:",
                    f" {draw(_after(plan, kept), _BAR)}",
                )
            ),
            _where(plan, kept),
        ),
        more=(
            _("A partition that nothing is decided about stays as it is, and is not looked into."),
            _(
                "Deleted ones become free space; the host takes the largest free stretch, unless one is its root."
            ),
        ),
        options=(
            *(
                Option(each.number, _entry(each, fates.get(each.number, {})))
                for each in sorted(disk.partitions, key=lambda each: each.start)
            ),
            Option(DONE, _("done: go on"), refusal(plan) if isinstance(plan, HyperError) else None),
        ),
        default=next((each.number for each in disk.partitions), None)
        if isinstance(plan, HyperError)
        else DONE,
        field=("storage", "partitions"),
    )


def _after(plan: Plan | HyperError, kept: Kept | HyperError) -> tuple[Region, ...]:
    """The disk afterwards; without a place for the host, what stays and what is free."""
    if isinstance(plan, Plan):
        return plan.pictures[0].after
    if isinstance(kept, HyperError):
        return ()
    disk = kept.disk
    gone = {each.number for each in kept.deleted}
    return picture(
        disk.model_copy(update={"partitions": tuple(p for p in disk.partitions if p.number not in gone)})
    )


def _where(plan: Plan | HyperError, kept: Kept | HyperError) -> str:
    """Where the host goes, or why it cannot."""
    if isinstance(plan, HyperError):
        return _("The host has no place yet: {reason}.").format(reason=told(plan.why).rstrip("."))
    assert isinstance(kept, Kept)
    if kept.root:
        return _("The host goes into partition {number}; {size} are its.").format(
            number=kept.root[0].number, size=format_size(kept.room)
        )
    return _("The host goes into the free space, {size}.").format(size=format_size(kept.room))


def _entry(partition: Partition, fate: Fate) -> str:
    return _("{name}, {size}, {content}: {fate}").format(
        name=f"{partition.number} {partition.label or ''}".rstrip(),
        size=format_size(partition.size),
        content=_content(partition),
        fate=_fate(fate),
    )


def _content(partition: Partition) -> str:
    return told(partition_words(partition))


def _fate(fate: Fate) -> str:
    place = fate.get("mount")
    match fate.get("action", "keep"):
        case "delete":
            return _("is deleted")
        case "format" if place == ROOT:
            return _("becomes the root")
        case "format":
            return _("is emptied, for {place}").format(place=place)
        case _ if place:
            return _("stays, for {place}").format(place=place)
        case _:
            return _("stays")


def _decided(
    situation: Situation, disk: Disk, fates: Mapping[int, Fate], partition: Partition
) -> Generator[Item, Any, Fate]:
    """The pages about one partition."""

    def refused(fate: Fate) -> str | None:
        found = _kept(situation, disk, {**fates, partition.number: fate})
        return refusal(found) if isinstance(found, HyperError) else None

    there = f"/srv/{partition.number}"
    mounted: Fate = {"action": "keep", "mount": there}
    root: Fate = {"action": "format", "mount": ROOT}
    emptied: Fate = {"action": "format", "mount": there}
    gone: Fate = {"action": "delete"}
    kind = yield One(
        title=_("Partition {number}").format(number=partition.number),
        prompt=_("What shall become of it?"),
        lines=(
            _("There is: {what}.").format(what=f"{format_size(partition.size)}, {_content(partition)}"),
            _("Formatting and deleting lose everything in it. Nothing is written before the confirmation."),
        ),
        options=(
            Option("keep", _("it stays, and the host does not look into it")),
            Option("mount", _("it stays, and the host mounts it"), refused(mounted)),
            Option("root", _("format it: the host goes there"), refused(root)),
            Option("format", _("format it: the host mounts it, empty"), refused(emptied)),
            Option("delete", _("delete it: free space"), refused(gone)),
        ),
        default="keep",
        field=("storage", "partitions", 0, "action"),
    )
    match kind:
        case "keep":
            return {}
        case "delete":
            return gone
        case "root":
            grown: Fate = {**root, "grow": True}
            return grown if (yield from _grown(situation, disk, fates, partition, grown)) else root
        case _:
            chosen = emptied if kind == "format" else mounted
            place = yield Line(
                title=_("Partition {number}").format(number=partition.number),
                prompt=_("Where does the host mount it?"),
                default=there,
                check=lambda text: refused({**chosen, "mount": text}),
                field=("storage", "partitions", 0, "mount"),
            )
            return {**chosen, "mount": place}


def _grown(
    situation: Situation, disk: Disk, fates: Mapping[int, Fate], partition: Partition, grown: Fate
) -> Generator[Item, Any, bool]:
    """Whether the root takes the free space behind it as well; not asked where there is none."""
    found = _kept(situation, disk, {**fates, partition.number: grown})
    if situation.level is Level.beginner or isinstance(found, HyperError) or found.root is None:
        return False
    more = found.room - partition.size
    if more <= 0:
        return False
    chosen: bool = yield One(
        title=_("Partition {number}").format(number=partition.number),
        prompt=_("Shall it take the free space behind it too?"),
        lines=(_("{size} are free there.").format(size=format_size(more)),),
        options=(Option(True, _("yes, all of it")), Option(False, _("no, its size stays"))),
        default=True,
        field=("storage", "partitions", 0, "grow"),
    )
    return chosen
