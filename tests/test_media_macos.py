"""`hv media write` on macOS: what diskutil and ioreg print, replayed; and the commands of an operator's computer without what
is Linux's alone. No computer with macOS was ever asked.
"""

import argparse
import plistlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from installer.answers.sizes import MIB
from installer.errors import Exit, HyperError
from installer.facts.disks import Transport
from iso import macos, sticks
from iso.commands import media
from iso.commands.media_write import write_to
from iso.image import opened
from tests.media import fixture
from tests.nixeval.nix import REPOSITORY

PRINTED = REPOSITORY / "tests/media/macos"
SERIAL = "4C530001230405116342"
IMAGE = 24 * MIB


class Replayed:
    """The two programs, by what they print."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.changed: dict[str, dict[str, Any]] = {}
        """What `diskutil info` says differently."""
        self.fails = ""
        """The verb of diskutil that fails."""

    def __call__(self, argv: Sequence[str]) -> bytes:
        """Print it."""
        self.told.append(tuple(argv))
        if self.fails and self.fails in argv:
            raise HyperError("it failed", why=f"{self.fails}: in use", remedy="none")
        match tuple(argv):
            case ("diskutil", "list", "-plist"):
                return (PRINTED / "list.plist").read_bytes()
            case ("ioreg", *_):
                return (PRINTED / "ioreg.plist").read_bytes()
            case ("diskutil", "info", "-plist", name):
                said = plistlib.loads((PRINTED / f"info-{name}.plist").read_bytes())
                return plistlib.dumps(said | self.changed.get(name, {}))
            case ("diskutil", "unmountDisk" | "eject", _):
                return b""
        raise AssertionError(argv)


@pytest.fixture
def replayed() -> Replayed:
    return Replayed()


def test_disks_are_told_as_elsewhere(replayed: Replayed) -> None:
    found = {disk.name: disk for disk in macos.disks(replayed)}
    stick = found["disk4"]
    assert (stick.model, stick.serial, stick.transport) == ("Ultra Fit", SERIAL, Transport.usb)
    assert (stick.size, stick.logical_sector, stick.table) == (15376318464, 512, "dos")
    (part,) = stick.partitions
    assert part.filesystem
    assert (part.number, part.label, part.filesystem.kind) == (1, "HOLIDAY", "vfat")
    assert found["disk10"].serial is None, "not the hub's that it hangs on"
    assert found["disk5"].transport is Transport.mmc
    assert all(name in found for name in ("disk0", "disk3", "disk9"))


@pytest.mark.parametrize("name", ["disk4", "disk5"])
def test_sticks_and_cards_are_taken(name: str, replayed: Replayed) -> None:
    everyone = macos.disks(replayed)
    sticks.require_stick(sticks.choose(name, everyone), everyone, IMAGE)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("disk0", "neither removable nor plugged in by USB"),
        ("disk3", "neither removable"),
        ("disk6", "disk6s2 is part of an APFS container, disk7"),
        ("disk7", "is made of other disks"),
        ("disk8", "part of a CoreStorage volume group"),
        ("disk9", "the kernel says that it is read-only"),
        ("disk10", "LVM physical volume"),
    ],
)
def test_disks_that_are_refused(name: str, why: str, replayed: Replayed) -> None:
    everyone = macos.disks(replayed)
    with pytest.raises(HyperError) as error:
        sticks.require_stick(sticks.choose(name, everyone), everyone, IMAGE)
    assert why in f"{error.value.what} {error.value.why}"
    assert name in error.value.what


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"Internal": True, "Removable": False, "RemovableMedia": False}, "built into this computer"),
        ({"SystemImage": True}, "belongs to macOS"),
        ({"OSInternalMedia": True}, "belongs to macOS"),
        ({"RAIDSlice": True}, "part of an Apple RAID"),
        ({"BusProtocol": "Disk Image"}, "a disk image that is attached"),
        ({"WholeDisk": False}, "no whole disk"),
        ({"WritableMedia": False}, "read-only"),
        ({"DeviceBlockSize": 4096}, "count 512"),
        ({"TotalSize": 4 * MIB}, "the image has"),
    ],
)
def test_what_is_said_of_a_stick_that_is_none(said: dict[str, Any], why: str, replayed: Replayed) -> None:
    replayed.changed["disk4"] = said
    everyone = macos.disks(replayed)
    with pytest.raises(HyperError) as error:
        sticks.require_stick(sticks.choose("disk4", everyone), everyone, IMAGE)
    assert why in f"{error.value.what} {error.value.why}"


def test_a_partition_is_no_disk(replayed: Replayed) -> None:
    with pytest.raises(HyperError, match="disk4s1 is a partition"):
        sticks.choose("disk4s1", macos.disks(replayed))


def computer(replayed: Replayed, dev: Path, size: int = 0) -> macos.Mac:
    """A computer whose stick is a file."""
    (dev / "rdisk4").touch()
    if size:
        with (dev / "rdisk4").open("wb") as made:
            made.truncate(size)
        replayed.changed["disk4"] = {"TotalSize": size, "Size": size}
    return macos.Mac(macos.disks(replayed), replayed, dev)


def options(*words: str) -> argparse.Namespace:
    """The command line."""
    return media.parser().parse_args(["write", str(fixture.image("ours")), *words])


def test_written_and_read_back(
    replayed: Replayed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The character device is a file here; everything else is what runs there."""
    mac = computer(replayed, tmp_path, 200 * MIB)
    assert write_to(options("/dev/rdisk4", "--confirm", SERIAL), mac, lambda _: "") == Exit.ok
    original, written = fixture.image("ours").read_bytes(), (tmp_path / "rdisk4").read_bytes()
    assert written[:512] + written[1024 : len(original)] == original[:512] + original[1024:]
    said = capsys.readouterr().out
    assert "HOLIDAY" in said
    assert "read back, the same" in said
    assert "ejected" in said
    verbs = [each[1] for each in replayed.told if each[0] == "diskutil" and each[1] not in ("info", "list")]
    assert verbs == ["unmountDisk", "eject"]


