"""Blast radius: what choosing a disk drags along, on a recorded machine for each kind of stack."""

from typing import Any

import pytest

from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.plan.planner import make_plan
from installer.plan.reach import dragged_along, require_contained
from installer.probe import probe
from installer.probe.record import ReplayRoot
from tests import machines
from tests import plan_cases as cases

ACTIVE = {
    "stack-lvm": ("sda1 is part of lvm physical volume data", "data/vms is mounted at /srv"),
    "stack-md": ("sda1 is part of md array box:data", "box:data is mounted at /srv"),
    "stack-zpool": ("sda1 is part of zfs member tank", "tank is mounted at /srv"),
    "stack-btrfs": ("sda is part of btrfs member btrfs", "sda is mounted at /srv"),
    "stack-bcache": ("sda is part of bcache bcache0", "bcache0 is mounted at /srv"),
    "stack-crypt": ("sda1 is part of luks secret0", "vault/vms is mounted at /opt"),
    "server-md-lvm": ("sda2 is part of md array rack7:root", "vg-host/swap is active swap"),
    "multipath-btrfs-pair": ("sda is part of multipath mpatha", "san is part of lvm logical volume san/vms"),
}
"""Recorded machines whose first two disks hold one stack together, which is in use; and what of it is told."""
ASLEEP = {
    "stack-lvm-asleep": "lvm physical volume data on sda1 reaches",
    "stack-md-asleep": "md array box:data on sda1 reaches",
    "stack-zpool-asleep": "zfs member tank on sda1 reaches",
    "stack-btrfs-asleep": "btrfs member btrfs on sda reaches",
    "stack-bcache-asleep": "on sda may reach",
}
"""The same with nothing in use."""
ALONE = {
    "stack-swap": "sda1 is active swap",
    "stack-mounts": "sda1 is mounted at /home",
}
"""Uses that reach no other disk."""


def disks(name: str) -> dict[str, Disk]:
    return {disk.name: disk for disk in machines.load(name).disks}


def refused(*chosen: Disk, everyone: tuple[Disk, ...]) -> str:
    with pytest.raises(HyperError) as caught:
        require_contained(chosen, everyone)
    assert caught.value.code is Exit.busy
    assert max(map(len, str(caught.value).splitlines())) <= 80
    return f"{caught.value.what}\n{caught.value.why}\n{caught.value.remedy}"


def test_a_pool_that_is_up_is_in_use_although_nothing_of_it_is_mounted() -> None:
    """The kernel shows no holder of its disks; that it is up is seen by ZFS's statistics."""
    record = machines.record("stack-zpool-asleep")
    assert not disks("stack-zpool-asleep")["sda"].in_use
    record.files["/proc/spl/kstat/zfs/tank/state"] = "ONLINE\n"
    facts = probe(ReplayRoot(record))
    both = tuple(disk for disk in facts.disks if disk.name in ("sda", "sdb"))
    told = refused(*both, everyone=facts.disks)
    assert "sda1 is part of zfs member tank" in told
    assert "export" in told


@pytest.mark.parametrize("name", ACTIVE)
def test_a_stack_in_use_is_told_whole(name: str) -> None:
    """Every use, and every disk beyond; from whichever end it is looked at."""
    found = disks(name)
    told = refused(found["sda"], everyone=tuple(found.values()))
    for use in ACTIVE[name]:
        assert use in told
    assert f"beyond what was chosen, to sdb ({found['sdb'].model}" in told
    assert "sdc" not in told
    other = refused(found["sdb"], everyone=tuple(found.values()))
    assert "beyond what was chosen, to sda (" in other
    both = refused(found["sda"], found["sdb"], everyone=tuple(found.values()))
    assert "beyond" not in both
    assert ACTIVE[name][1] in both


@pytest.mark.parametrize("name", ASLEEP)
def test_a_stack_at_rest_goes_whole_or_not_at_all(name: str) -> None:
    found = disks(name)
    everyone = tuple(found.values())
    for one, other in (("sda", "sdb"), ("sdb", "sda")):
        told = refused(found[one], everyone=everyone)
        assert ASLEEP[name].replace("sda", one) in told
        assert f"to {other} (" in told
        assert "wipefs" in told
    require_contained((found["sda"], found["sdb"]), everyone)
    require_contained((found["sdc"],), everyone)


@pytest.mark.parametrize("name", ALONE)
def test_a_use_is_told(name: str) -> None:
    found = disks(name)
    told = refused(found["sda"], everyone=tuple(found.values()))
    assert ALONE[name] in told
    assert "beyond" not in told
    require_contained((found["sdb"], found["sdc"]), tuple(found.values()))


def test_the_install_medium_is_told() -> None:
    found = machines.load("workstation").disks
    (stick,) = (disk for disk in found if disk.install_medium)
    assert "sdz carries the install medium" in refused(stick, everyone=found)


def test_btrfs_on_two_disks_told_by_signatures_alone() -> None:
    """As from a report that knows signatures and no stacks."""
    bare = tuple(
        disk.model_copy(update={"holders": ()}) for disk in machines.load("stack-btrfs-asleep").disks
    )
    assert "to sdb (" in refused(bare[0], everyone=bare)
    require_contained(bare[:2], bare)


def test_a_volume_group_that_nobody_could_ask_for_is_a_warning() -> None:
    record = machines.record("stack-lvm-asleep")
    record.answers = {
        key: text for key, text in record.answers.items() if not key.startswith("volume group")
    }
    from installer.probe import probe
    from installer.probe.record import ReplayRoot

    plan = make_plan(probe(ReplayRoot(record)), serial("ZC110000"), cases.medium())
    assert any("one volume group" in warning for warning in plan.warnings)


def serial(number: str, **changes: Any) -> Any:
    return cases.answers(storage=cases.storage(disk={"serial": number}), **changes)


@pytest.mark.parametrize("name", [*ACTIVE, *ASLEEP, *ALONE])
def test_planning_refuses_all_of_them(name: str) -> None:
    facts: Facts = machines.load(name)
    first = next(disk for disk in facts.disks if disk.name == "sda")
    selector = {"serial": first.serial, "transport": first.transport.value}
    if name == "multipath-btrfs-pair":
        selector = {"by_id": "none"}  # its paths have no name of their own, and are refused before
        facts = facts.model_copy(
            update={
                "disks": tuple(
                    disk.model_copy(update={"by_id": ("none",), "wwn": "0xa", "serial": None})
                    if disk is first
                    else disk
                    for disk in facts.disks
                )
            }
        )
    with pytest.raises(HyperError) as caught:
        make_plan(facts, cases.answers(storage={"disk": selector}), cases.medium())
    assert caught.value.code is Exit.busy
    assert "must not be touched" in caught.value.what


def test_nothing_is_dragged_along_where_nothing_is() -> None:
    found = machines.load("disks-in-order").disks
    assert dragged_along(found[:1], found) == ()
