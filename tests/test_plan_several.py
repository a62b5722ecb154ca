"""Plans of several disks: what must hold whatever is joined, and that changes of one disk's plan are noticed."""

import json
from itertools import pairwise
from typing import Any

import pytest

from installer.answers.model import StorageAnswers
from installer.answers.presets import propose
from installer.answers.sizes import GIB, MIB
from installer.answers.storage_check import check_storage
from installer.errors import Exit, HyperError
from installer.facts.disks import Filesystem
from installer.facts.firmware import FirmwareKind
from installer.plan.actions import Action, Run
from installer.plan.model import FORMATTERS, Plan
from installer.plan.planner import make_plan
from installer.plan.storage import gpt
from installer.plan.token import confirm_token
from tests import plan_cases as cases
from tests.layout_matrix import combinations, text
from tests.plan_goldens import FOLDER, several, several_plans

PLANS = dict(several_plans())
MATRIX = {name: plan for name, _, plan in combinations() if plan is not None}
EVERY = PLANS | MATRIX


def test_the_matrix_is_as_read() -> None:
    assert text() == (FOLDER / "matrix.txt").read_text(), "read the diff of `python -m tests.plan_goldens`"


@pytest.mark.parametrize("name", EVERY)
def test_partitions_are_in_bounds_aligned_and_apart(name: str) -> None:
    for disk, picture in zip(EVERY[name].disks, EVERY[name].pictures, strict=True):
        assert disk.key == picture.disk
        assert picture.after[0].start == gpt.ALIGNMENT
        for left, right in pairwise(picture.after):
            assert left.start + left.size == right.start
        for region in picture.after:
            assert region.start % gpt.ALIGNMENT == 0
            assert region.size % disk.logical_sector == 0
            assert region.size > 0
        assert picture.after[-1].start + picture.after[-1].size <= disk.size - MIB


@pytest.mark.parametrize("name", EVERY)
def test_what_is_destroyed_is_said(name: str) -> None:
    """Every disk has its identity and its losses; programs that overwrite are in steps that say on which disks."""
    plan = EVERY[name]
    keys = [disk.key for disk in plan.disks]
    assert [each.disk for each in plan.destroyed] == keys
    assert {key for step in plan.steps for key in step.writes} == set(keys)
    for step in plan.steps:
        destroying = [a for a in step.actions if a.kind == "run" and a.argv[0] in FORMATTERS]
        assert not destroying or step.writes, step.id
        named = {d.key for d in plan.disks for a in destroying if any(d.name in word for word in a.argv)}
        assert named <= set(step.writes), step.id


@pytest.mark.parametrize("name", EVERY)
def test_arrays_are_made_of_members_that_begin_empty(name: str) -> None:
    """What an earlier array held would come to light with the new one, and be brought up by udev."""
    plan = EVERY[name]
    sizes = {
        disk.partition(region.number): region.size
        for disk, picture in zip(plan.disks, plan.pictures, strict=True)
        for region in picture.after
        if region.number is not None
    }
    for step in plan.steps:
        words = [action.argv for action in step.actions if isinstance(action, Run)]
        for place, argv in enumerate(words):
            if argv[:2] != ("mdadm", "--create"):
                continue
            emptied = {each[-1]: int(each[-2]) for each in words[:place] if each[0] == "blkdiscard"}
            members = argv[-len(emptied) :]
            assert argv[argv.index("--raid-devices") + 1] == str(len(emptied))
            for member in members:
                assert emptied[member] == min(sizes[member], 136 * MIB)


@pytest.mark.parametrize("name", EVERY)
def test_ids_uuids_and_names_are_unique(name: str) -> None:
    plan = EVERY[name]
    checks = [check for step in plan.steps for check in step.checks]
    found = {
        "uuid": [check.uuid for check in checks if check.kind in ("signature-is", "array-members-are")],
        "label": [
            f"{check.disk} {each.label}"
            for check in checks
            if check.kind == "partition-table-is"
            for each in check.partitions
        ],
        "mountpoint": [each.mountpoint for each in plan.host.filesystems],
    }
    for what, values in found.items():
        assert len(set(values)) == len(values), what
    assert "/dev/nvme" not in plan.model_dump_json()
    assert "/dev/sd" not in plan.model_dump_json()