@pytest.mark.parametrize("spoil", ["serial", "unmountDisk", "confirm"])
def test_nothing_is_written(spoil: str, replayed: Replayed, tmp_path: Path) -> None:
    mac = computer(replayed, tmp_path, 200 * MIB)
    given = SERIAL
    if spoil == "serial":
        replayed.changed["disk4"] |= {"MediaName": "Another Media"}
    elif spoil == "confirm":
        given = "disk4"
    else:
        replayed.fails = spoil
    with pytest.raises(HyperError) as error:
        write_to(options("/dev/disk4", "--confirm", given), mac, lambda _: "")
    assert error.value.code is (Exit.consent if spoil == "confirm" else Exit.busy)
    assert not any((tmp_path / "rdisk4").read_bytes())


def test_what_is_no_property_list() -> None:
    with pytest.raises(HyperError, match="are not told") as error:
        macos.disks(lambda _: b"Usage: diskutil list\n")
    assert "no property list" in error.value.why
    with pytest.raises(HyperError, match="are not told"):
        macos.run(("/nonexistent/diskutil", "list"))


def test_a_disk_tells_its_end_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As sys/disk.h of macOS has it; a character device stands for the disk, whose end lseek does not tell either."""
    asked: list[int] = []

    def ioctl(_: int, request: int, room: bytes) -> bytes:
        asked.append(request)
        return (512).to_bytes(4, sys.byteorder) if len(room) == 4 else (1000).to_bytes(8, sys.byteorder)

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("iso.image.fcntl.ioctl", ioctl)
    with opened(Path("/dev/zero")) as image:
        assert image.size == 512000
    # _IOR('d', 24, uint32_t) and _IOR('d', 25, uint64_t), sys/ioccom.h
    assert asked == [0x40000000 | size << 16 | ord("d") << 8 | number for size, number in ((4, 24), (8, 25))]


NO_LINUX = """
import importlib.abc, os, sys, sysconfig

sysconfig.get_config_vars()  # is looked for by the platform's name, and is this one's
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pyudev", "parted", "_ped", "libvirt", "systemd"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
sys.platform = "darwin"
for name in ("posix_fadvise", "POSIX_FADV_DONTNEED", "O_DIRECT", "copy_file_range", "memfd_create", "sched_getaffinity",
             "unshare", "setns", "eventfd", "SEEK_DATA", "SEEK_HOLE", "getxattr", "listxattr", "setxattr", "splice"):
    if hasattr(os, name):
        delattr(os, name)
from hv.cli import main
sys.exit(main())
"""
"""A Python as macOS has it: without these modules and functions of Linux (docs.python.org, "Availability")."""


def mac(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `hv` so."""
    return subprocess.run(
        [sys.executable, "-c", NO_LINUX, *map(str, words)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_of_an_operators_computer(tmp_path: Path) -> None:
    """Each changes, reads or serves files; none needs what only Linux has."""
    image, copy, answers = tmp_path / "a.iso", tmp_path / "b.iso", REPOSITORY / "examples/home-lab.toml"
    original = fixture.image("ours").read_bytes()
    image.write_bytes(original)
    (tmp_path / "fleet.csv").write_text("name,serial,hostname\none,S1,kvm1\n")
    embed = ("media", "embed", image, "--answers", answers)
    for words in (
        ("--version",),
        ("answers", "check", answers),
        ("media", "doctor", image),
        ("media", "manifest", image, "--sums"),
        (*embed, "--output", copy),
        embed,
        ("media", "show", image, "--answers"),
        ("media", "diff", image, copy),
        ("media", "extract", image, tmp_path / "out"),
        ("media", "verify", image, "--manifest", tmp_path / "a.iso.manifest.json"),
        ("media", "reset", image),
        ("media", "fleet", tmp_path / "fleet.csv", "--answers", answers, "--output", tmp_path / "fleet"),
        ("media", "pack", image),
        ("media", "try", "--help"),
        ("media", "web", "--help"),
        ("media", "host", "--help"),
        ("media", "write", "--help"),
    ):
        done = mac(*words)
        assert done.returncode == Exit.ok, (words, done.stdout, done.stderr)
    assert image.read_bytes() == original


def test_writing_a_stick_asks_diskutil(tmp_path: Path) -> None:
    done = mac("media", "write", fixture.image("ours"), "/dev/disk4")
    assert done.returncode == Exit.unsuitable
    assert "diskutil is not there" in done.stderr
