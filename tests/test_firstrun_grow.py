"""Growing for real: loop devices with a GPT, mounted file systems, the field's tools."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hv.firstrun.grow_root import MIB, GrowRootJob, Stack
from hv.firstrun.world import Journal, World
from installer.errors import HyperError
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.handoff import GrowRoot

BEFORE, AFTER = 400 * MIB, 700 * MIB
MAKE = {
    "ext4": ("mkfs.ext4", "-q"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}
KINDS = [
    # Growing a mounted ext4 wants CAP_SYS_RESOURCE (Linux, fs/ext4/resize.c, ext4_resize_begin).
    pytest.param("ext4", marks=pytest.mark.sys_resource),
    "xfs",
    "btrfs",
]

pytestmark = pytest.mark.root


def tool(*argv: str, stdin: str = "") -> str:
    return subprocess.run(argv, input=stdin, check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class Disk:
    """A loop device with a BIOS boot partition and a mounted root, on a file that can grow."""

    world: World
    image: Path
    device: str
    mountpoint: Path
    kind: str

    def enlarge(self) -> None:
        os.truncate(self.image, AFTER)
        tool("losetup", "--set-capacity", self.device)

    @property
    def job(self) -> GrowRootJob:
        return GrowRootJob(self.target)

    @property
    def target(self) -> GrowRoot:
        return GrowRoot.model_validate(
            {"disk_by_id": "virtio-grows", "partition": 2, "luks": None, "filesystem": self.kind}
        )

    def free(self) -> int:
        found = os.statvfs(self.mountpoint)
        return found.f_blocks * found.f_frsize


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    kind: str = request.param
    image, mountpoint = tmp_path / "disk.img", tmp_path / "mounted"
    image.touch()
    os.truncate(image, BEFORE)
    tool(
        "sfdisk",
        "-q",
        str(image),
        stdin="label: gpt\nsize=1MiB, type=21686148-6449-6E6F-744E-656564454649\n,\n",
    )
    device = tool("losetup", "--find", "--show", str(image))
    try:
        tool(
            "partx", "--update", device
        )  # adds them, or replaces what a loop device kept from its last user
        tool(*MAKE[kind], f"{device}p2")
        mountpoint.mkdir()
        tool("mount", f"{device}p2", str(mountpoint))
        (mountpoint / "kept").write_bytes(b"kept" * 5000)
        for name in ("sys", "proc"):
            (tmp_path / name).symlink_to(f"/{name}")
        by_id = tmp_path / "dev/disk/by-id"
        by_id.mkdir(parents=True)
        (by_id / "virtio-grows").symlink_to(device)
        runner = Runner(Log(tmp_path / "log", Redactor()), os.environ["PATH"])
        yield Disk(World(programs=runner, root=tmp_path), image, device, mountpoint, kind)
    finally:
        subprocess.run(("umount", str(mountpoint)), check=False, capture_output=True)
        subprocess.run(("partx", "--delete", device), check=False, capture_output=True)
        tool("losetup", "--detach", device)


@pytest.mark.parametrize("disk", KINDS, indirect=True)
def test_root_takes_the_room_behind_it(disk: Disk) -> None:
    before = disk.free()
    disk.enlarge()
    disk.job.run(disk.world)
    disk.job.verify(disk.world)
    assert disk.free() > before + (AFTER - BEFORE) * 0.9
    assert (disk.mountpoint / "kept").read_bytes() == b"kept" * 5000
    # The backup table went to the new end, and the partition ends on a MiB.
    assert "No errors detected" in tool("sfdisk", "--verify", disk.device)
    stack = Stack.of(disk.world, disk.target)
    assert stack.partition_size == stack.wanted == AFTER - 2 * MIB - MIB


@pytest.mark.parametrize("disk", ["xfs", "btrfs"], indirect=True)
def test_the_disk_of_an_image_is_found_by_what_is_on_it(disk: Disk, tmp_path: Path) -> None:
    """Nobody knew the disk's own name when the image was made."""
    uuid = tool("blkid", "-p", "-o", "value", "-s", "UUID", f"{disk.device}p2")
    (tmp_path / "dev/disk/by-id/virtio-grows").unlink()
    (tmp_path / "dev/disk/by-uuid").mkdir()
    (tmp_path / "dev/disk/by-uuid" / uuid).symlink_to(f"{disk.device}p2")
    target = disk.target.model_copy(update={"disk_by_id": None, "filesystem_uuid": uuid})
    before = disk.free()
    disk.enlarge()
    job = GrowRootJob(GrowRoot.model_validate_json(target.model_dump_json()))
    job.run(disk.world)
    job.verify(disk.world)
    assert disk.free() > before + (AFTER - BEFORE) * 0.9