@pytest.mark.parametrize("name", EVERY)
def test_taken_down_in_the_order_opposite_to_bringing_up(name: str) -> None:
    """Nothing is closed, stopped or exported while something that stands on it is still up."""
    plan = EVERY[name]
    up = [step.undo[0] for step in plan.steps if step.transient and step.id.startswith(_BRINGING)]
    ending = list(plan.steps[-1].actions)
    unmounted = next(place for place, each in enumerate(ending) if program(each) == "umount")
    assert all(program(each) == "sync" for each in ending[:unmounted])
    down = ending[unmounted + 1 :]
    assert sorted(map(repr, up)) == sorted(map(repr, down))
    depends = {step.id: step.requires for step in plan.steps}
    order = {repr(step.undo[0]): step.id for step in plan.steps if step.undo and step.transient}
    ended = [order[repr(action)] for action in down]
    for place, step in enumerate(ended):
        later = set(ended[place + 1 :])
        assert not later & _needing(step, depends), f"{step} ends before what needs it"


def program(action: Action) -> str | None:
    """What a `run` runs."""
    return action.argv[0] if isinstance(action, Run) else None


_BRINGING = ("open-", "assemble-", "activate-", "import-")


def _needing(step: str, depends: dict[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    reached = {step}
    while reached:
        reached = {each for each, needs in depends.items() if reached & set(needs)} - found
        found |= reached
    return found


@pytest.mark.parametrize("name", PLANS)
def test_reads_back_and_comes_out_the_same(name: str) -> None:
    plan = PLANS[name]
    again = Plan.model_validate_json(plan.model_dump_json())
    assert json.loads(again.model_dump_json()) == json.loads(plan.model_dump_json())
    assert confirm_token(again) == confirm_token(plan)


def test_tokens_differ() -> None:
    assert len({confirm_token(plan) for plan in EVERY.values()}) >= len(PLANS)
    assert len({confirm_token(plan) for plan in PLANS.values()}) == len(PLANS)


def test_names_do_not_follow_the_order_of_probing() -> None:
    """Kernel names and their order change from boot to boot; the plan does not."""
    first, second = cases.disks(2)
    swapped = (
        second.model_copy(update={"name": first.name}),
        first.model_copy(update={"name": second.name}),
    )
    plans = [
        make_plan(
            cases.machine(*disks),
            cases.answers(storage=several(2) | {"filesystem": "btrfs", "encryption": cases.ENCRYPTED}),
            cases.medium(),
        )
        for disks in ((first, second), swapped)
    ]
    assert confirm_token(plans[0]) == confirm_token(plans[1])


def test_every_disk_of_a_mirror_boots_alone() -> None:
    for name, plan in EVERY.items():
        proof = next(check for step in plan.steps for check in step.checks if check.kind == "boot-proof")
        boots = [each for each in plan.host.filesystems if each.mountpoint.startswith("/boot")]
        assert len(proof.mirrors) == len(plan.host.mirrors), name
        if plan.host.mirrors:
            assert [each.mountpoint for each in boots] == [
                "/boot",
                *(each.mountpoint for each in plan.host.mirrors),
            ]
            assert all("nofail" in each.options for each in boots), name
            assert len(boots) == len([disk for disk in plan.disks if disk.key.startswith("main")]), name
        if plan.host.mirrors and plan.host.loader == "systemd-boot":
            entries = [a.disk for step in plan.steps for a in step.actions if a.kind == "write-boot-entry"]
            assert entries == list(proof.mirrors), name


def test_nothing_swaps_in_clear_beside_an_encrypted_root() -> None:
    for name, plan in PLANS.items():
        if "luks" in name:
            below = [
                device for device in plan.host.swap_devices if not device.startswith("/dev/mapper/system_")
            ]
            assert below == [], name


def test_argon2id_is_fitted_to_what_is_opened_at_once() -> None:
    storage = {"filesystem": "btrfs", "encryption": cases.ENCRYPTED}
    memory = cases.machine().memory.model_copy(update={"total": 4 * GIB, "available": 3 * GIB})
    facts = cases.machine(*cases.disks(4), memory=memory)

    def kibibytes(**more: Any) -> set[str]:
        plan = make_plan(facts, cases.answers(storage=several(4) | storage | more), cases.medium())
        runs = [a.argv for step in plan.steps for a in step.actions if a.kind == "run"]
        return {argv[argv.index("--pbkdf-memory") + 1] for argv in runs if "luksFormat" in argv}

    assert kibibytes() == {str(768 * 1024)}
    assert kibibytes(filesystem="xfs") == {str(1024 * 1024)}  # one LUKS, on md
    too_much = cases.ENCRYPTED | {"pbkdf_memory": "1GiB"}
    with pytest.raises(HyperError) as caught:
        kibibytes(encryption=too_much)
    assert "4 disks at once" in caught.value.why


def test_two_selectors_for_one_disk_are_refused() -> None:
    first, second = cases.disks(2)
    storage = {
        "layout": "mirror",
        "disks": [{"serial": first.serial}, {"by_id": first.by_id[0]}],
        "filesystem": "btrfs",
    }
    with pytest.raises(HyperError) as caught:
        make_plan(cases.machine(first, second), cases.answers(storage=storage), cases.medium())
    assert caught.value.code is Exit.selection
    assert "meant twice" in caught.value.what


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing named": ({}, "no disk is named"),
    "both ways": ({"disk": {"serial": "A"}, "disks": [{"serial": "B"}]}, "stands beside"),
    "one serial for two": ({"layout": "mirror", "disk": {"serial": "A", "count": 2}}, "names one"),
    "swap file on zfs": ({"disk": {"serial": "A"}, "filesystem": "zfs", "swap": {"kind": "file"}}, "on ZFS"),
    "swap file on btrfs": (
        several(2) | {"filesystem": "btrfs", "swap": {"kind": "file"}},
        "a btrfs of several disks",
    ),
    "root size without lvm": ({"disk": {"serial": "A"}, "root_size": "64GiB"}, "without LVM"),
    "folder pool on ext4": ({"disk": {"serial": "A"}, "pool": {"kind": "dir"}}, "folder of the root"),
    "thin pool without lvm": ({"disk": {"serial": "A"}, "pool": {"kind": "lvm-thin"}}, "needs LVM"),
    "zfs pool without zfs": ({"disk": {"serial": "A"}, "pool": {"kind": "zfs"}}, "needs ZFS"),
    "record size": (
        {"disk": {"serial": "A"}, "pool": {"kind": "zfs", "disk": {"serial": "B"}, "record_size": "48KiB"}},
        "power of two",
    ),
    "record size of a folder": (
        {"disk": {"serial": "A"}, "pool": {"disk": {"serial": "B"}, "record_size": "32KiB"}},
        "means nothing with kind",
    ),
    "in place on xfs": (
        {"disk": {"serial": "A"}, "pool": {"disk": {"serial": "B"}, "nodatacow": True}},
        "option of btrfs",
    ),
    "raidz of a folder": (
        {
            "disk": {"serial": "A"},
            "pool": {"disk": {"rotational": True, "count": 3}, "redundancy": "raidz1"},
        },
        "ZFS's own",
    ),
    "redundancy of the system's disks": (
        {"disk": {"serial": "A"}, "filesystem": "btrfs", "pool": {"redundancy": "mirror"}},
        "follows from the system's disks",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(name: str) -> None:
    table, words = REFUSED[name]
    problems = list(check_storage(StorageAnswers.model_validate(table)))
    assert any(words in problem.wrong for problem in problems), problems
    assert all(problem.remedy for problem in problems)


def test_sizes_that_do_not_fit_are_refused() -> None:
    small = cases.disks(1, size=20 * GIB)
    for more in ({"volumes": "lvm", "root_size": "30GiB"}, {"volumes": "lvm-thin", "root_size": "1GiB"}):
        with pytest.raises(HyperError) as caught:
            make_plan(cases.machine(*small), cases.answers(storage=several(1) | more), cases.medium())
        assert caught.value.code is Exit.answers
        assert "root_size" in caught.value.what


def test_presets_follow_the_disks() -> None:
    fast, big = cases.disks(4), cases.turning(4)
    small = cases.disks(2, size=240_000_000_000)
    found = {
        label: (proposal.name, proposal.layout.value, len(proposal.system), len(proposal.pool))
        for label, disks in {
            "one": fast[:1],
            "two": fast[:2],
            "three": fast[:3],
            "four": fast,
            "turning alone": big,
            "fast and big": (*fast[:2], *big),
            "small and large": (*small, *fast[2:]),
        }.items()
        for proposal in (propose(disks),)
    }
    assert found == {
        "one": ("one disk", "one-disk", 1, 0),
        "two": ("two disks mirrored", "mirror", 2, 0),
        "three": ("three disks mirrored", "mirror", 3, 0),
        "four": ("many disks", "array", 4, 0),
        "turning alone": ("many disks", "array", 4, 0),
        "fast and big": ("fast system and big data", "mirror", 2, 4),
        "small and large": ("fast system and big data", "mirror", 2, 2),
    }


def test_what_the_answers_say_stays_beside_auto() -> None:
    named = {"layout": "auto", "disk": {"transport": "nvme", "count": 2}}
    facts = cases.machine(*cases.disks(2))

    def root(**more: Any) -> str:
        plan = make_plan(facts, cases.answers(storage=named | more), cases.medium())
        assert plan.because is not None
        return next(each.kind for each in plan.host.filesystems if each.mountpoint == "/")

    assert root() == "btrfs"
    assert root(filesystem="xfs") == "xfs"
    assert root(filesystem="ext4") == "ext4"
    assert root(filesystem="zfs") == "zfs"
    with pytest.raises(HyperError) as caught:
        root(filesystem="xfs", redundancy="raidz1")
    assert caught.value.code is Exit.answers


def test_a_part_of_something_larger_may_be_chosen_whole() -> None:
    """Two halves of an old mirror: refused one by one, accepted together."""
    old = Filesystem(kind="linux_raid_member", uuid="11111111-2222-3333-4444-555555555555")
    halves = tuple(disk.model_copy(update={"filesystem": old}) for disk in cases.disks(2))
    facts = cases.machine(*halves)
    plan = make_plan(facts, cases.answers(storage=several(2) | {"filesystem": "btrfs"}), cases.medium())
    assert len(plan.disks) == 2
    with pytest.raises(HyperError) as caught:
        make_plan(facts, cases.answers(storage={"disk": {"serial": "S1"}}), cases.medium())
    assert caught.value.code is Exit.busy


@pytest.mark.parametrize("filesystem", ["btrfs", "ext4", "zfs"])
def test_the_smallest_disk_of_a_mirror_decides_and_what_stays_unused_is_told(filesystem: str) -> None:
    sizes = (500 * GIB, 400 * GIB, 401 * GIB)
    plain = cases.disks(3)
    facts = cases.machine(
        *(disk.model_copy(update={"size": size}) for disk, size in zip(plain, sizes, strict=True)),
        firmware=FirmwareKind.uefi64,
    )
    disks = [{"serial": disk.serial} for disk in plain]
    storage = cases.storage(disk=None, disks=disks, layout="mirror", filesystem=filesystem)
    made = make_plan(facts, cases.answers(storage=storage), cases.medium())
    roots = [max(picture.after, key=lambda region: region.size) for picture in made.pictures]
    assert len({(each.start, each.size) for each in roots}) == 1
    assert roots[0].start + roots[0].size <= 400 * GIB - 33 * 512
    unused = [each for each in made.warnings if "stay unused" in each]
    assert [any(f"{rest} GiB of it" in each for each in unused) for rest in (100, 1)] == [True, True]
    assert len(unused) == 2
