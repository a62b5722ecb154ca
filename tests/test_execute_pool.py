"""A whole installation on loop devices with a second disk for the VMs: its folder cannot be written to without it."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from hv.pools import folder as pool_folder
from hv.pools.declared import FolderPool
from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.execute.evidence import Wrong
from installer.execute.journal import Journal
from installer.execute.log import Log, Redactor
from installer.execute.mounts import check_held
from installer.execute.runner import Runner
from installer.facts import Facts
from installer.guided.situation import Situation
from installer.guided.topics.reinstallation import Search
from installer.plan.actions import Run
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
from tests.test_execute_reinstall import on_disk

pytestmark = [pytest.mark.root, pytest.mark.nix]
POOL = "/var/lib/libvirt/images"
MODULES = ("virtio_blk", "virtio_pci", "ext4", "xfs", "btrfs", "nvme", "ahci")


class Host:
    """A rig with a disk for the system and one for the VMs."""

    def __init__(self, made: Rig, space: Namespace, root: str) -> None:
        self.rig, self.space, self.root = made, space, root
        self.disks = (made.add_disk(), made.add_disk())
        self.installs(
            {
                "disk": {"serial": self.disks[0].serial},
                "filesystem": root,
                "pool": {"disk": {"serial": self.disks[1].serial}, "filesystem": "ext4"},
                "destroy": "matched",
                "swap": {"kind": "none"},
            }
        )

    def facts(self) -> Facts:
        """The machine, with what is on its disks now."""
        first, second = (
            self.rig.facts(disk, partitions=on_disk(disk.device) if hasattr(self, "plan") else ())
            for disk in self.disks
        )
        other = second.disks[0].model_copy(update={"name": "vdb"})
        return first.model_copy(update={"disks": (*first.disks, other)})

    def installs(self, storage: dict[str, Any]) -> None:
        """What is to be installed next."""
        made, facts = self.rig, self.facts()
        given: dict[str, Any] = {
            "version": 1,
            "hostname": "pooled",
            "storage": storage,
            "users": [{"name": "alice", "admin": True, "password_hash": HASH}],
            "ssh": {"enable": False},
            "system": {"source": "closure", "closure": "tiny", "offline": True},
        }
        answers = Answers.model_validate(given)
        draft = make_plan(facts, answers, with_closure("/nix/store/" + "0" * 32 + "-x"))
        fstab = "".join(
            f"{each.device} {each.mountpoint} {each.kind} {','.join(each.options)} 0 0\n"
            for each in draft.host.filesystems
        )
        medium = self.medium = with_closure(
            tiny_system(made, self.disks[0], "", fstab=fstab, modules=MODULES)
        )
        prepare(made, facts, given, medium)
        self.plan = make_plan(facts, answers, medium)

    @property
    def device(self) -> str:
        """The root's."""
        (step,) = (step for step in self.plan.steps if step.id == "format-root")
        return next(
            each.argv[-1]
            for each in step.actions
            if isinstance(each, Run) and each.argv[0].startswith("mkfs")
        )

    @property
    def folder(self) -> tuple[str, str]:
        """Mount options for where the pool's folder lies, and its place there."""
        return ("subvol=/@libvirt", "/images") if self.root == "btrfs" else ("defaults", POOL)


@pytest.fixture(params=["ext4", "btrfs"])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    with rig(tmp_path) as made, namespace() as space:
        add_nix(made)
        yield Host(made, space, request.param)


def test_the_folder_takes_nothing_while_its_disk_is_missing(host: Host) -> None:
    """Killed now and then on the way: what is held already is held again."""
    for count in cycle((21, 22, 23)):
        done = host.space.install(host.rig, "--die-after", str(count))
        if done.returncode != -9:
            break
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert Journal(host.rig.live.journal).finished
    options, place = host.folder
    host.space.run("mount", "-o", options, host.device, "/mnt")
    try:
        with pytest.raises(AssertionError, match="not permitted"):
            host.space.run("touch", f"/mnt{place}/image.qcow2")
        host.space.run("mount", f"{host.disks[1].link}-part1", f"/mnt{place}")
        host.space.run("touch", f"/mnt{place}/image.qcow2")
        host.space.run("umount", f"/mnt{place}")
        assert host.space.run("ls", f"/mnt{place}") == ""
    finally:
        host.space.run("umount", "-R", "/mnt")


@pytest.mark.parametrize("host", ["ext4", pytest.param("btrfs", marks=pytest.mark.matrix)], indirect=True)
def test_guests_on_a_disk_of_their_own_stay_when_the_host_is_installed_anew(host: Host) -> None:
    """With the answers that the guided installer finds by itself; not a byte of the guests' disk is another afterwards."""
    done = host.space.install(host.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    host.space.run("mount", f"{host.disks[1].link}-part1", "/mnt")
    host.space.run("sh", "-c", "head -c 3000000 /dev/urandom > /mnt/web.qcow2")
    image = host.space.run("sha256sum", "/mnt/web.qcow2")
    host.space.run("umount", "/mnt")
    facts = host.facts()
    search = Search("one-disk", (facts.disks[0].name,), "pooled", Situation(facts, host.medium, {}, "/run"))
    (way,) = search()
    storage: dict[str, Any] = {
        str(path[1]): value for path, value in way.items() if path[0] == "storage" and value is not None
    }
    assert storage["filesystem"] == host.root
    assert storage["pool"]["filesystem"] == "ext4"
    host.installs({**storage, "destroy": "matched"})
    done = host.space.install(host.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert "Remove the old system of pooled" in done.stdout
    host.space.run("mount", f"{host.disks[1].link}-part1", "/mnt")
    assert host.space.run("sha256sum", "/mnt/web.qcow2") == image
    host.space.run("umount", "/mnt")


def test_a_folder_that_is_not_held_is_noticed(tmp_path: Path) -> None:
    """And a pool in one that is says why it cannot be used."""
    with rig(tmp_path) as made:
        disk = made.add_disk()
        run("mkfs.ext4", "-q", disk.device)
        place = tmp_path / "mounted"
        place.mkdir()
        run("mount", disk.device, place)
        try:
            folder = place / "images"
            folder.mkdir()
            runner = Runner(Log(made.live.log, Redactor()), made.live.search_path)
            with pytest.raises(Wrong, match="attribute i"):
                check_held(made.live, runner, str(folder))
            run("chattr", "+i", folder)
            assert "until something is mounted" in check_held(made.live, runner, str(folder))[0]
            assert "is mounted there" in check_held(made.live, runner, str(place))[0]
            with pytest.raises(HyperError, match="cannot be written to"):
                pool_folder.prepare(
                    folder, FolderPool(name="default", kind="dir", path=str(folder)), _unused, print
                )
            run("chattr", "-i", folder)
        finally:
            run("umount", place)


def _unused(argv: tuple[str, ...]) -> Any:
    raise AssertionError(argv)
