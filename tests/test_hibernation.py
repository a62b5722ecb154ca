"""Hibernation: where it can be, what the host is told, and why it cannot be elsewhere."""

import re
from pathlib import Path
from typing import Any

import pytest

from installer.answers.check import check
from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.facts.firmware import FirmwareKind
from installer.plan.model import HostStorage
from installer.plan.planner import make_plan
from installer.plan.storage.lvm import EXTENT
from installer.render import load_templates, render
from tests import plan_cases as cases
from tests.nixeval import hosts
from tests.nixeval.cases import MEDIUM
from tests.nixeval.host import evaluate_flake_host

LUKS = {"encryption": cases.ENCRYPTED}
PARTITION = {"kind": "partition", "hibernate": True}
FOR_VMS = {"rotational": True, "count": 2}
FILE = {"kind": "file", "hibernate": True}


def planned(storage: dict[str, Any], **changes: Any) -> HostStorage:
    answers = cases.answers(storage=cases.storage(**storage))
    assert not check(answers)
    return make_plan(cases.machine(**changes), answers, cases.medium()).host


@pytest.mark.parametrize(
    ("storage", "device"),
    [
        ({"swap": PARTITION}, r"/dev/disk/by-uuid/[0-9a-f-]{36}"),
        ({"swap": PARTITION, "volumes": "lvm", **LUKS}, r"/dev/mapper/\S+-swap"),
        ({"swap": FILE, **LUKS}, None),
        ({"swap": FILE | {"hibernate": False}}, None),
        ({"swap": PARTITION | {"hibernate": False}}, None),
    ],
)
def test_stage_1_is_told_where_the_image_is(storage: dict[str, Any], device: str | None) -> None:
    host = planned(storage)
    if device is None:
        assert host.resume_device is None
    else:
        assert host.resume_device and re.fullmatch(device, host.resume_device)
        assert host.resume_device in host.swap_devices


@pytest.mark.parametrize(("volumes", "unit"), [("none", MIB), ("lvm", EXTENT)])
def test_swap_is_as_large_as_the_memory(volumes: str, unit: int) -> None:
    memory = cases.machine().memory.total
    answers = cases.answers(storage=cases.storage(swap=PARTITION, volumes=volumes))
    plan = make_plan(cases.machine(), answers, cases.medium())
    if volumes == "lvm":
        sizes = [
            int(word.removesuffix("b"))
            for step in plan.steps
            for action in step.actions
            for word in getattr(action, "argv", ())
            if re.fullmatch(r"\d+b", word)
        ]
    else:
        sizes = [region.size for region in plan.pictures[0].after if region.content == "swap"]
    assert any(memory <= size < memory + unit for size in sizes), (memory, sizes)


def test_a_swap_that_is_too_small_is_refused() -> None:
    with pytest.raises(HyperError, match="too small to hibernate") as caught:
        planned({"swap": PARTITION | {"size": "1GiB"}})
    assert caught.value.code is Exit.unsuitable and "leave it out" in caught.value.remedy


def test_a_file_under_bios_is_refused() -> None:
    with pytest.raises(HyperError, match="does not fit this machine") as caught:
        planned({"swap": FILE}, firmware=FirmwareKind.bios)
    assert "UEFI variable" in caught.value.why


def test_reserved_pages_that_leave_no_room_for_the_copy_are_refused() -> None:
    memory = cases.machine().memory.total
    half = memory // 2 // GIB
    storage = cases.storage(swap=PARTITION)
    fits, too_many = (
        cases.answers(storage=storage, hypervisor={"hugepages_1g": pages}) for pages in (half - 1, half)
    )
    assert make_plan(cases.machine(), fits, cases.medium()).host.resume_device
    with pytest.raises(HyperError, match="huge pages that are reserved") as caught:
        make_plan(cases.machine(), too_many, cases.medium())
    assert caught.value.code is Exit.unsuitable and "less than half" in caught.value.remedy


