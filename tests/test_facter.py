"""nixos-facter reports as machines."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from installer.commands.probe import dumps, main
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.common import Unknown, Verdict
from installer.facts.cpu import VirtualizationState
from installer.facts.firmware import ChassisKind, FirmwareKind
from installer.facts.pci import IommuState, Passthrough
from installer.probe import draft, facter, probe
from tests import machines

REPORTS = machines.reports()
DESKTOP, NAS = "two-gpus", "virtualization-off-8-disks"
UNTOLD = "nixos-facter does not report"


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_gives_valid_facts(name: str) -> None:
    printed = dumps(draft(machines.report(name)))
    facts = Facts.model_validate_json(printed)
    assert json.dumps(facts.model_dump(mode="json"), indent=2, ensure_ascii=False) == printed
    assert facts.pci and facts.disks and facts.nics


@pytest.mark.parametrize("name", REPORTS)
def test_what_a_report_lacks_is_unknown_and_says_so(name: str) -> None:
    facts = probe(machines.report(name))
    untold = [
        facts.memory.available,
        *(disk.rotational for disk in facts.disks),
        *(nic.speed for nic in facts.nics),
    ]
    for value in untold:
        assert isinstance(value, Unknown)
        assert UNTOLD in value.unknown_because
    assert facts.firmware.secure_boot.verdict is Verdict.unknown
    assert UNTOLD in facts.firmware.secure_boot.because
    assert any(UNTOLD in line for line in facts.cpu.virtualization.evidence)
    assert all(disk.table == "unknown" for disk in facts.disks)
    assert all(isinstance(device.reset_methods, Unknown) for device in facts.pci)


def test_a_desktop_with_two_gpus() -> None:
    facts = probe(machines.report(DESKTOP))
    assert (facts.cpu.cores, facts.cpu.threads) == (16, 32)
    assert facts.firmware.kind is FirmwareKind.uefi64
    assert facts.firmware.chassis is ChassisKind.desktop
    assert facts.iommu.state is IommuState.on
    assert [gpu.kind.value for gpu in facts.gpus] == ["discrete", "integrated"]
    assert facts.gpus[0].passthrough.verdict is Passthrough.yes
    assert [disk.transport.value for disk in facts.disks] == ["nvme", "nvme", "nvme", "usb"]
    for disk in facts.disks:
        assert disk.serial
        assert disk.size > 200 * 10**9
    nvme = [disk for disk in facts.disks if disk.transport == "nvme"]
    assert all(any(disk.serial in link for link in disk.by_id) for disk in nvme if disk.serial)


def test_a_machine_with_virtualization_off_and_eight_disks() -> None:
    facts = probe(machines.report(NAS))
    assert facts.cpu.virtualization.state is VirtualizationState.off_in_firmware
    assert facts.iommu.state is IommuState.unknown
    assert facts.memory.ecc.verdict is Verdict.no
    assert len(facts.disks) == len({disk.wwn for disk in facts.disks}) == 8
    assert all(disk.wwn and disk.wwn.startswith("0x") for disk in facts.disks)


def test_guests_are_guests() -> None:
    for name in ("guest-without-serials", "aarch64-guest"):
        facts = probe(machines.report(name))
        assert facts.firmware.chassis is ChassisKind.virtual
        assert facts.firmware.hypervisor == "kvm"
        assert facts.disks[0].serial is None
    assert probe(machines.report("aarch64-guest")).cpu.architecture == "aarch64"


def test_the_command_takes_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--facter", str(machines.MACHINES / "facter" / f"{DESKTOP}.json")]) == 0
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("[]", "no object `hardware`"),
        ('{"version": 1, "hardware": []}', "no object `hardware`"),
        ('{"version": 9, "hardware": {}}', "version is 9"),
        ('{"hardware": {}}', "version is None"),
    ],
)
def test_what_is_no_report_is_refused(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "facter.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(HyperError) as caught:
        facter.load(str(path))
    assert words in f"{caught.value.what} {caught.value.why}"
    assert caught.value.code is Exit.record


def spoil(node: Any, data: st.DataObject) -> Any:
    """Replaces something somewhere in the report."""
    if isinstance(node, dict) and node and data.draw(st.integers(0, 5)):
        key = data.draw(st.sampled_from(sorted(node)))
        return {**node, key: spoil(node[key], data)}
    if isinstance(node, list) and node and data.draw(st.integers(0, 5)):
        place = data.draw(st.integers(0, len(node) - 1))
        return [*node[:place], spoil(node[place], data), *node[place + 1 :]]
    return data.draw(
        st.sampled_from(
            [None, True, 7, -1, 1 << 70, "", "x/../y", "0x1g", [], {}, [None], {"value": []}, "\ud800"]
        )
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_spoilt_reports_never_crash(data: st.DataObject, tmp_path: Path) -> None:
    name = data.draw(st.sampled_from(REPORTS))
    report = json.loads((machines.MACHINES / "facter" / f"{name}.json").read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 8))):
        report = spoil(report, data)
    path = tmp_path / "facter.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    try:
        probe(facter.load(str(path)))
    except HyperError as error:
        assert error.code is Exit.record
