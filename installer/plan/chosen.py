"""Which disks the answers mean: the system's, and the pool's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from installer.answers.model import Answers, ExistingKind
from installer.answers.select import select_disks, title
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.plan.identity import identify, shared_names
from installer.plan.layouts.fates import Fates, fates
from installer.plan.losses import holding
from installer.plan.model import DiskIdentity
from installer.plan.reach import at_rest, idle_stacks, require_contained
from installer.plan.storage.disk import WholeDisk, disk_title

MAIN = "main"
"""Key of the disk that the host boots from; several are numbered."""
POOL = "pool"
"""Key of a disk that the pool has for itself."""


@dataclass(frozen=True)
class Chosen:
    """A disk of the plan, and what the machine says about it."""

    disk: Disk
    """As probed."""
    identity: DiskIdentity
    """As planned."""

    @property
    def title(self) -> str:
        """For a person."""
        return disk_title(self.identity)

    @property
    def whole(self) -> WholeDisk:
        """As an element of the layout."""
        return WholeDisk(
            key=self.identity.key,
            disk=self.identity,
            old_partitions=holding(self.disk),
        )


@dataclass(frozen=True)
class Choice:
    """All disks of a plan."""

    system: tuple[Chosen, ...]
    """What the host boots from."""
    pool: tuple[Chosen, ...]
    """Of the pool alone."""
    idle: tuple[str, ...]
    """What came up on them by itself and has to be stopped, for a person."""

    @property
    def every(self) -> tuple[Chosen, ...]:
        """The system's first."""
        return (*self.system, *self.pool)


def choose(facts: Facts, answers: Answers) -> Choice:
    """The system's disks and the pool's own, each once.

    Raises:
        HyperError: two selectors mean the same disk, or something on the disks is in use, or reaches another (Exit.busy).
    """
    storage = answers.storage
    selected = {
        key: [
            (disk, selector.by_id)
            for selector in selectors
            # One selector's disks in an order that no reordering of kernel names changes.
            for disk in sorted(select_disks(selector, facts), key=lambda disk: min(disk.by_id, default=""))
        ]
        for selectors, key in ((storage.selectors, MAIN), (storage.pool_selectors, POOL))
    }
    everything = [disk for disks in selected.values() for disk, _ in disks]
    _require_once(everything)
    touched = [at_rest(disk, everything) for disk in everything]
    if keeps(answers):
        system_disks = [disk for disk, _ in selected[MAIN]]
        meant = fates(facts, answers, system_disks, [disk for disk, _ in selected[POOL]])
        touched[: len(system_disks)] = [_touched(disk, meant) for disk in touched[: len(system_disks)]]
    require_contained(touched, facts.disks)
    shared = shared_names(facts.disks)
    system, pool = (
        tuple(
            Chosen(disk, identify(disk, f"{key}-{number}" if several else key, shared, named))
            for number, (disk, named) in enumerate(disks, start=1)
        )
        for key, disks in selected.items()
        for several in (len(disks) > 1 or key == POOL,)
    )
    # A reinstallation brings up by itself, by UUID, what the host is made of.
    idle = () if storage.existing is ExistingKind.reinstall else idle_stacks(everything)
    return Choice(system, pool, idle)


def keeps(answers: Answers) -> bool:
    """Whether something stays on the system's disks."""
    return answers.storage.existing is ExistingKind.keep


def _touched(disk: Disk, meant: Fates) -> Disk:
    """The disk without what sleeps in partitions that stay: only what is in use keeps their table from being changed."""
    named = {number for number, each in meant.of(disk).items() if each.action != "keep"}
    partitions = tuple(
        each
        if each.number in named
        else each.model_copy(
            update={"filesystem": None, "holders": tuple(one for one in each.holders if one.active)}
        )
        for each in disk.partitions
    )
    return disk.model_copy(update={"partitions": partitions})


def _require_once(disks: Sequence[Disk]) -> None:
    names = [disk.name for disk in disks]
    if twice := next((disk for disk in disks if names.count(disk.name) > 1), None):
        raise HyperError(
            f"{title(twice)} is meant twice",
            why="two selectors of the answers match it",
            remedy="let every selector in `storage` match other disks; a serial number fits exactly one",
            code=Exit.selection,
        )
