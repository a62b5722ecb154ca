"""Layouts by hardware: what suits the disks that the answers name, with the reason. Everything that they say, stays."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from installer.answers.model import (
    Answers,
    DiskSelector,
    FilesystemKind,
    LayoutKind,
    PoolAnswers,
    Redundancy,
    StorageAnswers,
    VolumesKind,
)
from installer.answers.problems import shown_path
from installer.answers.select import select_disks, title
from installer.answers.sizes import format_size
from installer.answers.storage_check import check_storage
from installer.answers.storage_shape import usual_redundancy
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk, Transport

APART = 4
"""How many times larger disks must be to be another class: data beside a system."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A layout for some disks."""

    name: str
    """Which preset: `one disk`, `two disks mirrored`, `many disks`, `fast system and big data`."""
    layout: LayoutKind
    """For the system's disks."""
    system: tuple[Disk, ...]
    """Which these are."""
    pool: tuple[Disk, ...] = ()
    """Disks for VMs alone."""
    filesystem: FilesystemKind
    """Of the root."""
    because: str
    """Why, in a sentence."""


def propose(disks: tuple[Disk, ...]) -> Proposal:
    """What suits these disks.

    Args:
        disks: At least one.
    """
    system, pool, reason = _classes(disks)
    count = len(system)
    redundancy = usual_redundancy(count)
    if count == 1:
        layout, name, filesystem = LayoutKind.one_disk, "one disk", FilesystemKind.ext4
        words = f"{title(system[0])} is the only one of its class"
    elif redundancy is Redundancy.mirror:
        layout, name, filesystem = (
            LayoutKind.mirror,
            f"{_number(count)} disks mirrored",
            FilesystemKind.btrfs,
        )
        words = f"{_number(count)} disks of a class carry the same, so that any of them may fail; btrfs repairs from them"
    else:
        layout, name = LayoutKind.array, "many disks"
        filesystem = FilesystemKind.btrfs if redundancy is Redundancy.raid10 else FilesystemKind.xfs
        words = f"{count} disks of a class give room and speed together ({redundancy})"
    if pool:
        name = "fast system and big data"
        words = f"{words}; {reason}"
    return Proposal(
        name=name, layout=layout, system=system, pool=pool, filesystem=filesystem, because=f"{name}: {words}"
    )


def proposed(facts: Facts, answers: Answers) -> tuple[Answers, str | None]:
    """The answers with a layout in place of `auto`, and the reason; as they are where they name one.

    Raises:
        HyperError: the disks do not match (Exit.selection), or the answers do not fit together (Exit.answers).
    """
    storage = answers.storage
    if storage.layout is not LayoutKind.auto:
        _require_fitting(storage, "the storage that the answers ask for does not fit together")
        return answers, None
    disks = tuple(disk for selector in storage.selectors for disk in select_disks(selector, facts))
    own_pool = storage.pool is not None
    proposal = propose(disks)
    if own_pool and proposal.pool:
        # Who names a pool has divided the disks already.
        proposal = propose(tuple(disk for disk in disks if disk in proposal.system))
    chosen = disks if own_pool else proposal.system
    changes: dict[str, Any] = {"layout": proposal.layout}
    if all(disk.serial or disk.wwn for disk in chosen):
        changes |= {"disk": None, "disks": tuple(_selector(disk, facts) for disk in chosen)}
    if "filesystem" not in storage.model_fields_set and storage.volumes is VolumesKind.none:
        changes["filesystem"] = proposal.filesystem
    if proposal.pool and not own_pool:
        changes["pool"] = PoolAnswers(disks=tuple(_selector(disk, facts) for disk in proposal.pool))
    resolved = storage.model_copy(update=changes)
    _require_fitting(
        resolved,
        f"storage.layout = 'auto' means {proposal.layout.value!r} on this machine, which does not fit the rest",
    )
    return answers.model_copy(update={"storage": resolved}), proposal.because


def _require_fitting(storage: StorageAnswers, what: str) -> None:
    problems = list(check_storage(storage))
    if problems:
        raise HyperError(
            what,
            why="; ".join(f"{shown_path(problem.path)} {problem.wrong}" for problem in problems),
            remedy=problems[0].remedy,
            code=Exit.answers,
        )


def _classes(disks: tuple[Disk, ...]) -> tuple[tuple[Disk, ...], tuple[Disk, ...], str]:
    """The system's disks, the rest for data, and why they differ."""
    turning = tuple(disk for disk in disks if disk.rotational is True)
    still = tuple(disk for disk in disks if disk not in turning)
    if turning and still:
        return still, turning, f"{len(turning)} that turn are slow for a system and big for its VMs"
    ordered = sorted(disks, key=lambda disk: disk.size)
    for place, (left, right) in enumerate(pairwise(ordered), start=1):
        if right.size >= APART * left.size and left.transport is not Transport.usb:
            small, big = ordered[:place], ordered[place:]
            return (
                tuple(disk for disk in disks if disk in small),
                tuple(disk for disk in disks if disk in big),
                f"the larger, from {format_size(right.size)} on, are for its VMs",
            )
    return disks, (), ""


def _selector(disk: Disk, facts: Facts) -> DiskSelector:
    """The property that finds exactly this disk."""
    serials = Counter(other.serial for other in facts.disks)
    if disk.serial and serials[disk.serial] == 1:
        return DiskSelector(serial=disk.serial)
    return DiskSelector(wwn=disk.wwn)


def _number(count: int) -> str:
    return {2: "two", 3: "three"}.get(count, str(count))
