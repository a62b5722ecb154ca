"""Installations beside what stays: a disk with another system on it, its partitions hashed before and after."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.answers.sizes import GIB, MIB
from installer.errors import Exit
from installer.execute.kept_table import read_copies
from installer.facts.disks import Partition
from installer.facts.firmware import FirmwareKind
from installer.plan.actions import ChangePartitionTable
from installer.plan.planner import make_plan
from installer.plan.storage import filesystem
from installer.plan.storage.gpt import PartitionType
from tests import gpt
from tests.execute.ready import Ready, answers_for, ready_rig
from tests.execute.rig import LoopDisk, add_fat, prepare, run, tiny_system, with_closure
from tests.gpt import Entry, write_gpt
from tests.test_execute_reinstall import on_disk

pytestmark = [pytest.mark.root, pytest.mark.nix]

SIZE = 12 * GIB
# By this process: another's disk must not be the one that /dev/disk/by-uuid leads to.
ESP_UUID, DATA_UUID = f"A1B2-{os.getpid() & 0xFFFF:04X}", f"11111111-2222-4333-8444-{os.getpid():012x}"
WINDOWS = (
    Entry(1, MIB, GIB, gpt.ESP, name="EFI system partition", attributes=1 << 63, kind="vfat", uuid=ESP_UUID),
    Entry(2, MIB + GIB, 16 * MIB, gpt.MSR, name="Microsoft reserved partition", attributes=1 << 63),
    Entry(3, 17 * MIB + GIB, 100 * MIB, gpt.DATA, name="Basic data partition", kind="ntfs"),
    Entry(4, 117 * MIB + GIB, 64 * MIB, gpt.RECOVERY, attributes=(1 << 63) | 1, kind="ntfs"),
    Entry(6, SIZE - GIB, 512 * MIB, gpt.LINUX, name="data", kind="ext4", uuid=DATA_UUID),
)
"""As Windows 11 lays a disk out, with a Linux data partition at the end and 8 GiB free between."""
FOREIGN = {
    "EFI/Microsoft/Boot/bootmgfw.efi": b"MZ Windows" + bytes(5000),
    "EFI/Microsoft/Boot/BCD": os.urandom(3000),
    "EFI/BOOT/BOOTX64.EFI": b"MZ Windows fallback",
}


def fill(entries: tuple[Entry, ...], disk: LoopDisk, sector: int = 512) -> tuple[Partition, ...]:
    """Put the partitions onto the disk, each with something in it."""
    write_gpt(disk.device, entries, disk.file.stat().st_size, sector)
    run("partx", "--add", disk.device)
    for entry in entries:
        device = f"{disk.device}p{entry.number}"
        match entry.kind:
            case "vfat":
                run("mkfs.fat", "-F", "32", "-i", ESP_UUID.replace("-", ""), device)
            case "ext4":
                run("mkfs.ext4", "-q", "-U", DATA_UUID, device)
            case _:
                with Path(device).open("r+b") as file:
                    file.write(os.urandom(100_000))
                    file.seek(entry.size - 4096)
                    file.write(os.urandom(4096))
                    os.fsync(file.fileno())
    return tuple(sorted((each.partition("vda") for each in entries), key=lambda each: each.number))


def digests(disk: LoopDisk, entries: tuple[Entry, ...]) -> dict[int, str]:
    """SHA-256 of each partition, read from the disk's file."""
    for path in (disk.device, *(f"{disk.device}p{each.number}" for each in entries)):
        with Path(path).open("rb") as device:
            os.fsync(device.fileno())
    found = {}
    with disk.file.open("rb") as file:
        for entry in entries:
            file.seek(entry.start)
            digest, left = hashlib.sha256(), entry.size
            while left:
                chunk = file.read(min(left, 4 * MIB))
                digest.update(chunk)
                left -= len(chunk)
            found[entry.number] = digest.hexdigest()
    return found


def put(ready: Ready, files: dict[str, bytes], kind: str, number: int) -> None:
    """Files onto a file system of the disk."""
    mount = str(ready.rig.folder / "bin/mount")
    folder = ready.rig.folder / "look"
    folder.mkdir(exist_ok=True)
    ready.space.run(mount, "-t", kind, "-o", "rw", f"{ready.disk.device}p{number}", str(folder))
    try:
        for name, content in files.items():
            source = ready.rig.folder / "content"
            source.write_bytes(content)
            ready.space.run("mkdir", "-p", str((folder / name).parent))
            ready.space.run("cp", str(source), str(folder / name))
    finally:
        _unmount(ready, folder)


def read(ready: Ready, names: list[str], number: int) -> dict[str, str]:
    """SHA-256 of files on a FAT of the disk, by a tool of its own."""
    found = {}
    for name in names:
        path = ready.rig.folder / "read"
        path.unlink(missing_ok=True)
        run("mcopy", "-i", f"{ready.disk.device}p{number}", f"::{name}", path)
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _unmount(ready: Ready, folder: Path) -> None:
    ready.space.run("umount", str(folder))
    os.sync()


