"""How long planning takes on a machine with very many disks, and that it is linear in their number."""

import time
from dataclasses import dataclass

from installer.plan.planner import make_plan
from tests import plan_cases as cases
from tests.many_disks import PARTITIONS, many_disks

DISKS = 1000
ROUNDS = 7
GOAL = 1.0
"""Seconds."""


@dataclass(frozen=True)
class Planned:
    """What was measured."""

    seconds: tuple[float, ...]
    """Of each round, with all disks."""
    quarter: tuple[float, ...]
    """With a quarter of them, by turns."""


def measure() -> Planned:
    """Plan for one disk among many, and among a quarter as many, by turns."""
    found: tuple[list[float], list[float]] = ([], [])
    machines = (many_disks(DISKS), many_disks(DISKS // 4))
    for _ in range(ROUNDS):
        for facts, seconds in zip(machines, found, strict=True):
            began = time.perf_counter()
            plan = make_plan(facts, cases.answers(), cases.medium())
            seconds.append(time.perf_counter() - began)
            assert plan.steps
    return Planned(*map(tuple, found))


def title() -> str:
    """What is planned for."""
    return f"planning among {DISKS} disks with {DISKS * PARTITIONS} partitions"
