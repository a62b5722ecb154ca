"""Steps in order, and plans that must not exist."""

from typing import Any

import pytest
from pydantic import ValidationError

from installer.plan.actions import Run
from installer.plan.model import Plan, Step
from installer.plan.order import in_order
from tests.plan_goldens import full_plan


def step(name: str, *requires: str, **more: Any) -> Step:
    return Step(**{"id": name, "summary": name, "requires": requires, "actions": (), "checks": ()} | more)


def test_order_fits_what_is_required_and_keeps_the_rest() -> None:
    given = (step("c", "a"), step("b"), step("a"), step("d", "b", "c"))
    assert [each.id for each in in_order(given)] == ["b", "a", "c", "d"]


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ((step("a", "b"), step("b", "a")), "in a circle"),
        ((step("a", "a"),), "in a circle"),
        ((step("a", "gone"),), "requires gone"),
        ((step("a"), step("a")), "same id"),
    ],
)
def test_disorder_is_refused(steps: tuple[Step, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        in_order(steps)


def changed(**changes: Any) -> Plan:
    return Plan.model_validate(full_plan().model_dump() | changes)


def test_every_step_of_a_plan_fits_the_graph() -> None:
    steps = full_plan().steps
    assert in_order(steps) == steps
    assert changed(steps=steps) == full_plan()


WIPE = Run(argv=("wipefs", "--all", "/dev/disk/by-id/ata-x"))
FORMAT = Run(argv=("cryptsetup", "luksFormat", "/dev/disk/by-id/ata-x"))


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ((step("b", "a"), step("a")), "no earlier step"),
        ((step("a"), step("a")), "two steps a"),
        ((step("a", actions=(WIPE,)),), "does not say on which disk"),
        ((step("a", actions=(FORMAT,)),), "does not say on which disk"),
        ((step("a", writes=("other",), actions=(WIPE,)),), "without identity"),
    ],
)
def test_plans_out_of_order_or_without_identity_are_refused(steps: tuple[Step, ...], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        changed(steps=steps)


def test_a_partition_table_is_written_only_to_a_declared_disk() -> None:
    table = next(each for each in full_plan().steps if each.id == "partition-main")
    with pytest.raises(ValidationError, match="does not say on which disk"):
        changed(steps=(table.model_copy(update={"writes": (), "requires": ()}),))
