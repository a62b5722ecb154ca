"""Which steps go on side by side, of every layout's plan."""

from itertools import pairwise

from installer.execute.lanes import lane, stretches
from installer.plan.actions import Run
from installer.plan.model import Step
from tests.layout_matrix import combinations
from tests.plan_goldens import full_plan

PLANS = {name: plan for name, _, plan in combinations() if plan}


def test_every_step_once_in_an_order_that_fits_what_it_requires() -> None:
    for name, plan in PLANS.items():
        done: set[str] = set()
        numbers = []
        for lanes in stretches(plan.steps):
            for numbers_of_lane in lanes:
                within: set[str] = set()
                for number in numbers_of_lane:
                    step = plan.steps[number]
                    assert set(step.requires) <= done | within, (name, step.id)
                    within.add(step.id)
                    numbers.append(number)
                assert all(one < other for one, other in pairwise(numbers_of_lane)), name
            done |= {plan.steps[number].id for lane_ in lanes for number in lane_}
        assert sorted(numbers) == list(range(len(plan.steps))), name


def test_what_goes_side_by_side_opens_its_own_disk_alone() -> None:
    together = 0
    for name, plan in PLANS.items():
        for lanes in stretches(plan.steps):
            if len(lanes) == 1:
                continue
            together += 1
            for numbers in lanes:
                steps = [plan.steps[number] for number in numbers]
                (disk,) = {lane(step) for step in steps}
                mine = next(each for each in plan.disks if each.key == disk)
                others = [each for each in plan.disks if each != mine]
                for step in steps:
                    assert set(step.writes) <= {disk}, (name, step.id)
                    for action in step.actions:
                        words = action.argv if isinstance(action, Run) else ()
                        assert not any(other.name in word for word in words for other in others), (
                            name,
                            words,
                        )
                        if words:
                            assert words[0].startswith(("wipefs", "mkfs.", "mkswap", "blkdiscard")), (
                                name,
                                words,
                            )
    assert together > len(PLANS)


def test_a_pair_is_erased_and_partitioned_side_by_side() -> None:
    plan = PLANS["mirror 2 btrfs none -"]
    beside = [
        sorted(tuple(plan.steps[number].id for number in numbers) for numbers in lanes)
        for lanes in stretches(plan.steps)
        if len(lanes) > 1
    ]
    assert beside == [
        [("save-headers-main-1",), ("save-headers-main-2",)],
        [
            ("wipe-main-1", "partition-main-1", "format-esp"),
            ("wipe-main-2", "partition-main-2", "format-esp-2"),
        ],
    ]


def test_a_single_disk_has_nothing_beside_it() -> None:
    assert all(len(lanes) == 1 for lanes in stretches(full_plan().steps))


def test_keys_are_derived_alone() -> None:
    """The cost of a derivation is measured, on a processor that nothing else uses, and in memory counted for one."""
    step = Step(
        id="encrypt",
        summary="Encrypt",
        writes=("main-1",),
        actions=(Run(argv=("cryptsetup", "luksFormat", "/dev/disk/by-id/x-part1")),),
        checks=(),
    )
    assert lane(step) is None
