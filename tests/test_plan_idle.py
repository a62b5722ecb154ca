"""Arrays and volume groups that came up by themselves: stopped before the first write, where nothing of them is used."""

from typing import Any

import pytest

from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk, Filesystem, Holder, HolderKind
from installer.guided.situation import Situation
from installer.guided.topics.disk_choice import options
from installer.plan.actions import SaveHeaders, StopIdle
from installer.plan.checks import NothingUp
from installer.plan.describe import describe
from installer.plan.model import Plan, Step
from installer.plan.planner import make_plan
from installer.plan.reach import at_rest, idle_stacks
from tests import gpt, machines
from tests import plan_cases as cases
from tests.gpt import Entry

GIB = 1 << 30
IDLE = {
    "stack-lvm": ("the volume group data",),
    "stack-md": ("the array box:data",),
    "server-md-lvm": ("the array rack7:root", "the volume group vg-host"),
}
"""Recorded machines whose first two disks hold one stack together, and what of it is stopped."""


def unused(holder: Holder) -> Holder:
    return holder.model_copy(update={"mountpoints": (), "layers": tuple(map(unused, holder.layers))})


def idle(facts: Facts) -> Facts:
    """The machine as a live system shows it: all is up, and nobody uses it."""

    def told(disk: Disk) -> Disk:
        return disk.model_copy(
            update={
                "in_use": tuple(use for use in disk.in_use if " is part of " in use),
                "holders": tuple(map(unused, disk.holders)),
                "partitions": tuple(
                    part.model_copy(
                        update={
                            "holders": tuple(map(unused, part.holders)),
                            "filesystem": part.filesystem
                            and part.filesystem.model_copy(update={"mountpoints": ()}),
                        }
                    )
                    for part in disk.partitions
                ),
            }
        )

    return facts.model_copy(update={"disks": tuple(map(told, facts.disks))})


def both(facts: Facts, **storage: Any) -> dict[str, Any]:
    disks = [{"serial": each.serial} for each in facts.disks if each.name in ("sda", "sdb")]
    return cases.storage(disk=None, layout="mirror", filesystem="btrfs", disks=disks, **storage)


def stop(plan: Plan) -> Step:
    (step,) = (each for each in plan.steps if any(isinstance(a, StopIdle) for a in each.actions))
    return step


@pytest.mark.parametrize("name", IDLE)
def test_what_nobody_uses_is_stopped_before_anything_is_saved(name: str) -> None:
    facts = idle(machines.load(name))
    assert any(" is part of " in use for disk in facts.disks for use in disk.in_use)
    plan = make_plan(facts, cases.answers(storage=both(facts)), cases.medium())
    step = stop(plan)
    keys = tuple(each.key for each in plan.disks)
    assert step.actions == (StopIdle(disks=keys),)
    assert step.checks == tuple(NothingUp(disk=key) for key in keys)
    assert not step.writes
    for each in IDLE[name]:
        assert each in step.summary
    order = [each.id for each in plan.steps]
    saves = [each for each in plan.steps if any(isinstance(a, SaveHeaders) for a in each.actions)]
    assert len(saves) == 2
    assert all(step.id in each.requires and order.index(each.id) > order.index(step.id) for each in saves)
    words = " ".join(describe(plan, "answers.toml").split())
    for each in IDLE[name]:
        assert each in words, "who confirms is told what is stopped"


@pytest.mark.parametrize("name", IDLE)
def test_what_is_used_or_reaches_further_is_refused(name: str) -> None:
    """Nobody is asked to let something go that the plan could stop; nothing is stopped that somebody uses."""
    used = machines.load(name)
    with pytest.raises(HyperError, match="must not be touched") as caught:
        make_plan(used, cases.answers(storage=both(used)), cases.medium())
    assert caught.value.code is Exit.busy
    facts = idle(used)
    first = next(each for each in facts.disks if each.name == "sda")
    with pytest.raises(HyperError, match="must not be touched") as caught:
        make_plan(facts, cases.answers(storage=cases.storage(disk={"serial": first.serial})), cases.medium())
    assert "beyond what was chosen" in caught.value.why
    assert at_rest(first, facts.disks[:1]) == first


