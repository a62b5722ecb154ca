"""Installations beside what stays on two disks, and with the data of a third, whose table is an MBR: hashed before and after."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.answers.sizes import GIB, MIB
from installer.errors import Exit
from installer.execute.kept_table import read_copies
from installer.facts import Facts
from installer.facts.disks import Partition
from installer.plan.checks import MountedAt
from installer.plan.planner import make_plan
from tests import gpt
from tests.execute.rig import (
    LoopDisk,
    Namespace,
    Rig,
    add_nix,
    namespace,
    prepare,
    rig,
    run,
    tiny_system,
    with_closure,
)
from tests.gpt import Entry
from tests.plan_cases import HASH
from tests.test_execute_keep import digests, fill
from tests.test_execute_mirror import MODULES
from tests.test_execute_reinstall import on_disk

pytestmark = [pytest.mark.root, pytest.mark.nix]

SIZE = 9 * GIB
FIRST = (
    Entry(2, MIB, 64 * MIB, gpt.DATA, name="Basic data partition", attributes=1 << 60, kind="ntfs"),
    Entry(5, 8 * GIB, 64 * MIB, gpt.LINUX, name="at the end", attributes=7),
)
SECOND = (Entry(6, 8 * GIB + 512 * MIB, 128 * MIB, gpt.LINUX, name="other"),)
MEDIA, LOGICAL = (f"{first}-2222-4333-8444-{os.getpid():012x}" for first in ("22222222", "33333333"))
OLD = """\
label: dos
label-id: 0xb1946ac9
1 : start=63, size=20480, type=7, bootable
2 : start=32768, size=131072, type=83
3 : start=204800, size=300000, type=f
5 : start=206848, size=131072, type=83
"""
"""As an old tool laid it out: aligned to a cylinder, a Windows that started from it, and a partition inside another."""


class Three:
    """A rig with two disks that both have something on them, and one with an MBR."""

    def __init__(self, made: Rig, space: Namespace) -> None:
        self.rig, self.space = made, space
        self.disks = (made.add_disk(SIZE), made.add_disk(SIZE))
        self.old = made.add_disk(256 * MIB)
        parts: list[tuple[Partition, ...]] = [fill(FIRST, self.disks[0]), fill(SECOND, self.disks[1])]
        self._fill_old()
        parts.append(on_disk(self.old.device))
        run(made.folder / "bin/udevadm", "settle")  # as it was when the machine was probed
        facts = [
            made.facts(disk, partitions=each, table="dos" if disk is self.old else "gpt")
            for disk, each in zip((*self.disks, self.old), parts, strict=True)
        ]
        named = [
            each.disks[0].model_copy(update={"name": name})
            for each, name in zip(facts, ("vda", "vdb", "vdc"), strict=True)
        ]
        self.facts: Facts = facts[0].model_copy(update={"disks": tuple(named)})

    def _fill_old(self) -> None:
        with self.old.file.open("r+b") as file:
            file.write(os.urandom(440))  # a loader of long ago
            os.fsync(file.fileno())
        subprocess.run(
            ["sfdisk", "--quiet", "--no-tell-kernel", self.old.device], input=OLD, text=True, check=True
        )
        run("partx", "--add", self.old.device)
        run("mkfs.ext4", "-q", "-U", MEDIA, f"{self.old.device}p2")
        run("mkfs.ext4", "-q", "-U", LOGICAL, f"{self.old.device}p5")

    def arrange(self, partitions: list[dict[str, Any]]) -> None:
        given: dict[str, Any] = {
            "version": 1,
            "hostname": "pair",
            "storage": {
                "layout": "mirror",
                "disks": [{"serial": disk.serial} for disk in self.disks],
                "existing": "keep",
                "partitions": partitions,
                "filesystem": "btrfs",
                "destroy": "matched",
                "swap": {"kind": "none"},
            },
            "users": [{"name": "alice", "admin": True, "password_hash": HASH}],
            "ssh": {"enable": False},
            "system": {"source": "closure", "closure": "tiny", "offline": True},
        }
        nowhere = with_closure("/nix/store/" + "0" * 32 + "-x")
        draft = make_plan(self.facts, Answers.model_validate(given), nowhere)
        fstab = "".join(
            f"{each.device} {each.mountpoint} {each.kind} {','.join(each.options)} 0 0\n"
            for each in draft.host.filesystems
        )
        toplevel = tiny_system(
            self.rig, self.disks[0], "", fstab=fstab, modules=MODULES, mirrors=self.disks[1:]
        )
        medium = with_closure(toplevel)
        prepare(self.rig, self.facts, given, medium)
        self.plan = make_plan(self.facts, Answers.model_validate(given), medium)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    with rig(tmp_path) as made, namespace() as space:
        add_nix(made)
        yield Three(made, space)
        # The kernel remembers the devices of a btrfs until it is told otherwise.
        run("btrfs", "device", "scan", "--forget")


def media(disk: LoopDisk, number: int, mount: str) -> dict[str, Any]:
    return {"disk": {"serial": disk.serial}, "number": number, "mount": mount}


def test_a_mirror_beside_what_is_on_both_disks_and_a_data_disk_with_an_mbr(three: Three) -> None:
    three.arrange([media(three.old, 2, "/srv/media"), media(three.old, 5, "/srv/more")])
    first, second = three.disks
    before = digests(first, FIRST), digests(second, SECOND), three.old.digest()
    done = three.space.install(three.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert (digests(first, FIRST), digests(second, SECOND)) == before[:2]
    assert three.old.digest() == before[2], "not one byte of it, not even by a journal that is played back"
    for disk, entries, ours in ((first, FIRST, {1, 3, 4}), (second, SECOND, {1, 2, 3})):
        one, other = read_copies(disk.device, 512)
        assert one.entries == other.entries
        assert {*one.entries} == ours | {each.number for each in entries}
        for each in entries:
            assert one.entries[each.number] == each.raw(512)
        boot = f"{disk.link}-part{sorted(ours)[1]}"
        three.space.run("mount", "-o", "ro", boot, "/mnt")
        assert "menuentry" in three.space.run("cat", "/mnt/grub/grub.cfg")
        three.space.run("umount", "/mnt")
    three.space.run("mount", "-t", "btrfs", "-o", "ro,subvol=/@", f"{first.link}-part4", "/mnt")
    try:
        assert "i" in three.space.run("lsattr", "-d", "/mnt/srv/media").split()[0], (
            "nothing is written below it"
        )
        assert "RAID1" in three.space.run("btrfs", "filesystem", "df", "/mnt")
    finally:
        three.space.run("umount", "/mnt")


@pytest.mark.matrix
def test_images_lie_on_the_data_disk(three: Three) -> None:
    """Mounted while the host is installed, for what the installation puts there, and let go of; its files stay."""
    folder = three.rig.folder / "look"
    folder.mkdir()

    def inside(work: Callable[[], str]) -> str:
        three.space.run("mount", f"{three.old.device}p2", str(folder))
        try:
            return work()
        finally:
            three.space.run("umount", str(folder))

    inside(lambda: three.space.run("cp", "/etc/hostname", str(folder / "old.qcow2")))
    three.arrange([media(three.old, 2, "/var/lib/libvirt/images")])
    checks = [check for step in three.plan.steps for check in step.checks]
    assert any(isinstance(check, MountedAt) and check.target.endswith("/images") for check in checks)
    done = three.space.install(three.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert "/var/lib/libvirt/images: /dev/disk/by-uuid" in three.rig.live.log.read_text()
    assert (
        inside(lambda: three.space.run("cat", str(folder / "old.qcow2")))
        == Path("/etc/hostname").read_text().strip()
    )
    assert str(three.old.device) not in three.space.run("cat", "/proc/self/mounts")


@pytest.mark.matrix
@pytest.mark.parametrize(
    "death",
    [
        ("--die-between", "partition-main-1", "1"),
        ("--die-event", "partition-main-2", "started"),
        ("--die-event", "partition-main-2", "done"),
        ("--die-event", "boot-loader", "started"),
    ],
)
def test_killed_and_gone_on_with(three: Three, death: tuple[str, ...]) -> None:
    three.arrange([media(three.old, 2, "/srv/media")])
    first, second = three.disks
    before = digests(first, FIRST), digests(second, SECOND), three.old.digest()
    assert three.space.install(three.rig, *death).returncode == -9
    done = three.space.install(three.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert (digests(first, FIRST), digests(second, SECOND), three.old.digest()) == before
    for disk, entries in ((first, FIRST), (second, SECOND)):
        for copy in read_copies(disk.device, 512):
            assert all(copy.entries[each.number] == each.raw(512) for each in entries)


def test_given_up_once_both_tables_were_changed(three: Three) -> None:
    three.arrange([media(three.old, 2, "/srv/media")])
    disks = (*three.disks, three.old)
    before = [disk.digest() for disk in disks]
    assert three.space.install(three.rig, "--die-event", "partition-main-2", "done").returncode == -9
    changed = [disk.digest() for disk in three.disks]
    assert changed != before[:2]
    fresh = three.space.install(three.rig, "--fresh")
    assert fresh.returncode == Exit.consent, fresh.stdout + fresh.stderr
    assert "hv install --abort" in fresh.stderr
    assert [disk.digest() for disk in three.disks] == changed, "nor was anything changed by that"
    aborted = three.space.install(three.rig, "--abort")
    assert aborted.returncode == Exit.ok, aborted.stdout + aborted.stderr
    assert [disk.digest() for disk in disks] == before, "not as before, to the byte"


def test_data_that_is_not_there_any_more_is_told_before_anything_is_written(three: Three) -> None:
    three.arrange([media(three.old, 2, "/srv/media")])
    run("mkfs.ext4", "-q", "-F", f"{three.old.device}p2")
    before = [disk.digest() for disk in three.disks]
    failed = three.space.install(three.rig)
    assert failed.returncode == Exit.step, failed.stdout + failed.stderr
    said = " ".join(failed.stderr.split())
    assert MEDIA in said
    assert "nothing was written to any disk" in said
    assert [disk.digest() for disk in three.disks] == before
