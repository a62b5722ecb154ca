"""Selectors against recorded machines: exactly what is meant, or an error that shows every candidate."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from installer.answers.model import Answers, DiskSelector
from installer.answers.select import conditions, may_destroy, select_disks, select_passthrough
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.common import Unknown
from installer.facts.disks import Disk
from installer.facts.pci import IommuState
from tests import machines

WORKSTATION = machines.load("workstation")
FIRST, SECOND = (disk for disk in WORKSTATION.disks if disk.transport == "nvme")
STICK = next(disk for disk in WORKSTATION.disks if disk.install_medium)
VDA = next(disk for disk in machines.load("lab-uefi").disks if disk.name == "vda")


def _with(*disks: Disk) -> Facts:
    return WORKSTATION.model_copy(update={"disks": disks})


def _changed(disk: Disk, **values: Any) -> Disk:
    return disk.model_copy(update=values)


def _refused(selector: DiskSelector, facts: Facts, code: Exit) -> str:
    with pytest.raises(HyperError) as caught:
        select_disks(selector, facts)
    assert caught.value.code is code
    assert max(map(len, str(caught.value).splitlines())) <= 80
    return f"{caught.value.what}\n{caught.value.why}\n{caught.value.remedy}"


@pytest.mark.parametrize(
    "selector",
    [
        {"serial": FIRST.serial},
        {"wwn": FIRST.wwn},
        {"by_id": FIRST.by_id[0]},
        {"by_id": f"/dev/disk/by-id/{FIRST.by_id[-1]}"},
        {
            "serial": FIRST.serial,
            "model": "Samsung*2?B",
            "transport": "nvme",
            "size_min": "1.5TiB",
            "size_max": "2TB",
        },
        {"serial": FIRST.serial, "rotational": False},
    ],
    ids="-".join,
)
def test_one_disk_is_found_by_what_it_is(selector: dict[str, Any]) -> None:
    sizes = {"size_max": "2TiB"} if "size_max" in selector else {}
    assert select_disks(DiskSelector(**{**selector, **sizes}), WORKSTATION) == (FIRST,)


@pytest.mark.parametrize(
    ("selector", "condition"),
    [
        ({"serial": "nope"}, 'no  serial = "nope": it has "S69ENF0R123456A"'),
        ({"serial": str(FIRST.serial)[:-1]}, "no  serial"),
        ({"wwn": str(FIRST.wwn).upper()}, "no  wwn"),
        ({"by_id": "nvme-eui"}, "no  by_id"),
        ({"model": "Samsung"}, 'no  model = "Samsung": it has "Samsung SSD 980 PRO 2TB"'),
        ({"model": "[S]amsung*"}, "no  model"),
        ({"transport": "sata"}, 'no  transport = "sata": it has "nvme"'),
        ({"size_min": "2TiB"}, 'no  size_min = "2TiB": it has 1.8 TiB'),
        ({"size_max": "1TiB"}, "no  size_max"),
        ({"rotational": True}, "no  rotational = true: it has false"),
    ],
    ids=str,
)
def test_no_match_shows_every_disk_with_reasons(selector: dict[str, Any], condition: str) -> None:
    told = _refused(DiskSelector(**selector), _with(FIRST, SECOND), Exit.selection)
    assert "matches no disk, must match exactly 1" in told
    assert condition in told
    assert told.count("does not fit\n") == 2
    assert str(FIRST.serial) in told
    assert str(SECOND.serial) in told


def test_two_matches_are_refused_and_shown() -> None:
    told = _refused(DiskSelector(model="Samsung*"), WORKSTATION, Exit.selection)
    assert "matches 2 disks, must match exactly 1" in told
    assert told.count('yes model = "Samsung*"') == 2
    assert "it carries the install medium" in told


def test_two_may_be_asked_for() -> None:
    assert select_disks(DiskSelector(model="Samsung*", count=2), WORKSTATION) == (FIRST, SECOND)
    assert "must match exactly 3" in _refused(
        DiskSelector(model="Samsung*", count=3), WORKSTATION, Exit.selection
    )


@pytest.mark.parametrize("lacking", ["serial", "wwn", "model"])
def test_a_missing_property_is_no_match(lacking: str) -> None:
    selector = DiskSelector(**{lacking: "*"})
    assert "it has none" in _refused(selector, _with(_changed(FIRST, **{lacking: None})), Exit.selection)


def test_an_unknown_property_is_no_match() -> None:
    blind = _changed(FIRST, rotational=Unknown(unknown_because="the queue folder is unreadable"))
    for asked in (True, False):
        told = _refused(DiskSelector(rotational=asked), _with(blind), Exit.selection)
        assert "unknown, because the queue folder is unreadable" in told


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"install_medium": True}, "carries the install medium"),
        ({"read_only": True}, "is read-only"),
        ({"size": 0}, "has no medium in it"),
    ],
    ids=str,
)
def test_disks_that_must_not_be_touched(change: dict[str, Any], reason: str) -> None:
    barred = _changed(FIRST, **change)
    assert not may_destroy(barred)
    told = _refused(DiskSelector(serial=FIRST.serial), _with(barred, SECOND), Exit.busy)
    assert reason in told
    assert str(SECOND.serial) not in told


def test_the_install_medium_is_never_counted_but_a_used_disk_is() -> None:
    medium = _changed(FIRST, install_medium=True, in_use=("it carries the install medium",))
    assert select_disks(DiskSelector(model="Samsung*"), _with(medium, SECOND)) == (SECOND,)
    used = _changed(FIRST, in_use=("nvme0n1p1 is mounted at /home",))
    told = _refused(DiskSelector(model="Samsung*"), _with(used, SECOND), Exit.selection)
    assert "is in use: nvme0n1p1 is mounted at /home" in told


def test_a_disk_without_identity_is_refused_with_a_way_out() -> None:
    nameless = _changed(VDA, serial=None, wwn=None)
    told = _refused(DiskSelector(transport="virtio"), _with(nameless), Exit.selection)
    assert "neither a WWN nor a serial" in told
    assert "serial=" in told
    assert not may_destroy(nameless)


def test_a_machine_without_disks() -> None:
    assert "no disks at all" in _refused(DiskSelector(serial="x"), _with(), Exit.selection)


@given(st.text(), st.text())
def test_text_of_devices_cannot_move_the_cursor(model: str, serial: str) -> None:
    odd = _changed(FIRST, model=model, serial=serial)
    with pytest.raises(HyperError) as caught:
        select_disks(DiskSelector(wwn="nope"), _with(odd))
    assert all(char == "\n" or char.isprintable() for char in str(caught.value))


@given(st.sampled_from(WORKSTATION.disks), st.sampled_from(["serial", "wwn", "model"]))
def test_a_disk_fits_its_own_properties(disk: Disk, name: str) -> None:
    if value := getattr(disk, name):
        assert all(held.holds for held in conditions(DiskSelector(**{name: value}), disk))


# Passthrough ------------------------------------------------------------------------------------------------------


def _wanting(*devices: dict[str, Any]) -> Answers:
    return Answers.model_validate(
        {
            "version": 1,
            "hostname": "studio",
            "storage": {"disk": {"serial": "x"}},
            "hypervisor": {"passthrough": devices},
        }
    )


def _denied(answers: Answers, facts: Facts, code: Exit, *targets: Disk) -> str:
    with pytest.raises(HyperError) as caught:
        select_passthrough(answers, facts, targets)
    assert caught.value.code is code
    return f"{caught.value.what}\n{caught.value.why}"


def test_a_device_goes_with_its_group() -> None:
    for wanted in ({"address": "01:00.0"}, {"address": "0000:01:00.0"}, {"ids": "10de:2704"}):
        (choice,) = select_passthrough(_wanting(wanted), WORKSTATION)
        assert choice.device.address == "0000:01:00.0"
        assert [device.address for device in choice.functions] == ["0000:01:00.0", "0000:01:00.1"]


def test_without_its_group_it_is_refused() -> None:
    told = _denied(_wanting({"address": "01:00.0", "whole_group": False}), WORKSTATION, Exit.unsuitable)
    assert "shares IOMMU group 14 with 0000:01:00.1" in told


def test_ids_of_two_devices_need_the_address() -> None:
    told = _denied(_wanting({"ids": "144d:a80a"}), WORKSTATION, Exit.selection)
    assert "matches 2 devices, give the address instead: 0000:02:00.0" in told


def test_an_unknown_address_lists_the_devices() -> None:
    told = _denied(_wanting({"address": "99:00.0"}), WORKSTATION, Exit.selection)
    assert "matches no device; there are:" in told
    assert "0000:01:00.0 NVIDIA" in told
    assert "PCI bridge" not in told


def test_verdicts_are_respected_and_all_told_at_once() -> None:
    told = _denied(_wanting({"address": "7a:00.3"}, {"address": "00:14.0"}), WORKSTATION, Exit.unsuitable)
    assert "carries the install medium" in told
    assert "is the SMBus" in told


def test_the_disk_of_the_host_stays_with_it() -> None:
    told = _denied(_wanting({"address": "02:00.0"}), WORKSTATION, Exit.unsuitable, FIRST)
    assert f"serial {FIRST.serial}), which the host is installed on" in told
    assert select_passthrough(_wanting({"address": "03:00.0"}), WORKSTATION, (FIRST,))


@pytest.mark.parametrize("state", [state for state in IommuState if state is not IommuState.on])
def test_without_an_iommu_nothing_passes_through(state: IommuState) -> None:
    iommu = WORKSTATION.iommu.model_copy(
        update={"state": state, "groups": (), "evidence": ("no DMAR table",)}
    )
    facts = WORKSTATION.model_copy(update={"iommu": iommu})
    told = _denied(_wanting({"address": "01:00.0"}), facts, Exit.unsuitable)
    assert f"the IOMMU is {state}" in told
    assert "no DMAR table" in told
    assert select_passthrough(_wanting(), facts) == ()
