"""Data on disks that the host is not installed on: which file systems it mounts, as they are, and where."""

from collections.abc import Generator, Iterable, Iterator
from re import sub
from typing import Any

from installer.answers.select import telling
from installer.answers.sizes import format_size
from installer.errors import HyperError
from installer.facts.disks import Disk, Filesystem, Partition
from installer.guided.preview import preview
from installer.guided.questions import Answers, Item, Line, Many, Option
from installer.guided.situation import Situation
from installer.guided.told import refusal, told
from installer.guided.words import _
from installer.plan.layouts.kept import MOUNTABLE
from installer.plan.losses import content_words

Entry = dict[str, Any]
"""As in the answer file's storage.partitions."""


def dialogue(
    situation: Situation, changes: Answers, chosen: Iterable[str], before: list[Any]
) -> Generator[Item, Any, list[Entry]]:
    """What of the other disks is mounted; asked only where there is something to mount.

    Args:
        situation: The machine, and what was said.
        changes: What was said of the disks in this round.
        chosen: Names of the disks that the host and its guests get.
        before: What was said of partitions already.
    """
    there = {name: (disk, partition, found) for name, disk, partition, found in _there(situation, {*chosen})}
    if not there:
        return []

    def wanted(name: str, place: str) -> Entry:
        disk, partition, _found = there[name]
        entry: Entry = {"disk": dict([telling(disk, situation.facts)]), "mount": place}
        if partition:
            entry |= {"uuid": partition.part_uuid} if partition.part_uuid else {"number": partition.number}
        return entry

    def refused(entries: list[Entry]) -> str | None:
        plan = preview(situation, {**changes, ("storage", "partitions"): [*before, *entries]})
        return refusal(plan) if isinstance(plan, HyperError) else None

    usual = {name: _usual(name, found) for name, (_disk, _partition, found) in there.items()}
    names = yield Many(
        title=_("Data on other disks"),
        prompt=_("Which of these shall the host mount? None is a fine answer."),
        lines=(
            _(
                "Nothing on these disks is written to while the host is installed; it starts without them, too."
            ),
            _(
                "Recommended: what the host or its guests are to read soon; the rest can be mounted by hand any time."
            ),
        ),
        more=(_("Disks that the host does not mount stay as they are, and it does not look into them."),),
        options=tuple(
            Option(name, _title(name, disk, partition, found), refused([wanted(name, usual[name])]))
            for name, (disk, partition, found) in there.items()
        ),
        field=("storage", "partitions", 0, "disk"),
    )
    entries: list[Entry] = []
    for name in names:

        def check(text: str, name: str = name, others: tuple[Entry, ...] = tuple(entries)) -> str | None:
            return refused([*others, wanted(name, text)])

        place = yield Line(
            title=_("Data on other disks"),
            prompt=_("Where does the host mount {name}?").format(name=name),
            default=usual[name],
            check=check,
            field=("storage", "partitions", 0, "mount"),
        )
        entries.append(wanted(name, place))
    return entries


def _there(
    situation: Situation, chosen: set[str]
) -> Iterator[tuple[str, Disk, Partition | None, Filesystem]]:
    """What can be mounted: kernel name, disk, partition, content."""
    for disk in situation.facts.disks:
        if disk.name in chosen or disk.install_medium or not (disk.serial or disk.wwn):
            continue
        for name, partition, found in (
            (disk.name, None, disk.filesystem),
            *((each.name, each, each.filesystem) for each in disk.partitions),
        ):
            if found and found.kind in MOUNTABLE and found.uuid and not _starts(partition):
                yield name, disk, partition, found


def _starts(partition: Partition | None) -> bool:
    """Whether it is what another system starts from."""
    esp = ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef")
    return partition is not None and partition.type_uuid in esp


def _usual(name: str, found: Filesystem) -> str:
    """Where it goes, unless somebody says otherwise."""
    called = sub("[^a-z0-9]+", "-", (found.label or "").lower()).strip("-")
    return f"/srv/{called or name}"


def _title(name: str, disk: Disk, partition: Partition | None, found: Filesystem) -> str:
    return _("{name}, {size}, {content}, on {disk}").format(
        name=name,
        size=format_size(partition.size if partition else disk.size),
        content=told(content_words(found)),
        disk=" ".join(filter(None, (disk.model, disk.serial or disk.wwn))),
    )
