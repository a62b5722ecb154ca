"""`hv media write`: on loop devices with the identity of sticks, on one that is too short, and on one that lies."""

import argparse
import errno
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from installer.answers.sizes import MIB
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk, Filesystem, Partition, Transport
from installer.medium import ReadyClosure
from iso import packs, stick_writer, sticks
from iso.carrier import examine
from iso.commands import media
from iso.commands.media_write import onto
from iso.doctor import diagnose
from iso.image import opened
from iso.partition_tables import read_gpt
from iso.stick_writer import CHUNK, Course, Source, check_size, marks, read_back, write
from tests.execute.rig import LoopDisk, Rig, rig
from tests.media import fixture
from tests.media.fixture import run
from tests.nixeval.nix import REPOSITORY
from tests.plan_cases import blank_disk, machine

ROOT = pytest.mark.root
IMAGE = 24 * MIB
STICK = 200 * MIB


def stick(**changes: Any) -> Disk:
    """A stick as the probe tells of it."""
    return blank_disk(
        **{
            "name": "sdz",
            "wwn": None,
            "serial": "STICK1",
            "by_id": ("usb-Example_Stick_STICK1-0:0",),
            "model": "Example Stick",
            "transport": Transport.usb,
            "removable": True,
            "size": STICK,
        }
        | changes
    )


@pytest.fixture
def loops(tmp_path: Path) -> Iterator[Rig]:
    """Loop devices."""
    with rig(tmp_path) as made:
        yield made


def facts(disk: LoopDisk, **changes: Any) -> Facts:
    """A machine with a loop device for a stick."""
    name = Path(disk.device).name
    told = stick(
        name=name, serial=disk.serial, by_id=(disk.by_id,), size=disk.file.stat().st_size, **changes
    )
    return machine(told, blank_disk())


def options(image: Path, disk: LoopDisk, *words: str | Path) -> argparse.Namespace:
    """The command line."""
    return media.parser().parse_args(["write", str(image), disk.device, *map(str, words)])


def put(made: Rig, image: Path, disk: LoopDisk, *words: str | Path, **changes: Any) -> int:
    """Write it, confirmed."""
    assert disk.serial
    chosen = options(image, disk, "--confirm", disk.serial, *words)
    return onto(chosen, facts(disk, **changes), made.live, lambda _: "")


def content(disk: LoopDisk, length: int) -> bytes:
    """What is on it."""
    with Path(disk.device).open("rb") as device:
        return device.read(length)


