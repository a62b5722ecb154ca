"""What SATA, SAS and USB disks say of their health: by smartctl, on an emulated disk and in reports of every kind."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from installer.facts.common import Unknown
from installer.facts.disks import Health
from installer.probe import probe
from installer.probe.questions import smart_told
from installer.probe.record import ReplayRoot
from tests import linux_guest, machines

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
until [ -b /dev/sda ]; do sleep 0.1; done
echo BEGIN; smartctl --json=c --nocheck=standby --health --attributes /dev/sda; echo END
poweroff -f
"""
MODULES = ("scsi_common", "scsi_mod", "libata", "ata_piix", "t10-pi", "crc64-rocksoft", "sd_mod")


def test_an_emulated_ata_disk_tells_its_health(tmp_path: Path) -> None:
    """The real smartctl, the kernel's libata and a disk that knows SMART: QEMU's."""
    smartctl = shutil.which("smartctl", path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert smartctl, "smartctl is not installed: see tests/packages.txt"
    initramfs = tmp_path / "initrd"
    initramfs.write_bytes(linux_guest.initramfs(INIT, MODULES, (Path(smartctl),)))
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(64 << 20)
    (kernel,) = (linux_guest.kernel() / "boot").glob("vmlinuz-*")
    ran = subprocess.run(
        (
            *("qemu-system-x86_64", "-machine", "pc", "-m", "256", "-display", "none", "-nodefaults"),
            *("-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initramfs),
            *("-append", "console=ttyS0 quiet panic=-1 tsc=unstable"),
            *("-drive", f"file={image},format=raw,if=ide"),
        ),
        capture_output=True,
        timeout=300,
        check=True,
    )
    report = ran.stdout.partition(b"BEGIN")[2].partition(b"END")[0]
    told = smart_told(report.replace(b"\r", b""))
    assert told is not None, ran.stdout
    assert told.startswith("passed=1 "), told
    health = health_of(told)
    assert isinstance(health, Health)
    assert health.summary.startswith("passed") and not health.failing


def health_of(told: str | None) -> Health | Unknown:
    """Of a SATA disk that was told so."""
    record = machines.record("many-disks")
    facts = probe(ReplayRoot(record))
    name = next(disk.name for disk in facts.disks if disk.transport == "sata")
    record.answers.pop(f"smart health {name}", None)
    if told is not None:
        record.answers[f"smart health {name}"] = told
    return next(disk.health for disk in probe(ReplayRoot(record)).disks if disk.name == name)


@pytest.mark.parametrize(
    ("told", "summary", "failing"),
    [
        ("passed=1 reallocated=0 pending=0 celsius=31", "passed, 31 °C", False),
        (
            "passed=1 worn=12 reallocated=8 pending=3 celsius=40",
            "passed, 12 % worn, 8 sectors replaced, 3 sectors unreadable, 40 °C",
            False,
        ),
        ("passed=0", "says that it is failing", True),
    ],
)
def test_health_in_words(told: str, summary: str, failing: bool) -> None:
    health = health_of(told)
    assert isinstance(health, Health)
    assert (health.summary, health.failing) == (summary, failing)


@pytest.mark.parametrize(
    ("told", "because"),
    [
        (None, "needs root and smartctl"),
        ("", "needs root and smartctl"),
        ("passed", "needs root and smartctl"),
        ("passed=yes", "needs root and smartctl"),
        ("celsius=3", "needs root and smartctl"),
        ("asleep=1", "sleeps"),
    ],
)
def test_health_that_is_not_told(told: str | None, because: str) -> None:
    health = health_of(told)
    assert isinstance(health, Unknown)
    assert because in health.unknown_because


ATA: dict[str, Any] = {
    "smartctl": {"exit_status": 8},
    "smart_status": {"passed": False},
    "ata_smart_attributes": {
        "table": [
            {"id": 5, "raw": {"value": 16, "string": "16"}},
            {"id": 197, "raw": {"value": 2, "string": "2"}},
        ]
    },
    "temperature": {"current": 35},
}
SCSI: dict[str, Any] = {
    "smartctl": {"exit_status": 0},
    "smart_status": {"passed": True},
    "scsi_percentage_used_endurance_indicator": 4,
    "scsi_grown_defect_list": 0,
    "temperature": {"current": 28, "drive_trip": 70},
}
ASLEEP: dict[str, Any] = {
    "smartctl": {"exit_status": 2, "messages": [{"string": "Device is in STANDBY mode, exit(2)"}]}
}


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (ATA, "passed=0 reallocated=16 pending=2 celsius=35"),
        (SCSI, "passed=1 worn=4 reallocated=0 celsius=28"),
        (ASLEEP, "asleep=1"),
        ({"smartctl": {"exit_status": 2, "messages": [{"string": "Permission denied"}]}}, None),
        ({"smartctl": {}, "smart_status": {"passed": "maybe"}}, None),
        ({"smartctl": {}, "smart_status": []}, None),
        ([], None),
        ({}, None),
    ],
)
def test_what_is_kept_of_a_report(report: Any, told: str | None) -> None:
    assert smart_told(json.dumps(report).encode()) == told


@pytest.mark.parametrize("report", [b"", b"{", b"\xff\xfe", b"null"])
def test_a_report_that_is_none(report: bytes) -> None:
    assert smart_told(report) is None