def arrange(ready: Ready, storage: dict[str, Any], **system: Any) -> None:
    """Answers, system and plan for a host beside what is there."""
    given = answers_for(ready.disk)
    given["storage"] |= {"existing": "keep"} | storage
    given["boot"] = given.get("boot", {}) | system.pop("boot", {})
    draft = make_plan(
        ready.facts, Answers.model_validate(given), with_closure("/nix/store/" + "0" * 32 + "-x")
    )
    fstab = "".join(
        f"{each.device} {each.mountpoint} {each.kind} noatime 0 1\n" for each in draft.host.filesystems
    )
    ready.toplevel = tiny_system(ready.rig, ready.disk, "", fstab=fstab, **system)
    ready.medium = with_closure(ready.toplevel)
    prepare(ready.rig, ready.facts, given, ready.medium)
    ready.plan = make_plan(ready.facts, Answers.model_validate(given), ready.medium)


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ready]:
    """A disk with Windows on it, in a machine with UEFI."""
    monkeypatch.setattr(filesystem, "SHOWN", filesystem.SHOWN - {"fmask=0077", "dmask=0077"})
    with ready_rig(
        tmp_path,
        old=lambda disk: fill(WINDOWS, disk),
        prepared=False,
        facts={"firmware": FirmwareKind.uefi64},
        size=SIZE,
    ) as made:
        add_fat(made.rig)
        put(made, FOREIGN, "vfat", 1)
        put(made, {"mine": b"precious"}, "ext4", 6)
        yield made


SHARED = {"esp": "share", "partitions": [{"label": "data", "mount": "/srv/data"}]}


def test_windows_and_its_esp_stay(windows: Ready) -> None:
    assert shutil.which("mcopy"), "mtools"
    arrange(windows, SHARED, uefi=True)
    apart = WINDOWS[1:4]
    before, table = digests(windows.disk, apart), read_copies(windows.disk.device, 512)[0]
    foreign = read(windows, [*FOREIGN], 1)
    done = windows.space.install(windows.rig, "--fusefat")
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert digests(windows.disk, apart) == before
    assert read(windows, [*FOREIGN], 1) == foreign
    for copy in read_copies(windows.disk.device, 512):
        assert {*copy.entries} == {1, 2, 3, 4, 5, 6}
        for entry in WINDOWS:
            assert copy.entries[entry.number] == table.entries[entry.number] == entry.raw(512)
    assert windows.file("/mine", 6) == "precious"
    assert "hostname" in windows.file("/var/lib/hyper-nixos/handoff.json", 5)
    ours = read(windows, ["EFI/systemd/systemd-bootx64.efi", "loader/entries/nixos-generation-1.conf"], 1)
    assert len(ours) == 2
    log = windows.file("/var/log/hyper-nixos/install.log", 5)
    assert "all 3 files of other systems are what they were" in log


def test_a_host_that_starts_from_windows_esp_is_reinstalled(windows: Ready) -> None:
    """The table, Windows and its files on the ESP stay; people's data stays, the system is new."""
    arrange(windows, {"esp": "share"}, uefi=True)
    done = windows.space.install(windows.rig, "--fusefat")
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    put(windows, {"home/alice/mine": b"dear", "srv/old": b"not named"}, "ext4", 5)
    apart = WINDOWS[1:]
    before, foreign = digests(windows.disk, apart), read(windows, [*FOREIGN], 1)
    table, first = run("sfdisk", "--dump", windows.disk.device), windows.toplevel
    windows.facts = windows.rig.facts(
        windows.disk, partitions=on_disk(windows.disk.device), firmware=FirmwareKind.uefi64
    )
    arrange(windows, {"existing": "reinstall", "keep": ["/home"]}, uefi=True)
    assert windows.toplevel != first
    assert not any(isinstance(each, ChangePartitionTable) for s in windows.plan.steps for each in s.actions)
    done = windows.space.install(windows.rig, "--fusefat")
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert run("sfdisk", "--dump", windows.disk.device) == table
    assert digests(windows.disk, apart) == before
    assert read(windows, [*FOREIGN], 1) == foreign
    assert windows.file("/home/alice/mine", 5) == "dear"
    assert windows.space.run("debugfs", "-R", "stat /srv/old", f"{windows.disk.device}p5") == ""
    store = run("debugfs", "-R", "ls /nix/store", f"{windows.disk.device}p5")
    assert windows.toplevel.rpartition("/")[2] in store
    assert first.rpartition("/")[2] not in store


