"""Installing the host anew that is on the disks: what it is made of is found out, and asked for where it cannot be seen."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from installer.answers.model import Redundancy
from installer.answers.problems import Path
from installer.answers.select import telling
from installer.answers.storage_shape import usual_redundancy
from installer.errors import HyperError
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.guided.preview import preview
from installer.guided.questions import Answers, Item, Line, One, Option, Work
from installer.guided.situation import Situation
from installer.guided.topics import arrangement
from installer.guided.topics.host_names import SUFFIXES, host_on, names_on
from installer.guided.words import _

FILESYSTEMS = ("ext4", "xfs", "btrfs")
VOLUMES = ("none", "lvm", "lvm-thin")
SWAPS = ("zram", "partition")
"""Of which one is on the disks, and the other is not; the other kinds are settings alone."""
ARRAYS = (Redundancy.raid10, Redundancy.raid6, Redundancy.raid5)
GUESTS = "-vms"
"""What the names of partitions for guests alone end in, on disks of their own."""
POOLS: Sequence[Mapping[str, str]] = (
    *({"kind": "dir", "filesystem": each} for each in ("xfs", "ext4", "btrfs")),
    {"kind": "lvm-thin"},
    {"kind": "zfs"},
)
POOL: Path = ("storage", "pool")
LOCKED = "crypto_LUKS"


def host_on_several(disks: Sequence[Disk]) -> arrangement.HostThere | None:
    """The host that is on the most of these disks; none: there is none on more than one."""
    found: dict[str, list[str]] = {}
    for disk in disks:
        for name in sorted(set(names_on(disk))):
            found.setdefault(name, []).append(disk.name)
    name = max(found, key=lambda each: len(found[each]), default="")
    return arrangement.HostThere(name, tuple(found[name])) if len(found.get(name, ())) > 1 else None


def dialogue(situation: Situation, layout: str, disks: list[Disk]) -> Generator[Item, Any, Answers]:
    """Which host; then how it is put together, if more than one way fits what can be seen of it."""
    name = yield Line(
        title=_("Install anew"),
        prompt=_("Name of the host that is on the disk:"),
        default=host_on(disks) or str(situation.said("hostname", default="kvm1")),
        lines=(
            _(
                "Its guests, their definitions and storage stay. Everything else on its root goes, but for what "
                "storage.keep in an answer file names."
            ),
        ),
        field=("hostname",),
    )
    search = Search(layout, tuple(disk.name for disk in disks), name, situation)
    ways = yield Work(
        title=_("looking at how the host was put together"), task="reckon", arguments=(search,)
    )
    for part in _parts():
        values = list(dict.fromkeys(part.of(way) for way in ways))
        if len(values) > 1:
            wanted = yield One(
                title=_("Install anew"),
                prompt=part.prompt,
                lines=(
                    _(
                        "It cannot be seen from outside. With a wrong choice it ends before anything is changed."
                    ),
                    _("Recommended: what you chose then; a support bundle or your answer file has it."),
                ),
                options=tuple(Option(value, part.words.get(value) or str(value)) for value in values),
                default=values[0],
                field=part.field,
            )
            ways = [way for way in ways if part.of(way) == wanted]
    decided: Answers = ways[0]
    return decided


@dataclass(frozen=True)
class Part:
    """Something that may be unclear."""

    field: Path
    """In the answer file."""
    prompt: str
    """The question."""
    words: Mapping[Any, str]
    """For values that are not words themselves."""

    def of(self, way: Answers) -> Any:
        """Its value; none where this way has no such thing."""
        value = way.get(self.field[:2])
        for name in self.field[2:]:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def _parts() -> tuple[Part, ...]:
    """What is asked, where more than one way fits."""
    none = {None: _("no")}
    return (
        Part(("storage", "filesystem"), _("Which file system has it?"), {}),
        Part(("storage", "redundancy"), _("Which kind of array is it?"), {}),
        Part(("storage", "volumes"), _("Does LVM divide its space?"), none),
        Part(
            ("storage", "swap", "kind"),
            _("Has it a swap partition?"),
            {"zram": _("no"), "partition": _("yes")},
        ),
        Part(
            ("storage", "pool", "kind"),
            _("What do its guests' disks lie on?"),
            {
                None: _("files on the root"),
                "dir": _("files, on disks of their own"),
                "lvm-thin": _("lvm-thin: a volume for each guest"),
                "zfs": _("zfs: a dataset for them"),
            },
        ),
        Part(("storage", "pool", "filesystem"), _("Which file system have the disks for guests?"), {}),
        Part(
            ("storage", "pool", "redundancy"), _("How do the disks for guests stand in for each other?"), {}
        ),
    )


@dataclass(frozen=True)
class Search:
    """Looks for every way to put a host together that fits what is seen of it; the same for the same host and disks."""

    layout: str
    """Of the answer file."""
    disks: tuple[str, ...]
    """Names."""
    name: str
    """Of the host."""
    situation: Situation = field(compare=False)
    """Where the conversation stands."""

    def __call__(self) -> list[Answers]:
        """Those that fit; when none does, the most usual, whose plan says what speaks against it."""
        facts = self.situation.facts
        places = {disk.name: _place(disk, self.name, *SUFFIXES) or 1 for disk in facts.disks}
        disks = sorted(
            (disk for disk in facts.disks if disk.name in self.disks), key=lambda disk: places[disk.name]
        )
        ways = self._fitting(list(_made(self.situation, self.layout, disks, self.name)))
        for_guests = {
            place: disk
            for disk in facts.disks
            if disk.name not in self.disks and (place := _place(disk, self.name, GUESTS))
        }
        if for_guests:
            # They stand apart from the system: what fits beside one way fits beside all.
            disks = [disk for _number, disk in sorted(for_guests.items())]
            pools = [
                way[POOL]
                for way in self._fitting([{**ways[0], POOL: each} for each in _pools(disks, facts)])
            ]
            return [{**way, POOL: pool} for way in ways for pool in pools]
        thin = [{**way, POOL: {"kind": "lvm-thin"}} for way in ways if way[("storage", "volumes")] == "lvm"]
        return [*ways, *(way for way in thin if self._fits(way))]

    def _fits(self, way: Answers) -> bool:
        return not isinstance(preview(self.situation, way), HyperError)

    def _fitting(self, tried: Sequence[Answers]) -> Sequence[Answers]:
        return [way for way in tried if self._fits(way)] or tried[:1]


def _place(disk: Disk, name: str, *suffixes: str) -> int | None:
    """Which of several disks it was when the host was installed, by its partition of the host that ends so; none: it has no
    such partition.
    """
    for partition in disk.partitions:
        for suffix in suffixes:
            head, found, rest = (partition.label or "").partition(f"{name}{suffix}")
            if found and not head and not rest.strip("-0123456789"):
                return int(rest.strip("-") or 1)
    return None


def _pools(disks: Sequence[Disk], facts: Facts) -> Iterator[dict[str, Any]]:
    """Each way in which disks for guests alone could have been put together, the usual one first."""
    selectors = [dict([telling(disk, facts)]) for disk in disks]
    for pool in POOLS:
        usual = usual_redundancy(len(disks), zfs=pool["kind"] == "zfs")
        for redundancy in dict.fromkeys((usual, *Redundancy)) if len(disks) > 1 else (None,):
            several = {"redundancy": redundancy.value} if redundancy else {}
            yield {**pool, "disks": selectors, **several}


def is_locked(disks: Sequence[Disk]) -> bool:
    """Whether LUKS is on any of the disks."""
    return any(
        partition.filesystem is not None and partition.filesystem.kind == LOCKED
        for disk in disks
        for partition in disk.partitions
    )


def _made(situation: Situation, layout: str, disks: list[Disk], name: str) -> Iterator[dict[Any, Any]]:
    """Each way in which the host could have been installed, the usual one first."""
    # What is locked on a disk may be somebody else's, beside a host that is not.
    encryptions = (_encryption(situation), None) if is_locked(disks) else (None,)
    volumes = {name: VOLUMES if name != "btrfs" else VOLUMES[:1] for name in FILESYSTEMS}
    arrays = ARRAYS if layout == "array" else (None,)
    for filesystem in FILESYSTEMS:
        for encryption, volume, redundancy, swap in product(encryptions, volumes[filesystem], arrays, SWAPS):
            yield {
                **arrangement.decided(layout, disks, situation.facts, filesystem, swap),
                ("storage", "existing"): "reinstall",
                ("storage", "volumes"): None if volume == "none" else volume,
                ("storage", "redundancy"): redundancy.value if redundancy else None,
                ("storage", "encryption"): encryption,
                ("hostname",): name,
            }


def _encryption(situation: Situation) -> Any:
    """As an answer file says; else with the passphrase where it will be, once it is typed."""
    said = situation.said("storage", "encryption", default={})
    return (
        said
        if said.get("enable")
        else {"enable": True, "passphrase": {"file": f"{situation.secrets}/passphrase"}}
    )


__all__ = ["Search", "dialogue", "host_on", "host_on_several", "is_locked"]
