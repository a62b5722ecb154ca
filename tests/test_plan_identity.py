"""The identity contract: which disks are accepted, by what they are pinned, and which are refused."""

import re
from collections.abc import Callable

import pytest

from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.plan.describe import describe
from installer.plan.model import DiskIdentity, Plan
from installer.plan.planner import make_plan
from installer.plan.token import confirm_token
from installer.probe.redact import redacted
from tests import machines
from tests import plan_cases as cases

ENDS = machines.record("virtio-nameless").answers["disk ends vda"]


def plan_for(facts: Facts, **selector: object) -> Plan:
    return make_plan(facts, cases.answers(storage={"disk": selector}), cases.medium())


def with_disks(facts: Facts, change: Callable[[Disk], Disk]) -> Facts:
    return facts.model_copy(update={"disks": tuple(map(change, facts.disks))})


@pytest.mark.parametrize(
    ("name", "selector", "pinned"),
    [
        ("usb-bridge", {"transport": "usb"}, {"serial": "0123456789ABCDEF", "ends": None}),
        (
            "raid-controller",
            {"wwn": "0x600605b00a1b2c3d4e5f60718293a4b1"},
            {"wwn": "0x600605b00a1b2c3d4e5f60718293a4b1", "by_id": "wwn-0x600605b00a1b2c3d4e5f60718293a4b1"},
        ),
        (
            "virtio-nameless",
            {"transport": "virtio"},
            {"serial": None, "wwn": None, "by_id": None, "by_path": "pci-0000:00:02.0", "ends": ENDS},
        ),
    ],
)
def test_accepted_and_pinned(name: str, selector: dict[str, str], pinned: dict[str, object]) -> None:
    (disk,) = plan_for(machines.load(name), **selector).disks
    assert {key: getattr(disk, key) for key in pinned} == pinned


@pytest.mark.parametrize(
    ("name", "selector", "words"),
    [
        ("usb-bridge-twins", {"by_id": "usb-JMicron_Tech_0123456789ABCDEF-0:0"}, ("matches 2 disks",)),
        (
            "raid-controller-without-wwn",
            {"serial": "00b4a39281706f5e4d3c2b1a0ab00506"},
            ("matches 2 disks",),
        ),
        ("virtio-nameless-pair", {"transport": "virtio"}, ("matches 2 disks",)),
        ("multipath-asleep", {"wwn": "0x600508b1001c1111222233334444aaaa"}, ("matches 2 disks",)),
        ("mini-pc-all-off", {"transport": "sata"}, ("neither a WWN nor a serial", "not read (needs root)")),
    ],
)
def test_refused(name: str, selector: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(HyperError) as caught:
        plan_for(machines.load(name), **selector)
    assert caught.value.code is Exit.selection
    for word in words:
        assert word in str(caught.value).replace("\n       ", " ")


@pytest.mark.parametrize("name", ["usb-bridge-twins", "raid-controller-without-wwn", "multipath-asleep"])
def test_one_of_two_alike_is_refused_however_it_is_chosen(name: str) -> None:
    """A selector may fit one of them alone, by a by-id name that says nothing, and yet nothing read again tells them apart."""
    facts = with_disks(
        machines.load(name),
        lambda disk: disk.model_copy(update={"by_id": (f"scsi-SLOT_{disk.name}", f"usb-SLOT_{disk.name}")}),
    )
    with pytest.raises(HyperError) as caught:
        plan_for(facts, by_id="scsi-SLOT_sda")
    assert caught.value.code is Exit.selection
    assert "sdb" in caught.value.why
    assert "same serial number, WWN and size" in caught.value.why


def test_same_serial_and_another_size_is_told_apart() -> None:
    """As eMMC with its boot areas: what is read again, size and serial, fits one of them only."""
    facts = with_disks(
        machines.load("usb-bridge-twins"),
        lambda disk: disk.model_copy(
            update={"by_id": (f"usb-{disk.name}",), "size": disk.size // (2 if disk.name == "sdb" else 1)}
        ),
    )
    (disk,) = plan_for(facts, by_id="usb-sda").disks
    assert disk.by_id == "usb-sda"


def test_two_without_a_name_are_refused_even_when_one_fits() -> None:
    facts = with_disks(
        machines.load("virtio-nameless-pair"),
        lambda disk: disk.model_copy(update={"size": disk.size * (2 if disk.name == "vdb" else 1)}),
    )
    with pytest.raises(HyperError) as caught:
        plan_for(facts, size_max="50GiB")
    assert caught.value.code is Exit.selection
    assert "only disk that could be meant, and there is also vdb" in caught.value.why


def test_one_without_a_name_beside_what_cannot_be_meant() -> None:
    facts = with_disks(
        machines.load("virtio-nameless-pair"),
        lambda disk: disk.model_copy(update={"install_medium": disk.name == "vdb"}),
    )
    (disk,) = plan_for(facts, transport="virtio").disks
    assert disk.by_path == "pci-0000:00:02.0"


@pytest.mark.parametrize("lacking", ["path", "ends"])
def test_without_a_name_place_and_content_are_both_needed(lacking: str) -> None:
    facts = with_disks(
        machines.load("virtio-nameless"), lambda disk: disk.model_copy(update={lacking: None})
    )
    with pytest.raises(HyperError) as caught:
        plan_for(facts, transport="virtio")
    assert caught.value.code is Exit.selection


def test_reordered_names_give_the_same_plan() -> None:
    """What the kernel calls the disks is up to chance; the plan, its token and every step are the same."""
    both = ("disks-in-order", "disks-reordered")
    plans = [plan_for(machines.load(name), serial="WD-WCC4N0000001") for name in both]
    names = [
        next(disk.name for disk in machines.load(name).disks if disk.serial == "WD-WCC4N0000001")
        for name in both
    ]
    assert names == ["sda", "sdb"]
    assert plans[0] == plans[1]
    assert confirm_token(plans[0]) == confirm_token(plans[1])
    assert not re.search(r"\bsd[ab]\b", describe(plans[0]))


def test_what_was_on_it_is_part_of_the_token() -> None:
    facts = machines.load("virtio-nameless")
    other = with_disks(facts, lambda disk: disk.model_copy(update={"ends": "0" * 64}))
    plans = plan_for(facts, transport="virtio"), plan_for(other, transport="virtio")
    assert confirm_token(plans[0]) != confirm_token(plans[1])
    assert ENDS in describe(plans[0])
    assert "/dev/disk/by-path/pci-0000:00:02.0-part1" in describe(plans[0])


def test_a_record_for_others_does_not_tell_the_content() -> None:
    record = machines.record("virtio-nameless")
    answers = redacted(record).answers
    assert answers["disk ends vda"] != ENDS
    assert re.fullmatch("[0-9a-f]{64}", answers["disk ends vda"])
    record.answers["volume group sda1"] = "pQ3xYz-aB3d-eF5g-hI7j-kL9m-nO1p-qR3sTu data"
    shown = redacted(record).answers["volume group sda1"]
    assert "pQ3xYz" not in shown
    assert shown.endswith(" data")


def test_a_plan_has_no_disk_that_nothing_would_find_again() -> None:
    with pytest.raises(ValueError, match="neither a name in by-id"):
        DiskIdentity(
            key="main",
            wwn=None,
            serial=None,
            by_id=None,
            by_path="pci-0",
            model=None,
            size=1,
            logical_sector=512,
        )