@pytest.mark.parametrize(("profile", "told"), [("balanced", True), ("development", False)])
def test_the_phase_that_ends_it_is_told(profile: str, *, told: bool) -> None:
    answers = cases.answers(storage=cases.storage(swap=PARTITION), security={"profile": profile})
    warnings = make_plan(cases.machine(), answers, cases.medium()).warnings
    assert any("hibernates in phase setup alone" in each and profile in each for each in warnings) == told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"storage": {"swap": {"hibernate": True}}}, "zram is memory itself"),
        ({"storage": {"swap": {"kind": "none", "hibernate": True}}}, "needs swap on a disk"),
        ({"storage": {"swap": PARTITION, **LUKS}}, "new random key at every boot"),
        ({"storage": {"swap": FILE}, "boot": {"firmware": "bios"}}, "under BIOS"),
        (
            {"storage": {"swap": PARTITION, "layout": "mirror", "disk": {"transport": "nvme", "count": 2}}},
            "several disks",
        ),
        ({"storage": {"swap": PARTITION, "filesystem": "zfs"}}, "NixOS forbids it"),
        ({"storage": {"swap": PARTITION, "pool": {"kind": "zfs", "disk": FOR_VMS}}}, "NixOS forbids it"),
        ({"storage": {"swap": PARTITION, "pool": {"disk": FOR_VMS}}}, "that md joins"),
        (
            {"storage": {"swap": PARTITION}, "hypervisor": {"passthrough": [{"address": "01:00.0"}]}},
            "passed through",
        ),
        ({"storage": {"swap": PARTITION}, "security": {"phase": "hardened"}}, "phase hardened"),
    ],
)
def test_each_reason_against_it_is_told(changes: dict[str, Any], words: str) -> None:
    storage = cases.storage(**changes.pop("storage"))
    problems = check(cases.answers(storage=storage, **changes))
    assert [problem.path[-1] for problem in problems] == ["hibernate"]
    assert words in problems[0].wrong and "remove it" in problems[0].remedy


@pytest.mark.parametrize(
    "pool",
    [{"disk": {"serial": "ONE"}}, {"disk": FOR_VMS, "filesystem": "btrfs"}],
    ids=["one disk", "btrfs"],
)
def test_a_pool_that_nothing_writes_to_before_the_image_is_read_is_fine(pool: dict[str, Any]) -> None:
    assert not check(cases.answers(storage=cases.storage(swap=PARTITION, pool=pool)))


def test_both_sizes_are_told_apart() -> None:
    """What nobody asked for stays within its bounds."""
    plain = planned({"swap": {"kind": "file"}})
    (file,) = plain.swap_files
    assert file.size <= 16 * GIB
    (file,) = planned({"swap": FILE}).swap_files
    assert file.size >= cases.machine().memory.total


SELECT = """host: {
  device = host.config.boot.resumeDevice;
  parameters = host.config.boot.kernelParams;
  generator = builtins.any (path: builtins.match ".*/systemd-hibernate-resume-generator" (toString (path.source or path)) != null)
    host.config.boot.initrd.systemd.storePaths;
  toplevel = host.config.system.build.toplevel.drvPath;
  host = let release = host.config.environment.etc."os-release"; in release.text or release.source.text;
  stage1 = host.config.boot.initrd.systemd.contents."/etc/os-release".source.text;
}"""
COMPARED = ("ID", "IMAGE_ID", "IMAGE_VERSION", "VERSION_ID")
"""What systemd compares before it believes the firmware's variable (systemd-hibernate-resume-generator(8))."""


@pytest.mark.nixpkgs
@pytest.mark.parametrize("swap", [PARTITION, FILE], ids=["partition", "file"])
def test_the_host_evaluates(tmp_path: Path, swap: dict[str, Any]) -> None:
    facts = cases.machine()
    answers = cases.answers(storage=cases.storage(swap=swap, volumes="lvm", **LUKS))
    plan = make_plan(facts, answers, MEDIUM)
    files = render(facts, answers, plan, MEDIUM, load_templates()).files
    found = evaluate_flake_host(hosts.write(files, tmp_path), answers.hostname, SELECT)
    assert not found.failed_assertions and not found.warnings
    assert found.value["device"] == (plan.host.resume_device or "")
    assert found.value["generator"], "stage 1 reads where the image is"
    assert "nohibernate" not in found.value["parameters"]
    asleep, awake = (
        {
            name: value
            for name, value in re.findall(r"(?m)^(\w+)=(.*)$", found.value[each])
            if name in COMPARED
        }
        for each in ("host", "stage1")
    )
    assert asleep == awake and asleep["ID"], "stage 1 knows the image as its host's"
