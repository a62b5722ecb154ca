"""Records tell what a machine is, and not whose."""

import json
import os
import re
from pathlib import Path

import pytest

from installer.commands.probe import dumps
from installer.probe import draft
from installer.probe.record import Record, RecordingRoot, ReplayRoot
from installer.probe.redact import Redaction, array_hosts, identifiers, redact, redacted
from installer.probe.root import LiveRoot
from tests import machines

MACHINES = machines.names()


@pytest.mark.parametrize("name", MACHINES)
def test_no_identifier_of_a_record_remains(name: str) -> None:
    record = machines.record(name)
    found = [*identifiers(record), *array_hosts(record)]
    text = redacted(record).dumps()
    for identifier in found:
        shown = identifier.removeprefix("0x").removeprefix("eui.")
        assert shown not in text, identifier
        if len(shown) > 11:
            assert re.sub("[^0-9A-Za-z]", "", shown) not in text, identifier


@pytest.mark.parametrize("name", MACHINES)
def test_facts_are_the_same_but_for_the_identifiers(name: str) -> None:
    record = machines.record(name)
    redaction = Redaction(identifiers(record), array_hosts(record))
    replayed = dumps(draft(ReplayRoot(redact(record, redaction))))
    expected = dumps(draft(ReplayRoot(record)))
    for nic in machines.load(name).nics:
        for place, address in enumerate(nic.addresses):
            host = address.partition("/")[0]
            expected = expected.replace(
                host, f"2001:db8::{place + 1:x}" if ":" in host else f"192.0.2.{place + 1}"
            )
    assert json.loads(replayed) == json.loads(redaction.text(expected))


@pytest.mark.parametrize("name", MACHINES)
def test_names_still_fit_serials_and_two_disks_stay_two(name: str) -> None:
    before = json.loads(dumps(draft(ReplayRoot(machines.record(name)))))["disks"]
    after = json.loads(dumps(draft(ReplayRoot(redacted(machines.record(name))))))["disks"]
    assert len({disk["serial"] for disk in after}) == len({disk["serial"] for disk in before})
    for old, new in zip(before, after, strict=True):
        assert (old["serial"] is None) == (new["serial"] is None)
        if old["serial"] is not None:
            assert len(old["serial"]) == len(new["serial"])
            named = [old["serial"] in link for link in old["by_id"]]
            assert [new["serial"] in link for link in new["by_id"]] == named


def test_the_same_machine_gives_the_same_record() -> None:
    record = machines.record("server-md-lvm")
    assert redacted(record).dumps() == redacted(record).dumps()


def test_nothing_of_this_machine_remains(tmp_path: Path) -> None:
    recording = RecordingRoot(LiveRoot())
    live = draft(recording)
    names = [os.uname().nodename, "rack-7"]
    text = redacted(recording.record, names).dumps()
    nics = [path.read_text().strip() for path in Path("/sys/class/net").glob("*/address")]
    serials = [path.read_text().strip() for path in Path("/sys/block").glob("*/serial")]
    addresses = [address.partition("/")[0] for nic in live.nics for address in nic.addresses]
    documented = {f"192.0.2.{number}" for number in range(1, 20)}
    for secret in {*nics, *serials, *addresses} - {"", "00:00:00:00:00:00"} - documented:
        assert secret not in text, secret
        assert secret.replace(":", "") not in text or len(secret) < 12, secret
    for name in names:
        assert not re.search(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])", text), name
    cmdline = Path("/proc/cmdline").read_text().split()
    told = ("console=", "intel_iommu=", "amd_iommu=", "iommu=")
    for word in cmdline:
        assert word.startswith(told) or len(word) < 8 or word not in text, word


def test_what_the_probe_does_not_need_is_left_out() -> None:
    record = Record()
    record.files["/proc/cmdline"] = "root=UUID=1 console=ttyS0 rd.luks.key=secret intel_iommu=on"
    record.files["/etc/os-release"] = 'NAME=X\nPRETTY_NAME="X 1"\nIMAGE_ID=secret\nHOME_URL=secret'
    record.files["/proc/self/mountinfo"] = (
        "1 1 8:1 / / rw,secret shared:1 - ext4 /dev/sda1 rw,secret\n"
        "2 1 0:50 / /mnt rw - nfs4 secret.example:/export rw\n"
        "3 1 8:2 /secret /home/alice/secret rw - ext4 /dev/sda2 rw"
    )
    text = redacted(record).dumps()
    assert "secret" not in text
    assert "alice" not in text
    assert "console=ttyS0" in text and "intel_iommu=on" in text
    assert "/redacted/1" in text


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("52:54:00:ab:cd:ef", "enx525400abcdef"),
        ("d3b07384-d113-4ec6-a9d4-5d5b9e2f0c11", "d3b07384:d1134ec6:a9d45d5b:9e2f0c11"),
        ("d3b07384-d113-4ec6-a9d4-5d5b9e2f0c11", "CRYPT-LUKS2-d3b07384d1134ec6a9d45d5b9e2f0c11-root"),
        ("0x5000c500a1b2c3d4", "wwn-0x5000c500a1b2c3d4-part1"),
        ("WD-WCC 4N0XYZ", "ata-WDC_WD40_WD-WCC_4N0XYZ"),
        ("S4EV1234", "nvme.144d-5334455631323334-51-00000001"),
    ],
)
def test_every_spelling_is_found(identifier: str, text: str) -> None:
    redaction = Redaction([identifier])
    shown = redaction.text(text)
    assert shown != text
    assert len(shown) == len(text)
    assert redaction.text(identifier) == redaction.plain(identifier)
