"""Damaged and incomplete records: an error that names what is wrong, or facts with unknowns; never a crash."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from installer.errors import Exit, HyperError
from installer.probe import draft, probe, show
from installer.probe.record import SECTIONS, Record, ReplayRoot, load
from installer.probe.root import LiveRoot
from installer.probe.udev import readable
from tests import machines

MACHINES = machines.names()
DAMAGE = st.sampled_from(
    ["", "0", "-1", "x", "999999999999999999999", "\0", "é\ud800", "1 2 3", "- - -", "a:b", "0x"]
)


def write(folder: Path, content: object) -> str:
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "machine.json").write_text(text, encoding="utf-8")
    return str(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_missing_and_corrupt_pieces_never_crash(data: st.DataObject, tmp_path: Path) -> None:
    name = data.draw(st.sampled_from(MACHINES))
    text = json.loads((machines.MACHINES / name / "machine.json").read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 30))):
        section = data.draw(st.sampled_from([one for one in SECTIONS if text.get(one)]))
        key = data.draw(st.sampled_from(sorted(text[section])))
        if data.draw(st.booleans()):
            del text[section][key]
            if not text[section]:
                break
        elif section == "folders":
            text[section][key] = [*text[section][key], data.draw(DAMAGE)]
        elif section == "udev":
            text[section][key][data.draw(st.sampled_from(sorted(text[section][key]) or ["X"]))] = data.draw(
                DAMAGE
            )
        else:
            text[section][key] = data.draw(DAMAGE)
    facts = probe(ReplayRoot(load(write(tmp_path, text))))
    for _, line in show.lines(facts):
        assert "\n" not in line


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["version", *SECTIONS]), inner),
    )
)
def test_any_json_is_a_record_or_an_error(value: Any, tmp_path: Path) -> None:
    try:
        probe(ReplayRoot(load(write(tmp_path, value))))
    except HyperError as error:
        assert error.code is Exit.record
        assert error.remedy


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ('{"version": 1, "files": {"/proc/cpu', "not JSON"),
        ("\0\1\2", "not JSON"),
        ([], "a list stands where an object should"),
        ({"version": 2}, "version is 2"),
        ({"version": 1, "filez": {}}, "unknown section 'filez'"),
        ({"version": 1, "files": []}, "files '' is list, not an object"),
        ({"version": 1, "files": {"/proc/cpuinfo": 7}}, "files '/proc/cpuinfo' is int"),
        ({"version": 1, "udev": {"/sys/x": "y"}}, "udev '/sys/x' is str"),
        ({"version": 1, "folders": {"/sys": {}}}, "folders '/sys' is dict"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_wrong_is_named(content: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(HyperError) as caught:
        load(write(tmp_path, content))
    assert words in f"{caught.value.what} {caught.value.why}"
    assert caught.value.code is Exit.record


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(HyperError, match="nowhere"):
        load(str(tmp_path / "nowhere"))


class Properties(dict[str, str]):
    """As pyudev's: the names can all be listed, and one value cannot be decoded."""

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        if value.startswith("bytes"):
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return value


def test_a_udev_property_that_is_not_utf8_does_not_take_the_others_along() -> None:
    found = readable(Properties(ID_FS_LABEL="bytes", ID_FS_TYPE="ntfs", ID_SERIAL_SHORT="S1"))
    assert found == {"ID_FS_TYPE": "ntfs", "ID_SERIAL_SHORT": "S1"}


def test_a_folder_with_a_sys_is_probed(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_bytes(
        b"processor: 0\nvendor_id: GenuineIntel\nflags: lm vmx\nmodel name: \xff"
    )
    disk = tmp_path / "sys/devices/pci0000:00/0000:00:01.0/nvme/nvme0/nvme0n1"
    disk.mkdir(parents=True)
    (disk / "size").write_text("2048\n")
    block = tmp_path / "sys/class/block"
    block.mkdir(parents=True)
    (block / "nvme0n1").symlink_to("../../devices/pci0000:00/0000:00:01.0/nvme/nvme0/nvme0n1")
    facts = probe(LiveRoot(str(tmp_path)))
    assert [(found.name, found.size, found.pci_address) for found in facts.disks] == [
        ("nvme0n1", 1 << 20, "0000:00:01.0")
    ]


def test_stacks_in_a_circle_end() -> None:
    record = machines.record("server-md-lvm")
    array = record.links["/sys/class/block/md127"]
    record.folders[array] = [*record.folders[array], "holders"]
    record.folders[f"{array}/holders"] = ["md127", "dm-0"]
    record.folders[f"{array}/slaves"] = ["md127", "sda2", "dm-0"]
    assert draft(ReplayRoot(record)).disks


def test_json_needs_neither_pydantic_nor_a_subprocess() -> None:
    code = (
        "import sys; from installer.commands.probe import main; main(['--json']); "
        "bad = {'pydantic', 'rich', 'subprocess', 'argparse', 'typing', 're'} & set(sys.modules); sys.exit(', '.join(sorted(bad)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_record_copies(tmp_path: Path) -> None:
    record = machines.record("workstation")
    copied = write(tmp_path, record.dumps())
    again = load(copied)
    for section in SECTIONS:
        assert getattr(again, section) == getattr(copy.deepcopy(record), section)
    assert again.dumps() == record.dumps()
    assert isinstance(again, Record)