@pytest.mark.parametrize("name", ["stack-zpool", "stack-bcache", "stack-crypt", "multipath-btrfs-pair"])
def test_what_somebody_brought_up_is_not_stopped(name: str) -> None:
    """Pools, caches, opened LUKS and multipath do not come up by themselves, or not for nothing."""
    facts = idle(machines.load(name))
    assert not idle_stacks(facts.disks[:2])
    assert [at_rest(each, facts.disks) for each in facts.disks] == [*facts.disks]


def test_a_raid_controllers_array_is_the_firmwares_too() -> None:
    """Its members (isw, ddf) are the firmware's as well."""
    facts = idle(machines.load("stack-md"))

    def as_isw(disk: Disk) -> Disk:
        return disk.model_copy(
            update={
                "partitions": tuple(
                    each.model_copy(update={"filesystem": Filesystem(kind="isw_raid_member")})
                    for each in disk.partitions
                )
            }
        )

    assert idle_stacks(facts.disks[:2])
    assert not idle_stacks([as_isw(each) for each in facts.disks[:2]])


def test_an_array_with_closed_luks_in_it_is_stopped() -> None:
    """Which is how a host with mirror and passphrase lies there."""
    closed = Holder(kind=HolderKind.luks, name="crypto_LUKS", active=False)
    facts = idle(machines.load("stack-md"))

    def encrypted(disk: Disk) -> Disk:
        return disk.model_copy(
            update={
                "partitions": tuple(
                    part.model_copy(
                        update={
                            "holders": tuple(
                                each.model_copy(update={"layers": (closed,)}) for each in part.holders
                            )
                        }
                    )
                    for part in disk.partitions
                )
            }
        )

    assert idle_stacks([encrypted(each) for each in facts.disks[:2]]) == IDLE["stack-md"]


GROUP = Holder(
    kind=HolderKind.lvm_pv,
    name="ubuntu-vg",
    uuid="u" * 8,
    layers=(Holder(kind=HolderKind.lvm_lv, name="ubuntu-vg/ubuntu-lv", uuid="LVM-" + "l" * 8),),
)
UBUNTU = (
    Entry(1, 1 << 20, 2 * GIB, gpt.ESP, name="EFI system partition", kind="vfat", uuid="A1B2-C3D4"),
    Entry(2, 3 * GIB, 200 * GIB, gpt.LINUX, kind="LVM2_member", uuid="p" * 8),
)


def ubuntu(*, spans: tuple[str, ...] = ()) -> Disk:
    """A disk with another system in a volume group, which is up."""
    group = GROUP.model_copy(update={"spans": spans})
    partitions = tuple(
        each.partition("nvme0n1").model_copy(update={"holders": (group,) if each.number == 2 else ()})
        for each in UBUNTU
    )
    uses = (
        "nvme0n1p2 is part of lvm physical volume ubuntu-vg",
        "ubuntu-vg is part of lvm logical volume ubuntu-vg/ubuntu-lv",
    )
    return cases.blank_disk(size=500 * GIB, table="gpt", partitions=partitions, in_use=uses)


def test_a_host_goes_beside_a_system_whose_volume_group_is_up() -> None:
    storage = cases.storage(existing="keep")
    plan = make_plan(cases.machine(ubuntu()), cases.answers(storage=storage), cases.medium())
    assert "the volume group ubuntu-vg" in stop(plan).summary
    assert any("partition 2" in each for each in plan.destroyed[0].kept)
    other = cases.blank_disk(name="sdb", serial="SECOND", wwn="0x5000000000000002", by_id=("ata-SECOND",))
    with pytest.raises(HyperError, match="must not be touched"):
        make_plan(
            cases.machine(ubuntu(spans=("sdb",)), other), cases.answers(storage=storage), cases.medium()
        )


@pytest.mark.parametrize("name", IDLE)
def test_the_pages_offer_disks_whose_stack_nobody_uses(name: str) -> None:
    """Together; one alone is refused with what it reaches, and all of them while something is used."""
    medium = cases.medium()
    for facts, free in ((idle(machines.load(name)), True), (machines.load(name), False)):
        situation = Situation(facts, medium, {}, "/run/secrets")
        joined = {each.value: each.refused for each in options(facts, situation, joined=True)}
        alone = {each.value: each.refused for each in options(facts, situation)}
        for disk in ("sda", "sdb"):
            assert (joined[disk] is None) == free, joined[disk]
            reason = alone[disk] or ""
            assert reason, "half of a stack is never offered"
            assert ("belongs together with" in reason) == free, reason