@ROOT
@pytest.mark.parametrize("name", ["ours", "ours-aarch64"])
def test_written_read_back_and_healthy(
    name: str, loops: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, disk = fixture.image(name), loops.add_disk(STICK)
    assert put(loops, image, disk) == Exit.ok
    told = capsys.readouterr().out
    assert "Example Stick" in told
    assert "read back, the same" in told
    written = content(disk, image.stat().st_size)
    original = image.read_bytes()
    # All but the header of the partition table, which names its copy at the end of the disk.
    assert written[:512] + written[1024:] == original[:512] + original[1024:]
    with opened(Path(disk.device)) as found:
        assert diagnose(found).healthy, diagnose(found)
        gpt = read_gpt(found)
        assert gpt is not None
        assert gpt.other == STICK // 512 - 1
        copy = read_gpt(found, gpt.other)
        assert copy is not None
        assert (copy.problems, copy.table) == ((), gpt.table)
    if name == "ours-aarch64":
        assert "No problems found" in run("sgdisk", "--verify", disk.device)


@ROOT
def test_a_pack_that_is_no_longer_in_the_image_is_not_found_on_the_stick(loops: Rig, tmp_path: Path) -> None:
    """One that begins where nothing of the image is written any more."""
    image, disk = Path(shutil.copy(fixture.image("ours"), tmp_path / "medium.iso")), loops.add_disk(STICK)
    boundary = -(-image.stat().st_size // CHUNK) * CHUNK
    os.truncate(image, boundary - 4096)
    (tmp_path / "in").mkdir()
    run("mksquashfs", tmp_path / "in", tmp_path / "squashfs", "-quiet", "-no-progress")
    closure = ReadyClosure(name="old", toplevel=f"/nix/store/{'1' * 32}-old", nar_size=1)
    assert packs.add(image, tmp_path / "squashfs", (closure,)).offset == boundary

    def there() -> list[str]:
        with opened(Path(disk.device)) as found:
            return [each.name for pack in packs.of_image(found) for each in pack.closures]

    assert put(loops, image, disk) == Exit.ok
    assert there() == ["old"]
    packs.remove(image)
    assert put(loops, image, disk) == Exit.ok
    assert there() == []


@ROOT
def test_a_partition_with_answers(loops: Rig, tmp_path: Path) -> None:
    disk = loops.add_disk(STICK)
    answers = REPOSITORY / "examples/home-lab.toml"
    assert put(loops, fixture.image("ours"), disk, "--config", "--answers", answers) == Exit.ok
    listed = run("sfdisk", "--dump", disk.device)
    third = next(line for line in listed.splitlines() if "type=c" in line)
    start = int(third.split("start=")[1].split(",")[0])
    assert run("mtype", "-i", f"{disk.device}@@{start * 512}", "::/answers.toml") == answers.read_text()
    assert run("mlabel", "-s", "-i", f"{disk.device}@@{start * 512}").split()[-1] == "HYPERNIXCFG"
    with opened(Path(disk.device)) as found:
        assert diagnose(found).healthy, diagnose(found)
        gpt = read_gpt(found)
        assert gpt is not None
        assert [each.name for each in gpt.partitions][-1] == "HYPERNIXCFG"


def said(answer: str, _: str) -> str:
    """Somebody who answers so."""
    return answer


@ROOT
def test_nothing_is_written_without_the_serial_number(loops: Rig) -> None:
    disk = loops.add_disk(STICK)
    before = disk.digest()
    given: tuple[tuple[str, ...], ...] = ((), (), ("--confirm", "OTHER"))
    for words, answer in zip(given, ("", "yes", ""), strict=True):
        with pytest.raises(HyperError, match="nothing was written") as error:
            onto(
                options(fixture.image("ours"), disk, *words), facts(disk), loops.live, partial(said, answer)
            )
        assert error.value.code is Exit.consent
    assert disk.digest() == before
    assert disk.serial
    typed = disk.serial
    assert onto(options(fixture.image("ours"), disk), facts(disk), loops.live, lambda _: typed) == Exit.ok


@ROOT
def test_another_disk_in_its_place_is_not_touched(loops: Rig) -> None:
    disk = loops.add_disk(STICK)
    before = disk.digest()
    loops.describe(disk, "SOMETHING-ELSE")
    with pytest.raises(HyperError, match="not touched") as error:
        put(loops, fixture.image("ours"), disk)
    assert "SOMETHING-ELSE is there" in error.value.why
    assert disk.digest() == before


@ROOT
def test_a_disk_that_somebody_has_is_not_touched(loops: Rig, tmp_path: Path) -> None:
    disk = loops.add_disk(STICK)
    run("mke2fs", "-q", disk.device)
    (tmp_path / "mounted").mkdir()
    run("mount", disk.device, tmp_path / "mounted")
    try:
        before = disk.digest()
        with pytest.raises(HyperError, match="not touched") as error:
            put(loops, fixture.image("ours"), disk)
        assert "busy" in error.value.why
        assert disk.digest() == before
    finally:
        run("umount", tmp_path / "mounted")


@ROOT
def test_interrupted_and_resumed(loops: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "large.iso"
    shutil.copy(fixture.image("26.05"), image)
    with image.open("ab") as longer:
        longer.write(os.urandom(10 * CHUNK))
    disk = loops.add_disk(STICK)
    real = stick_writer.DirectDevice.write
    written: list[int] = []

    def interrupted(self: stick_writer.DirectDevice, offset: int, data: memoryview) -> None:
        if len(written) == 6:
            raise KeyboardInterrupt
        if len(data) == CHUNK:
            written.append(offset)
        real(self, offset, data)

    with monkeypatch.context() as patched:
        patched.setattr(stick_writer.DirectDevice, "write", interrupted)
        patched.setattr("iso.commands.media_write.check_size", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            put(loops, image, disk, "--anyway")
    # Half written, it looks like nothing that could boot.
    assert not any(content(disk, MIB))
    again: list[int] = []

    def counted(self: stick_writer.DirectDevice, offset: int, data: memoryview) -> None:
        again.append(offset)
        real(self, offset, data)

    monkeypatch.setattr(stick_writer.DirectDevice, "write", counted)
    assert put(loops, image, disk, "--resume", "--anyway") == Exit.ok
    assert not set(written[:6]) & set(again)
    expected = image.read_bytes()
    assert content(disk, len(expected))[1024:] == expected[1024:]


@ROOT
def test_a_disk_that_runs_out_of_room_is_found_out(tmp_path: Path) -> None:
    """Its backing file lies where there is next to no room, and claims 200 MiB: writing fails."""
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", small)
    try:
        with (small / "ballast").open("wb") as ballast, pytest.raises(OSError, match="space"):
            while True:
                ballast.write(bytes(MIB))
                ballast.flush()
        with (small / "ballast").open("r+b") as ballast:
            ballast.truncate((small / "ballast").stat().st_size - 8192)
        with rig(tmp_path) as made:
            disk = made.add_disk(STICK, place=small)
            with pytest.raises(HyperError, match="lies about its size"):
                put(made, fixture.image("26.05"), disk)
    finally:
        run("umount", "--lazy", small)


class Liar:
    """A false stick, which no device here can be: it claims more than it has, and what is written behind its end vanishes,
    or comes over what was written before.
    """

    def __init__(self, claimed: int, real: int, *, wraps: bool) -> None:
        self._size, self.real, self.wraps = claimed, real, wraps
        self.content: dict[int, bytes] = {}

    @property
    def size(self) -> int:
        """What it claims."""
        return self._size

    def _place(self, offset: int) -> int | None:
        if offset < self.real:
            return offset
        return offset % self.real if self.wraps else None

    def write(self, offset: int, data: memoryview) -> None:
        """As the real one."""
        for at in range(0, len(data), 4096):
            place = self._place(offset + at)
            if place is not None:
                self.content[place] = bytes(data[at : at + 4096])

    def read(self, offset: int, data: memoryview) -> None:
        """As the real one."""
        for at in range(0, len(data), 4096):
            place = self._place(offset + at)
            piece = self.content.get(place, bytes(4096)) if place is not None else bytes(4096)
            data[at : at + 4096] = piece[: len(data) - at]

    def sync(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("real", [100, 1000, 8000, 30000])
def test_a_liar_that_forgets_is_found_out_at_once(real: int) -> None:
    with pytest.raises(HyperError, match="lies about its size") as error:
        check_size(Liar(32000 * MIB, real * MIB, wraps=False), 10 * MIB)
    assert "claims 31.2 GiB" in error.value.why
    check_size(Liar(real * MIB, real * MIB, wraps=False), 10 * MIB)


@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize("real", [17, 100, 777, 1999])
def test_a_liar_is_found_out_when_it_is_read_back(wraps: bool, real: int, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(secrets.token_bytes(2 * CHUNK))
    made = source(path)
    for claimed in (2000, 2048):
        liar = Liar(claimed * MIB, real * MIB, wraps=wraps)
        put = marks(liar.size, made)
        write(liar, made, nothing, put)
        with pytest.raises(HyperError, match="lies about its size") as error:
            read_back(liar, made, nothing, put)
        assert " at most: " in error.value.why
    honest = Liar(real * MIB, real * MIB, wraps=wraps)
    put = marks(honest.size, made)
    write(honest, made, nothing, put)
    read_back(honest, made, nothing, put)


def source(path: Path) -> Source:
    """An image without changes."""
    return Source(os.open(path, os.O_RDONLY), path.stat().st_size, ())


def nothing(_: Course) -> None:
    """Watch nothing."""


def test_what_is_read_back_differently_is_found(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(secrets.token_bytes(3 * CHUNK))
    target = Liar(4 * CHUNK, 4 * CHUNK, wraps=False)
    made = source(path)
    write(target, made, nothing)
    read_back(target, made, nothing)
    place = CHUNK + 8192
    spoiled = bytearray(target.content[place])
    spoiled[5] ^= 1
    target.content[place] = bytes(spoiled)
    with pytest.raises(HyperError, match="does not hold what was written") as error:
        read_back(target, made, nothing)
    assert f"byte {place + 5}" in error.value.why


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(secrets.token_bytes(3 * CHUNK))

    class Failing(Liar):
        def write(self, offset: int, data: memoryview) -> None:
            if offset >= CHUNK:
                raise OSError(errno.EIO, "Input/output error")
            super().write(offset, data)

    with pytest.raises(HyperError, match="cannot be written") as error:
        write(Failing(4 * CHUNK, 4 * CHUNK, wraps=False), source(path), nothing)
    assert "--resume" in error.value.remedy


def test_an_image_that_becomes_shorter_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(secrets.token_bytes(6 * CHUNK))
    target, made = Liar(8 * CHUNK, 8 * CHUNK, wraps=False), source(path)
    os.truncate(path, 2 * CHUNK + 5)
    with pytest.raises(HyperError, match="the image became shorter") as error:
        write(target, made, nothing)
    assert f"ends at {2 * CHUNK + 5} now" in error.value.why


@pytest.mark.parametrize("when", [1, 4, 6])
def test_whoever_interrupts_leaves_no_thread(when: int, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(secrets.token_bytes(6 * CHUNK))
    target, made = Liar(8 * CHUNK, 8 * CHUNK, wraps=False), source(path)
    write(target, made, nothing)
    seen: list[Course] = []

    def stop(course: Course) -> None:
        seen.append(course)
        if len(seen) == when:
            raise KeyboardInterrupt

    for work in (read_back, write):
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            work(target, made, stop)
        assert not [each for each in threading.enumerate() if each.name == "reading ahead"]
    # While nobody interrupts, too.
    write(target, made, nothing)
    read_back(target, made, nothing)
    assert not [each for each in threading.enumerate() if each.name == "reading ahead"]


# ---- which disk ----


def member(kind: str) -> Partition:
    """A partition with a signature."""
    return Partition(number=1, name="sdz1", start=MIB, size=MIB, filesystem=Filesystem(kind=kind, uuid="u"))


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        (blank_disk(name="sdz"), "neither removable"),
        (stick(read_only=True), "read-only"),
        (stick(in_use=("sdz1 is mounted at /media",)), "mounted at /media"),
        (stick(install_medium=True), "install medium"),
        (stick(partitions=(member("LVM2_member"),)), "LVM physical volume"),
        (stick(partitions=(member("linux_raid_member"),)), "member of an md array"),
        (stick(partitions=(member("zfs_member"),)), "member of a ZFS pool"),
        (stick(filesystem=Filesystem(kind="isw_raid_member")), "isw_raid_member"),
        (stick(logical_sector=4096), "count 512"),
        (stick(size=MIB), "the image has"),
    ],
)
def test_disks_that_are_refused(disk: Disk, words: str) -> None:
    with pytest.raises(HyperError) as error:
        sticks.require_stick(disk, (disk, blank_disk()), IMAGE)
    assert words in f"{error.value.what} {error.value.why}"


@pytest.mark.parametrize(
    "changes", [{}, {"removable": False}, {"transport": Transport.mmc}, {"partitions": (member("vfat"),)}]
)
def test_sticks_are_taken(changes: dict[str, Any]) -> None:
    disk = stick(**changes)
    sticks.require_stick(disk, (disk, blank_disk()), IMAGE)
    assert sticks.choose("sdz", (blank_disk(), disk)) is disk


def test_partitions_and_strangers_are_no_disks() -> None:
    disk = stick(partitions=(member("vfat"),))
    with pytest.raises(HyperError, match="sdz1 is a partition") as error:
        sticks.choose("sdz1", (disk,))
    assert "/dev/sdz" in error.value.remedy
    with pytest.raises(HyperError, match="sdq is no disk") as error:
        sticks.choose("sdq", (disk, blank_disk()))
    assert "Example Stick" in error.value.why
    assert "Samsung" not in error.value.why


def test_what_boots_from_no_stick_is_not_written(tmp_path: Path) -> None:
    disk = LoopDisk(tmp_path / "none", "/dev/sdz", "usb-x", "STICK1")
    told = machine(stick(), blank_disk())
    with rig(tmp_path) as made, pytest.raises(HyperError, match="would not boot from a stick") as error:
        onto(options(fixture.image("26.05-aarch64"), disk), told, made.live, lambda _: "STICK1")
    assert "there is no partition table" in error.value.why


def test_no_room_for_answers() -> None:
    with opened(fixture.image("ours")) as image:
        assert examine(image)
        with pytest.raises(HyperError, match="no room for a partition"):
            sticks.changes(image, image.size + 2 * MIB, bytes(sticks.CONFIG_SIZE))
    with opened(fixture.image("26.05-aarch64")) as image, pytest.raises(HyperError, match="no place"):
        sticks.changes(image, STICK, bytes(MIB))


def test_the_partition_takes_answers_alone() -> None:
    assert sticks.config_files({"answers.toml": b"x"}) == {"answers.toml": b"x"}
    assert list(sticks.config_files({"answers.toml": b"x", "secrets/a": b"y"})) == ["answers.tar"]
    for files in ({}, {"answers.toml": b"x", "ca.pem": b"y"}):
        with pytest.raises(HyperError, match="takes answers and secrets"):
            sticks.config_files(files)


def test_the_command_looks_at_this_machine() -> None:
    done = subprocess.run(
        ["python3", "-m", "hv", "media", "write", fixture.image("ours"), "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={"PATH": f"{REPOSITORY}/.venv/bin:/usr/bin:/bin"},
    )
    assert done.returncode == Exit.selection
    assert "null is no disk" in done.stderr
