"""Whole installations on two loop devices that carry the same: btrfs raid1, and a boot file system on each."""

import shutil
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.errors import Exit
from installer.execute.btrfs import check_devices, forget_devices
from installer.execute.evidence import Wrong
from installer.execute.journal import Journal
from installer.execute.live import LiveSystem
from installer.execute.log import Log, Redactor
from installer.execute.runner import CommandError, Runner
from installer.execute.volumes import check_volumes
from installer.facts import Facts
from installer.plan.checks import VolumesAre
from installer.plan.planner import make_plan
from tests.execute.rig import (
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
from tests.plan_cases import HASH

pytestmark = [pytest.mark.root, pytest.mark.nix]
MODULES = ("virtio_blk", "virtio_pci", "btrfs", "nvme", "ahci")


class Pair:
    """A rig with two disks, and a system for both."""

    def __init__(self, made: Rig, space: Namespace) -> None:
        self.rig, self.space = made, space
        self.disks = (made.add_disk(), made.add_disk())
        firsts, seconds = (made.facts(disk) for disk in self.disks)
        second = seconds.disks[0].model_copy(update={"name": "vdb"})
        self.facts: Facts = firsts.model_copy(update={"disks": (*firsts.disks, second)})
        given: dict[str, Any] = {
            "version": 1,
            "hostname": "pair",
            "storage": {
                "layout": "mirror",
                "disks": [{"serial": disk.serial} for disk in self.disks],
                "filesystem": "btrfs",
                "destroy": "matched",
                "swap": {"kind": "none"},
            },
            "users": [{"name": "alice", "admin": True, "password_hash": HASH}],
            "ssh": {"enable": False},
            "system": {"source": "closure", "closure": "tiny", "offline": True},
        }
        draft = make_plan(
            self.facts, Answers.model_validate(given), with_closure("/nix/store/" + "0" * 32 + "-x")
        )
        fstab = "".join(
            f"{each.device} {each.mountpoint} {each.kind} {','.join(each.options)} 0 0\n"
            for each in draft.host.filesystems
        )
        self.toplevel = tiny_system(
            made, self.disks[0], "", fstab=fstab, modules=MODULES, mirrors=self.disks[1:]
        )
        medium = with_closure(self.toplevel)
        prepare(made, self.facts, given, medium)
        self.plan = make_plan(self.facts, Answers.model_validate(given), medium)

    @property
    def uuid(self) -> str:
        """Of the btrfs."""
        return self.plan.host.degraded[0]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with rig(tmp_path) as made, namespace() as space:
        add_nix(made)
        yield Pair(made, space)
        # The kernel remembers the devices of a btrfs until it is told otherwise.
        run("btrfs", "device", "scan", "--forget")


def test_installs_a_mirror_that_either_half_can_be_read_from(pair: Pair) -> None:
    done = pair.space.install(pair.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert Journal(pair.rig.live.journal).finished
    for disk in pair.disks:
        run("btrfs", "device", "scan", "--forget")
        boot = "/mnt/grub/grub.cfg"
        pair.space.run("mount", "-o", "ro", f"{disk.link}-part2", "/mnt")
        assert "menuentry" in pair.space.run("cat", boot)
        pair.space.run("umount", "/mnt")
        options = "ro,degraded,subvol=/@"
        pair.space.run("mount", "-t", "btrfs", "-o", options, f"{disk.link}-part3", "/mnt")
        try:
            assert f"alice:{HASH}:" in pair.space.run("cat", "/mnt/etc/shadow")
            shown = pair.space.run("btrfs", "filesystem", "df", "/mnt")
            assert "Data, RAID1" in shown
            assert "Metadata, RAID1" in shown
        finally:
            pair.space.run("umount", "/mnt")


def test_killed_at_every_boundary_and_gone_on_with(pair: Pair) -> None:
    for count in cycle((8, 9, 10)):
        done = pair.space.install(pair.rig, "--die-after", str(count))
        if done.returncode != -9:
            break
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    events = Journal(pair.rig.live.journal).events
    for step in pair.plan.steps:
        assert [event.what for event in events if event.step == step.id].count("verified") == 1, step.id


def instead(pair: Pair, name: str, script: str) -> None:
    """Another program of this name on the rig's PATH; `$last` is its device, `$mark` a folder for all of its runs."""
    mark = pair.rig.folder / f"{name}.mark"
    mark.mkdir(exist_ok=True)
    path = pair.rig.folder / "bin" / name
    real = f'real() {{ {shutil.which(name)} "$@"; }}'
    path.write_text(f"#!/bin/sh\nmark={mark}\nfor last; do :; done\n{real}\n{script}\n")
    path.chmod(0o755)


WAIT = 'n=0; until [ -e "$other" ]; do n=$((n+1)); [ $n -lt 600 ] || { echo "nobody beside" >&2; exit 9; }; sleep 0.1; done'
"""Shell: at most a minute, or more where the machine is busy, for what the other disk's lane leaves there."""


def test_disks_are_worked_on_side_by_side(pair: Pair) -> None:
    """Each disk's wipefs waits for the other's to have begun; one after the other they would wait in vain."""
    first, second = (disk.link.name for disk in pair.disks)
    beside = f"case $last in *{first}*) mine=1; other=$mark/2;; *{second}*) mine=2; other=$mark/1;; esac; touch $mark/$mine"
    instead(pair, "wipefs", f'{beside}\n{WAIT}\nreal "$@"')
    # The first disk's fails once the second's has begun, and the second's goes on until the first's has failed.
    failing = "[ $mine = 2 ] || { touch $mark/failed; echo broken >&2; exit 1; }; other=$mark/failed"
    instead(pair, "mkfs.ext4", f'{beside}\n{WAIT}\n{failing}\n{WAIT}\nreal "$@"')
    failed = pair.space.install(pair.rig)
    said = " ".join(failed.stderr.split())
    assert failed.returncode == Exit.step, failed.stdout + failed.stderr
    assert "the step `format-boot` failed" in said
    assert "broken" in said
    assert "format-boot-2; begun: format-boot." in said, "the other disk's step came to its end"
    journal = Journal(pair.rig.live.journal)
    assert journal.verified("format-boot-2")
    assert "[main-2] $ mkfs.ext4" in pair.rig.live.log.read_text()

    instead(pair, "mkfs.ext4", "exec sleep 600")
    began = time.monotonic()
    stopped = pair.space.install(pair.rig, "--stop-at", r"^\$ mkfs\.ext4")
    assert stopped.returncode not in (Exit.ok, -9), stopped.stdout + stopped.stderr
    assert "Stopped. Disks: " in stopped.stdout
    assert time.monotonic() - began < 500, "what ran was ended"

    (pair.rig.folder / "bin/mkfs.ext4").unlink()
    done = pair.space.install(pair.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    events = Journal(pair.rig.live.journal).events
    for step in pair.plan.steps:
        assert [event.what for event in events if event.step == step.id].count("verified") == 1, step.id


def test_both_disks_failing_are_told_together(pair: Pair) -> None:
    first, second = (disk.link.name for disk in pair.disks)
    beside = f"case $last in *{first}*) mine=1; other=$mark/2;; *{second}*) mine=2; other=$mark/1;; esac; touch $mark/$mine"
    instead(pair, "wipefs", f'{beside}\n{WAIT}\necho "broken $mine" >&2; exit 1')
    failed = pair.space.install(pair.rig)
    said = " ".join(failed.stderr.split())
    assert failed.returncode == Exit.step, failed.stdout + failed.stderr
    assert "the step `wipe-main-1` failed" in said
    assert "`wipe-main-2` failed as well" in said
    assert "broken 1" in said
    assert "broken 2" in said


def test_a_boot_disk_without_its_loader_is_not_called_installed(pair: Pair) -> None:
    """The second disk's boot code goes missing before it is proved."""
    pair.toplevel = tiny_system(
        pair.rig, pair.disks[0], "", fstab="", modules=MODULES
    )  # boots the first disk alone
    medium = with_closure(pair.toplevel)
    (pair.rig.folder / "medium.json").write_text(medium.model_dump_json())
    failed = pair.space.install(pair.rig)
    assert failed.returncode == Exit.step
    assert "/boot2/grub/grub.cfg" in failed.stderr


def test_a_missing_device_is_noticed(pair: Pair) -> None:
    done = pair.space.install(pair.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    runner = Runner(Log(pair.rig.live.log, Redactor()), pair.rig.live.search_path)
    devices = tuple(f"{disk.link}-part3" for disk in pair.disks)
    assert len(check_devices(runner, pair.uuid, devices)) == 1
    with pytest.raises(Wrong, match=pair.uuid):
        check_devices(runner, pair.uuid, devices[:1])
    run("wipefs", "--all", devices[1])
    run("btrfs", "device", "scan", "--forget")
    with pytest.raises(Wrong):
        check_devices(runner, pair.uuid, devices)


def test_the_kernel_is_told_to_forget_only_where_it_has_btrfs(tmp_path: Path) -> None:
    """On a medium whose kernel has not loaded btrfs yet, `btrfs device scan` fails: it has nothing to speak to."""
    live = LiveSystem(sysfs=tmp_path / "sys")
    without = Runner(Log(tmp_path / "log", Redactor()), "/no-program-is-here")
    forget_devices(live, without)
    (live.sysfs / "fs/btrfs/features").mkdir(parents=True)
    with pytest.raises(CommandError, match="btrfs device scan --forget"):
        forget_devices(live, without)


def test_a_volume_group_is_read_back(tmp_path: Path) -> None:
    """As far as this kernel goes: metadata is real, mapped volumes are the lab's."""
    with rig(tmp_path) as made:
        disk = made.add_disk()
        runner = Runner(Log(made.live.log, Redactor()), made.live.search_path)
        group = f"test_{made.prefix[-6:].lower()}"
        run("pvcreate", "--yes", disk.device)
        run("vgcreate", "--yes", group, disk.device)
        try:
            good = VolumesAre(group=group, devices=(disk.device,), volumes={})
            assert len(check_volumes(runner, good)) == 1
            for wrong in (
                good.model_copy(update={"volumes": {"root": "linear"}}),
                good.model_copy(update={"devices": ("/dev/loop-control",)}),
            ):
                with pytest.raises(Wrong, match=group):
                    check_volumes(runner, wrong)
        finally:
            run("vgremove", "--force", "--yes", group)
            run("pvremove", "--yes", disk.device)
