"""Installing the host anew that is on the disks: what it is made of is found out, and asked for where it cannot be seen."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from installer.answers.model import Redundancy
from installer.errors import HyperError
from installer.facts.disks import Disk
from installer.guided.preview import preview
from installer.guided.questions import Answers, Item, Line, One, Option
from installer.guided.situation import Situation
from installer.guided.topics import arrangement
from installer.guided.words import _

SUFFIXES = ("-esp", "-bios", "-root")
"""What the names of a host's partitions end in, behind its own."""
FILESYSTEMS = ("ext4", "xfs", "btrfs")
VOLUMES = ("none", "lvm", "lvm-thin")
SWAPS = ("zram", "partition")
"""Of which one is on the disks, and the other is not; the other kinds are settings alone."""
ARRAYS = (Redundancy.raid10, Redundancy.raid6, Redundancy.raid5)
LOCKED = "crypto_LUKS"


def host_on(disks: Sequence[Disk]) -> str | None:
    """Name of the host whose partitions are on every one of the disks; none: there is not one."""
    names = [set(_names(disk)) for disk in disks]
    common = set.intersection(*names) if names else set()
    return min(common, default=None)


def host_on_several(disks: Sequence[Disk]) -> arrangement.HostThere | None:
    """The host that is on the most of these disks; none: there is none on more than one."""
    found: dict[str, list[str]] = {}
    for disk in disks:
        for name in sorted(set(_names(disk))):
            found.setdefault(name, []).append(disk.name)
    name = max(found, key=lambda each: len(found[each]), default="")
    return arrangement.HostThere(name, tuple(found[name])) if len(found.get(name, ())) > 1 else None


def _names(disk: Disk) -> Iterator[str]:
    for partition in disk.partitions:
        for suffix in SUFFIXES:
            label = partition.label or ""
            # Of several disks each partition has a number behind that: name-root-2.
            head, found, rest = label.rpartition(suffix)
            if found and head and not rest.strip("-0123456789"):
                yield head


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
    tried = tuple(_made(situation, layout, disks, name))
    fitting = [changes for changes in tried if not isinstance(preview(situation, changes), HyperError)]
    if len(fitting) < 2:
        return (fitting or list(tried))[0]
    chosen = yield One(
        title=_("Install anew"),
        prompt=_("How was it put together?"),
        lines=(
            _("It cannot be seen from outside. With a wrong choice it ends before anything is changed."),
            _("Recommended: what you chose then; a support bundle or your answer file has it."),
        ),
        options=tuple(Option(number, _words(changes)) for number, changes in enumerate(fitting)),
        default=0,
        field=("storage", "filesystem"),
    )
    return fitting[int(chosen)]


def is_locked(disks: Sequence[Disk]) -> bool:
    """Whether LUKS is on any of the disks."""
    return any(
        partition.filesystem is not None and partition.filesystem.kind == LOCKED
        for disk in disks
        for partition in disk.partitions
    )


def _made(situation: Situation, layout: str, disks: list[Disk], name: str) -> Iterator[dict[Any, Any]]:
    """Each way in which the host could have been installed, the usual one first."""
    encryption = _encryption(situation) if is_locked(disks) else None
    for filesystem in FILESYSTEMS:
        for volumes in VOLUMES if filesystem != "btrfs" else VOLUMES[:1]:
            for redundancy in ARRAYS if layout == "array" else (None,):
                for swap in SWAPS:
                    yield {
                        **arrangement.decided(layout, disks, situation.facts, filesystem, swap),
                        ("storage", "existing"): "reinstall",
                        ("storage", "volumes"): None if volumes == "none" else volumes,
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


def _words(changes: dict[Any, Any]) -> str:
    parts = (
        changes[("storage", "filesystem")],
        changes[("storage", "redundancy")],
        changes[("storage", "volumes")],
        _("with a swap partition") if changes[("storage", "swap")]["kind"] == "partition" else None,
    )
    return ", ".join(filter(None, parts))


__all__ = ["dialogue", "host_on", "host_on_several", "is_locked"]
