"""Plans stay what they were read to be, and come out the same every time."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest

from installer.plan.model import Plan
from installer.plan.planner import make_plan
from installer.plan.token import confirm_token
from tests import plan_cases as cases
from tests.plan_goldens import FOLDER, full_plan, golden_plans, texts

GOLDEN = dict(texts())
PLANS = dict(golden_plans())


@pytest.mark.parametrize("name", GOLDEN)
def test_plan_is_as_read(name: str) -> None:
    assert GOLDEN[name] == (FOLDER / name).read_text(), "read the diff of `python -m tests.plan_goldens`"


def test_no_golden_is_left_over() -> None:
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.*")} == GOLDEN.keys()


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.endswith(".json")])
def test_plan_reads_back(name: str) -> None:
    plan = Plan.model_validate_json(GOLDEN[name])
    assert json.loads(plan.model_dump_json()) == json.loads(GOLDEN[name])


def test_another_process_plans_the_same_bytes() -> None:
    program = (
        "from tests.plan_goldens import full_plan; from installer.plan.token import *;"
        "p = full_plan(); print(confirm_token(p), plan_json(p))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=FOLDER.parents[2],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
    assert runs.pop().decode().startswith(confirm_token(full_plan()) + " {")


def test_tokens_differ_with_everything_that_matters() -> None:
    other_disk = cases.blank_disk(serial="OTHER", by_id=("nvme-Samsung_SSD_990_PRO_1TB_OTHER",))
    plans = [
        *PLANS.values(),
        full_plan(),
        make_plan(
            cases.machine(other_disk), cases.answers(storage={"disk": {"serial": "OTHER"}}), cases.medium()
        ),
        make_plan(cases.machine(), cases.answers(timezone="Europe/Berlin"), cases.medium()),
        make_plan(cases.machine(), cases.answers(), cases.medium(label="another")),
    ]
    assert len({confirm_token(plan) for plan in plans}) == len(plans)


def test_no_secret_is_in_a_plan() -> None:
    for text in GOLDEN.values():
        assert cases.HASH not in text
        assert cases.HASH[3:19] not in text


@pytest.mark.parametrize("name", PLANS)
def test_uuids_labels_and_paths_are_unique(name: str) -> None:
    plan = PLANS[name]
    checks = [check for step in plan.steps for check in step.checks]
    uuids = [check.uuid for check in checks if check.kind == "signature-is"]
    labels = [
        each.label for check in checks if check.kind == "partition-table-is" for each in check.partitions
    ]
    mountpoints = [each.mountpoint for each in plan.host.filesystems]
    for values in (uuids, labels, mountpoints):
        assert len(set(values)) == len(values) > 0


@pytest.mark.parametrize("name", PLANS)
def test_kernel_names_name_nothing(name: str) -> None:
    for word in ("/dev/nvme", "/dev/sd", "nvme0n1"):
        assert word not in GOLDEN[f"{name}.json"]


@pytest.mark.parametrize("name", PLANS)
def test_parents_are_mounted_before_children(name: str) -> None:
    places = [
        check.target for step in PLANS[name].steps for check in step.checks if check.kind == "mounted-at"
    ]
    assert places[0] == "/mnt"
    for number, place in enumerate(places):
        assert not any(
            later in (place, "/mnt") or place.startswith(later + "/") for later in places[number + 1 :]
        )
    hosts = [each.mountpoint for each in PLANS[name].host.filesystems]
    assert sorted(places) == sorted("/mnt" + place.rstrip("/") for place in hosts)


@pytest.mark.parametrize("name", PLANS)
def test_pictures_have_no_gap_and_no_overlap(name: str) -> None:
    (picture,) = PLANS[name].pictures
    for left, right in pairwise(picture.after):
        assert left.start + left.size == right.start


def test_grub_finds_its_kernels_on_a_plain_ext4() -> None:
    for name, plan in PLANS.items():
        if plan.host.firmware == "bios":
            boot = max(
                (each for each in plan.host.filesystems if each.mountpoint in ("/", "/boot")),
                key=lambda each: len(each.mountpoint),
            )
            assert boot.kind == "ext4", name
            assert boot.device.startswith("/dev/disk/by-uuid/"), name


def test_nothing_swaps_in_clear_beside_an_encrypted_root() -> None:
    for name, plan in PLANS.items():
        if "luks" in name:
            assert plan.host.swap_devices == (), name
            assert bool(plan.host.random_swap_devices) == ("partition" in name)