@pytest.mark.parametrize("disk", KINDS, indirect=True)
def test_again_changes_nothing(disk: Disk) -> None:
    disk.enlarge()
    disk.job.run(disk.world)
    table = tool("sfdisk", "--dump", disk.device)
    journal = Journal()
    world = World(programs=disk.world.programs, root=disk.world.root, journal=journal)
    disk.job.run(world)
    disk.job.verify(world)
    assert tool("sfdisk", "--dump", disk.device) == table
    commands = [line.split()[1] for line in journal.lines if line.startswith("$ ")]
    assert not {"sfdisk", "partx", "resize2fs"} & set(commands), commands


@pytest.mark.parametrize("disk", ["ext4", "xfs", "btrfs"], indirect=True)
def test_nothing_to_grow_is_shown_by_numbers(disk: Disk) -> None:
    before = disk.image.read_bytes()[:MIB]
    journal = Journal()
    world = World(programs=disk.world.programs, root=disk.world.root, journal=journal)
    disk.job.run(world)
    disk.job.verify(world)
    assert disk.image.read_bytes()[:MIB] == before, "the table is as it was"
    said = "\n".join(journal.lines)
    assert "nothing free behind it" in said and "fills its device" in said


@pytest.mark.parametrize("disk", ["xfs", "btrfs"], indirect=True)
def test_a_power_cut_between_the_steps_is_made_good(disk: Disk) -> None:
    """The table is written, the kernel and the file system know nothing of it."""
    disk.enlarge()
    stack = Stack.of(disk.world, disk.target)
    tool(
        *("sfdisk", "-q", "--no-reread", "--no-tell-kernel", "-N", "2", disk.device),
        stdin=f",{stack.wanted // 1024}KiB\n",
    )
    with pytest.raises(HyperError, match="did not grow"):
        disk.job.verify(disk.world)
    disk.job.run(disk.world)
    disk.job.verify(disk.world)


@pytest.mark.parametrize("disk", ["xfs"], indirect=True)
def test_what_is_not_there_is_named(disk: Disk) -> None:
    for change, word in (
        ({"disk_by_id": "ata-gone"}, "ata-gone is not there"),
        ({"partition": 7}, "no partition 7"),
    ):
        with pytest.raises(HyperError, match=word) as refused:
            GrowRootJob(disk.target.model_copy(update=change)).run(disk.world)
        assert "skip grow-root" in refused.value.remedy
    tool("umount", str(disk.mountpoint))
    with pytest.raises(HyperError, match="not mounted"):
        disk.job.run(disk.world)


@pytest.mark.parametrize("disk", ["xfs"], indirect=True)
def test_a_tool_that_fails_is_quoted(disk: Disk) -> None:
    disk.enlarge()
    (disk.world.root / "tools").mkdir()
    broken = disk.world.root / "tools/sfdisk"
    broken.write_text("#!/bin/sh\necho the disk is on fire >&2\nexit 1\n")
    broken.chmod(0o755)
    runner = Runner(Log(disk.world.root / "log", Redactor()), f"{broken.parent}:{os.environ['PATH']}")
    with pytest.raises(HyperError, match="enlarge partition 2") as refused:
        disk.job.run(World(programs=runner, root=disk.world.root))
    assert "the disk is on fire" in refused.value.why
