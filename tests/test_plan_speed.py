"""Planning takes time linear in the number of disks, whether one of them is chosen or all."""

import time
from collections.abc import Callable
from functools import cache

import pytest

from installer.answers.model import DiskSelector
from installer.answers.select import select_disks
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.plan.identity import identify, shared_names
from installer.plan.planner import make_plan
from installer.plan.reach import dragged_along
from tests import plan_cases as cases
from tests.many_disks import many_disks

SMALL, LARGE = 250, 1000
SLACK = 2.0
"""What is quadratic would take four times the share."""


def one(facts: Facts) -> None:
    assert make_plan(facts, cases.answers(), cases.medium()).steps


def all_of_them(facts: Facts) -> None:
    chosen = select_disks(DiskSelector(size_min="1.9TiB", count=len(facts.disks) - 1), facts)
    shared = shared_names(facts.disks)
    assert len({identify(disk, disk.name, shared).by_id for disk in chosen}) == len(chosen)
    assert dragged_along(chosen, facts.disks) == ()
    assert len(dragged_along(chosen[::2], facts.disks)) >= len(chosen) // 2


def beside(facts: Facts) -> None:
    """A host beside what is on one disk, with the data of others mounted: each a part of what there is."""
    wanted = [
        {"disk": {"serial": f"SERIAL{2 * number}"}, "number": 1, "mount": f"/srv/{number}"}
        for number in range(8)
    ]
    storage = cases.storage(partitions=wanted)
    made = make_plan(told_apart(len(facts.disks) - 1), cases.answers(storage=storage), cases.medium())
    assert len(made.mounted) == 8


@cache
def told_apart(count: int) -> Facts:
    """So many disks, on which no file system is a copy of another's."""
    facts = many_disks(count)
    return facts.model_copy(update={"disks": tuple(map(_told_apart, facts.disks))})


def _told_apart(disk: Disk) -> Disk:
    partitions = tuple(
        each.model_copy(
            update={"filesystem": each.filesystem.model_copy(update={"uuid": f"{disk.name}-{each.number}"})}
        )
        for each in disk.partitions
        if each.filesystem
    )
    return disk.model_copy(update={"partitions": partitions})


def seconds(work: Callable[[Facts], None], facts: Facts) -> float:
    """Processor time of the quickest of some rounds."""
    rounds = []
    for _ in range(4):
        began = time.process_time()
        work(facts)
        rounds.append(time.process_time() - began)
    return min(rounds)


@pytest.mark.parametrize("work", [one, beside, all_of_them])
def test_planning_is_linear_in_the_number_of_disks(work: Callable[[Facts], None]) -> None:
    small, large = (seconds(work, many_disks(count)) for count in (SMALL, LARGE))
    assert large / small <= LARGE / SMALL * SLACK, (small, large)
