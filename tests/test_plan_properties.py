"""Properties of every plan, on random machines with random answers."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from installer.answers.model import Answers
from installer.answers.sizes import MIB
from installer.errors import Exit, HyperError
from installer.execute.log import Log, Redactor
from installer.execute.partition_table import read_table, write_partitions
from installer.execute.runner import Runner
from installer.facts import Facts
from installer.plan.actions import PartitionSpec, RealiseFlake, Run, SaveHeaders, WritePartitionTable
from installer.plan.checks import MountedAt, NotMounted
from installer.plan.model import FORMATTERS, DiskIdentity, Plan
from installer.plan.planner import make_plan
from tests import plan_cases as cases
from tests.plan_machines import inputs, several_inputs

GPT_TAIL = 33
"""Sectors of the second table at the end of a disk (UEFI specification 2.10, section 5.3)."""


def planned(facts: Facts, answers: Answers, outcomes: Counter[str]) -> Plan | None:
    """The plan; none: refused, with everything a refusal must say."""
    try:
        plan = make_plan(facts, answers, cases.medium())
        outcomes["planned"] += 1
        return plan
    except HyperError as refusal:
        assert refusal.what.strip() and refusal.why.strip() and refusal.remedy.strip()
        assert refusal.code not in (Exit.ok, Exit.failed)
        outcomes[refusal.code.name] += 1
        return None


def tables(plan: Plan) -> Iterator[tuple[DiskIdentity, tuple[PartitionSpec, ...]]]:
    """Every partition table that the plan writes."""
    known = {disk.key: disk for disk in plan.disks}
    for step in plan.steps:
        for action in step.actions:
            if isinstance(action, WritePartitionTable):
                yield known[action.disk], action.partitions


def sound(disk: DiskIdentity, partitions: tuple[PartitionSpec, ...]) -> None:
    """In bounds, aligned, apart, numbered, with both tables' places left."""
    assert partitions
    assert [each.number for each in partitions] == list(range(1, len(partitions) + 1))
    end = MIB
    for each in partitions:
        assert each.start % MIB == 0
        assert each.size > 0
        assert each.size % disk.logical_sector == 0
        assert each.start >= end
        end = each.start + each.size
    assert end <= disk.size - GPT_TAIL * disk.logical_sector
    assert len({each.label for each in partitions}) == len(partitions)


def in_order(plan: Plan) -> None:
    """Each after what it needs: erased, cut, formatted, mounted, filled, unmounted."""
    done: set[str] = set()
    stages: list[tuple[str, int]] = []
    for place, step in enumerate(plan.steps):
        assert set(step.requires) <= done
        done.add(step.id)
        for action in step.actions:
            match action:
                case WritePartitionTable():
                    stages.append(("cut", place))
                case Run(argv=("wipefs", *_)) if not any(stage == "cut" for stage, _ in stages):
                    stages.append(("erase", place))
                case Run(argv=argv) if argv[0] in FORMATTERS - {"wipefs"}:
                    stages.append(("format", place))
                case RealiseFlake():
                    stages.append(("fill", place))
                case _:
                    pass
        stages += [("mount", place) for check in step.checks if isinstance(check, MountedAt)]
        stages += [("leave", place) for check in step.checks if isinstance(check, NotMounted)]
    first = {stage: min(place for each, place in stages if each == stage) for stage, _ in stages}
    last = {stage: max(place for each, place in stages if each == stage) for stage, _ in stages}
    assert first["erase"] < last["erase"] + 1 <= first["cut"] < first["format"]
    assert first["format"] < first["mount"]
    assert last["mount"] < first["fill"] < first["leave"] == len(plan.steps) - 1


def test_every_plan_is_sound_or_refused_with_a_reason() -> None:
    outcomes = Counter[str]()

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(inputs())
    def check(given_: tuple[Facts, Answers]) -> None:
        facts, answers = given_
        plan = planned(facts, answers, outcomes)
        if plan is None:
            return
        for disk, partitions in tables(plan):
            sound(disk, partitions)
        in_order(plan)
        only_what_may_be_touched(plan, facts)

    check()
    refused = outcomes.keys() - {"planned"}
    assert outcomes["planned"] >= 10, outcomes
    assert len(refused) >= 3, outcomes


def test_every_plan_of_several_disks_is_sound_or_refused_with_a_reason() -> None:
    """Mirrors, arrays, LVM, pools, ZFS: the same properties, and nothing is written to a disk that was not chosen."""
    outcomes = Counter[str]()

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(several_inputs())
    def check(given_: tuple[Facts, Answers]) -> None:
        facts, answers = given_
        plan = planned(facts, answers, outcomes)
        if plan is None:
            return
        outcomes[f"{len(plan.disks)} disks"] += 1
        for disk, partitions in tables(plan):
            sound(disk, partitions)
        in_order(plan)
        only_what_may_be_touched(plan, facts)
        selectors = (*answers.storage.selectors, *answers.storage.pool_selectors)
        assert {disk.serial for disk in plan.disks} == {each.serial for each in selectors}
        assert {key for step in plan.steps for key in step.writes} == {disk.key for disk in plan.disks}
        reversible_until_the_first_that_is_not(plan)

    check()
    assert outcomes["planned"] >= 20, outcomes
    assert len([key for key in outcomes if key.endswith("disks")]) >= 3, outcomes
    assert len(outcomes) >= 6, outcomes


def reversible_until_the_first_that_is_not(plan: Plan) -> None:
    """All headers of all disks are saved before anything is written to any of them."""
    saved = {
        action.disk: place
        for place, step in enumerate(plan.steps)
        for action in step.actions
        if isinstance(action, SaveHeaders)
    }
    first = min(
        place
        for place, step in enumerate(plan.steps)
        if step.writes and not any(isinstance(action, SaveHeaders) for action in step.actions)
    )
    assert saved.keys() == {disk.key for disk in plan.disks}
    assert max(saved.values()) < first


def only_what_may_be_touched(plan: Plan, facts: Facts) -> None:
    """Every write is to a disk of the plan, which is one of the machine's that is free, and no kernel name is used."""
    known = {disk.key for disk in plan.disks}
    assert all(set(step.writes) <= known for step in plan.steps)
    for identity in plan.disks:
        named = (identity.serial, identity.wwn, identity.size)
        (chosen,) = (disk for disk in facts.disks if (disk.serial, disk.wwn, disk.size) == named)
        assert not (chosen.install_medium or chosen.read_only or chosen.in_use)
        stacks = (chosen.holders, *(partition.holders for partition in chosen.partitions))
        assert not any(holder.active for holders in stacks for holder in holders)
    assert not re.search(r"/dev/(sd|loop|md\d|dm-)", plan.model_dump_json())


def test_tables_written_by_libparted_read_back_equal(tmp_path: Path) -> None:
    """On sparse files, which have sectors of 512 bytes."""
    outcomes = Counter[str]()
    path = tmp_path / "disk"
    runner = Runner(Log(tmp_path / "log", Redactor()), "/usr/sbin:/usr/bin:/sbin:/bin")

    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(st.one_of(inputs(), several_inputs()))
    def check(given_: tuple[Facts, Answers]) -> None:
        plan = planned(*given_, outcomes)
        if plan is None or plan.disks[0].logical_sector != 512:
            return
        for disk, partitions in tables(plan):
            with path.open("wb") as file:
                file.truncate(disk.size)
            write_partitions(runner, str(path), disk, partitions)
            assert tuple(read_table(runner, str(path))) == partitions
            outcomes["read back"] += 1

    check()
    assert outcomes["read back"] >= 3, outcomes
