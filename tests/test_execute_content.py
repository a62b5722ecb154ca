"""A disk without a name of its own: known before every write by its place and by what stands at its ends."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.answers.sizes import MIB
from installer.errors import Exit, HyperError
from installer.execute.content import Ends, Expected, content_problem, expected, read_ends
from installer.execute.identity import OwnUse, check_identity
from installer.plan.model import DiskIdentity, Step
from installer.probe.questions import disk_ends
from tests.execute.ready import Ready, ready_rig
from tests.execute.rig import LoopDisk, Rig, rig, run

pytestmark = pytest.mark.root


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as one:
        yield one


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[Ready]:
    with ready_rig(tmp_path, named=False) as one:
        yield one


def identity(disk: LoopDisk) -> DiskIdentity:
    return DiskIdentity(
        key="main",
        wwn=None,
        serial=None,
        by_id=None,
        by_path=disk.by_id,
        ends=disk_ends(Path(disk.device).name),
        model=None,
        size=disk.file.stat().st_size,
        logical_sector=512,
    )


def overwrite(disk: LoopDisk, place: int) -> None:
    with Path(disk.device).open("r+b") as device:
        device.seek(place)
        device.write(b"another disk")
        device.flush()
        os.fsync(device.fileno())


@pytest.mark.parametrize("size", [MIB, 2 * MIB, 64 * MIB])
def test_probe_and_executor_read_the_same(made: Rig, size: int) -> None:
    disk = made.add_disk(size, named=False)
    overwrite(disk, size - 512)
    found = read_ends(made.live, identity(disk))
    assert found.hash == disk_ends(Path(disk.device).name)
    assert found.sequence == Path("/sys/class/block", Path(disk.device).name, "diskseq").read_text().strip()


@pytest.mark.parametrize("place", [0, MIB - 512, 63 * MIB, 64 * MIB - 512])
def test_other_content_is_refused(made: Rig, place: int) -> None:
    disk = made.add_disk(64 * MIB, named=False)
    planned = identity(disk)
    step = Step(id="wipe-main", summary="Wipe", writes=("main",), actions=(), checks=())
    assert planned.ends
    was = Expected(Ends(planned.ends, None), cut_off=False)
    assert check_identity(made.live, planned, step, OwnUse(frozenset()), was)
    overwrite(disk, place)
    with pytest.raises(HyperError, match="not touched") as caught:
        check_identity(made.live, planned, step, OwnUse(frozenset()), was)
    assert caught.value.code is Exit.busy
    assert "first and last MiB" in caught.value.why


def test_after_a_cut_the_kernel_must_have_had_it_all_the_time() -> None:
    before, now = Ends("a", "7"), Ends("b", "7")
    assert content_problem(Expected(before, cut_off=True), now) is None
    assert "must stand there" in str(content_problem(Expected(before, cut_off=False), now))
    for other in (Ends("b", "8"), Ends("b", None)):
        assert "lost sight" in str(content_problem(Expected(before, cut_off=True), other))
    assert "lost sight" in str(content_problem(Expected(Ends("a", None), cut_off=True), Ends("b", None)))


@pytest.mark.nix
def test_installs_on_it_and_expects_what_it_wrote(ready: Ready) -> None:
    done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    learned = [event for event in ready.journal.events if event.step == "ends:main"]
    assert len({event.details[0] for event in learned}) >= 3, "blank, with a table, with a boot loader"
    was = expected(ready.plan, ready.journal, ready.plan.disks[0])
    assert was
    assert was.ends == read_ends(ready.rig.live, ready.plan.disks[0])
    assert ready.file("/etc/group").splitlines()[1] == "wheel:x:1:alice"


@pytest.mark.nix
@pytest.mark.parametrize("line", [r"^\$ wipefs", r"^\$ partx", r"^\$ udevadm settle", r"^\$ mkfs"])
def test_killed_while_it_writes_and_gone_on_with(ready: Ready, line: str) -> None:
    assert ready.space.install(ready.rig, "--die-at", line).returncode == -9
    done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr


@pytest.mark.nix
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("^# save-headers-main:", "must stand there"),
        (r"^\$ sfdisk", "was planned"),
        (r"^\$ partx", "lost sight of the disk"),
    ],
)
def test_another_disk_in_its_place_is_refused(ready: Ready, line: str, words: str) -> None:
    """Pulled while the installer was dead, and another of the same size put in."""
    assert ready.space.install(ready.rig, "--die-at", line).returncode == -9
    run("losetup", "--detach", ready.disk.device)
    other = ready.disk.file.with_name("other")
    with other.open("wb") as file:
        file.truncate(ready.disk.file.stat().st_size)
        file.write(b"somebody's")
    run("losetup", ready.disk.device, other)
    before = other.open("rb").read(MIB)
    refused = ready.space.install(ready.rig)
    assert refused.returncode == Exit.busy, refused.stdout + refused.stderr
    assert words in " ".join(refused.stderr.split())
    assert other.open("rb").read(MIB) == before