def test_kernels_lie_apart_from_an_esp_that_is_windows(windows: Ready) -> None:
    arrange(windows, SHARED, uefi=True, esp="/efi", boot={"kernels": "xbootldr"})
    foreign = read(windows, [*FOREIGN], 1)
    done = windows.space.install(windows.rig, "--fusefat")
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert read(windows, [*FOREIGN], 1) == foreign
    types = {
        number: entry[:16] for number, entry in read_copies(windows.disk.device, 512)[0].entries.items()
    }
    assert types[5] == uuid.UUID(PartitionType.xbootldr.value).bytes_le
    assert len(read(windows, ["EFI/systemd/systemd-bootx64.efi", "loader/loader.conf"], 1)) == 2
    assert len(read(windows, ["EFI/nixos/kernel", "loader/entries/nixos-generation-1.conf"], 5)) == 2
    listed = run("mdir", "-b", "-i", f"{windows.disk.device}p1", "::EFI")
    assert "nixos" not in listed, "no kernel on the shared one"
    assert "hostname" in windows.file("/var/lib/hyper-nixos/handoff.json", 7)


def test_our_loader_would_have_taken_the_fallback(windows: Ready) -> None:
    """Without putting it back the check fails: what the system under test does is what `bootctl install` does."""
    arrange(windows, SHARED, uefi=True)
    failed = windows.space.install(windows.rig, "--fusefat", "--no-put-back")
    assert failed.returncode == Exit.step
    assert "EFI/BOOT/BOOTX64.EFI as it was" in " ".join(failed.stderr.split())


def test_an_esp_with_another_systemd_boot_is_refused_before_the_first_write(windows: Ready) -> None:
    put(windows, {"loader/entries/debian.conf": b"title Debian\n"}, "vfat", 1)
    arrange(windows, SHARED, uefi=True)
    before = windows.disk.digest()
    refused = windows.space.install(windows.rig, "--fusefat")
    assert refused.returncode == Exit.unsuitable, refused.stdout + refused.stderr
    assert "debian.conf" in refused.stderr
    assert "nothing was written to any disk" in " ".join(refused.stderr.split())
    assert windows.disk.digest() == before


KEPT = (
    Entry(3, 34 * 4096, 40 * MIB, gpt.DATA, name="before the first MiB", attributes=7),
    Entry(2, 64 * MIB, 512 * MIB, gpt.LINUX, name="old root", kind="ext4", uuid=DATA_UUID),
    Entry(7, 8 * GIB, 64 * MIB, gpt.LINUX, name="at the end"),
)


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Ready]:
    """A disk with sectors of 4096 bytes, in a machine with BIOS, and data on it."""
    with ready_rig(
        tmp_path,
        old=lambda disk: fill(KEPT, disk, 4096),
        prepared=False,
        facts={"logical_sector": 4096, "physical_sector": 4096},
        size=9 * GIB,
        sector=4096,
    ) as made:
        yield made


ROOT_GROWN = {
    "partitions": [{"uuid": KEPT[1].identity, "action": "format", "mount": "/", "grow": True}],
    "swap": {"kind": "none"},
}


def test_a_partition_becomes_the_root_and_grows_beside_others(native: Ready) -> None:
    arrange(native, ROOT_GROWN, core=1)
    before = digests(native.disk, KEPT)
    done = native.space.install(native.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    after = digests(native.disk, KEPT)
    assert (after[3], after[7]) == (before[3], before[7])
    copy, other = read_copies(native.disk.device, 4096)
    assert copy.entries == other.entries
    assert copy.entries[3] == KEPT[0].raw(4096)
    assert copy.entries[7] == KEPT[2].raw(4096)
    (region,) = (each for each in native.plan.pictures[0].after if each.number == 2)
    assert (region.start, region.start + region.size) == (64 * MIB, 8 * GIB)
    blocks = json.loads(run("lsblk", "--json", "--bytes", "-o", "SIZE", f"{native.disk.device}p2"))
    assert blocks["blockdevices"][0]["size"] == region.size
    assert "hostname" in native.file("/var/lib/hyper-nixos/handoff.json", 2)


@pytest.mark.parametrize(
    "death",
    [
        pytest.param(("--die-event", "partition-main", "started"), marks=pytest.mark.matrix),
        pytest.param(("--die-at", r"^\$ sfdisk.*--part-type"), marks=pytest.mark.matrix),
        ("--die-between", "partition-main", "1"),
        ("--die-event", "partition-main", "done"),
    ],
)
def test_killed_at_the_table_and_gone_on_with_or_given_up(native: Ready, death: tuple[str, ...]) -> None:
    arrange(native, ROOT_GROWN, core=1)
    first = native.disk.digest()
    assert native.space.install(native.rig, *death).returncode == -9
    if death[-1] == "done":
        aborted = native.space.install(native.rig, "--abort")
        assert aborted.returncode == Exit.ok, aborted.stdout + aborted.stderr
        assert native.disk.digest() == first, "not as before, to the byte"
        return
    before = digests(native.disk, KEPT)
    done = native.space.install(native.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    after = digests(native.disk, KEPT)
    assert (after[3], after[7]) == (before[3], before[7])
    assert read_copies(native.disk.device, 4096)[0].entries[7] == KEPT[2].raw(4096)


def test_this_test_sees_a_changed_byte(native: Ready) -> None:
    before = digests(native.disk, KEPT)
    with Path(f"{native.disk.device}p7").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2")
        os.fsync(file.fileno())
    assert digests(native.disk, KEPT)[7] != before[7]
