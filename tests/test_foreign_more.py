"""Pools for VMs, what stays, and what is only known on the machine, in other installers' files; pairs of ZFS in an export."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from installer.answers.foreign.disko import read_disko
from installer.answers.foreign.kickstart import read_kickstart
from installer.answers.foreign.proxmox import read_proxmox
from installer.answers.load import load
from installer.answers.sizes import GIB
from installer.commands.foreign import read
from installer.facts import Facts
from installer.plan.planner import make_layout, make_plan
from installer.render.disko import disko
from tests import gpt
from tests import plan_cases as cases
from tests.gpt import Entry
from tests.nixeval import nix as nixeval
from tests.test_foreign import left, whole
from tests.test_keep_several import KEPT, disk, machine, old_disk

Data = dict[str, Any]
BASE = "disko.devices"


def by_id(number: int) -> str:
    return f"/dev/disk/by-id/ata-Example_{number}"


def on(number: int, content: Data, **more: Any) -> Data:
    """A disk with one partition that takes all of it."""
    partitions = {"all": {"size": "100%", "content": content}}
    return {
        "type": "disk",
        "device": by_id(number),
        "content": {"type": "gpt", "partitions": partitions},
    } | more


ROOT = {"type": "filesystem", "format": "ext4", "mountpoint": "/"}
SYSTEM = {
    "type": "disk",
    "device": by_id(0),
    "content": {
        "type": "gpt",
        "partitions": {
            "esp": {"type": "EF00", "size": "2G", "content": {"type": "filesystem", "format": "vfat", "mountpoint": "/boot"}},
            "root": {"size": "100%", "content": ROOT},
        },
    },
}  # fmt: skip


def devices(disks: Data, **more: Data) -> Data:
    return {"disko": {"devices": {"disk": {"system": copy.deepcopy(SYSTEM), **disks}, **more}}}


def zfs(pool: str) -> Data:
    return {"type": "zfs", "pool": pool}


IMAGES = "/var/lib/libvirt/images"
DATASETS = {
    "vms": {"type": "zfs_fs", "mountpoint": IMAGES, "options": {"recordsize": "128K", "atime": "off"}},
    "swap": {"type": "zfs_volume", "size": "8G"},
}
PAIRS = {"topology": {"type": "topology", "vdev": [{"mode": "mirror", "members": ["a", "b"]}, {"mode": "mirror", "members": ["c", "d"]}]}}  # fmt: skip
POOLS: dict[str, tuple[Data, Data, set[str]]] = {
    "a mirror of ZFS": (
        devices(
            {name: on(number, zfs("tank")) for number, name in enumerate("ab", start=1)},
            zpool={"tank": {"type": "zpool", "mode": "mirror", "datasets": DATASETS}},
        ),
        {"kind": "zfs", "redundancy": "mirror", "record_size": "128KiB", "disks": [1, 2]},
        {f"{BASE}.zpool.tank.datasets.vms.options.atime", f"{BASE}.zpool.tank.datasets.swap"},
    ),
    "pairs of ZFS on whole disks": (
        devices(
            {
                name: {"type": "disk", "device": by_id(number), "content": zfs("guests")}
                for number, name in enumerate("abcd", start=1)
            },
            zpool={"guests": {"type": "zpool", "mode": PAIRS, "datasets": {}}},
        ),
        {"kind": "zfs", "redundancy": "raid10", "disks": [1, 2, 3, 4]},
        set(),
    ),
    "a thin pool": (
        devices(
            {"a": on(1, {"type": "lvm_pv", "vg": "vms"})},
            lvm_vg={"vms": {"type": "lvm_vg", "lvs": {"thin": {"size": "100%", "lvm_type": "thin-pool"}}}},
        ),
        {"kind": "lvm-thin", "disks": [1]},
        set(),
    ),
    "a thin pool on md": (
        devices(
            {name: on(number, {"type": "mdraid", "name": "array"}) for number, name in enumerate("abcd", start=1)},
            mdadm={"array": {"type": "mdadm", "level": 10, "content": {"type": "lvm_pv", "vg": "kvm"}}},
            lvm_vg={"kvm": {"type": "lvm_vg", "lvs": {}}},
        ),
        {"kind": "lvm-thin", "redundancy": "raid10", "disks": [1, 2, 3, 4]},
        set(),
    ),
    "xfs on md": (
        devices(
            {name: on(number, {"type": "mdraid", "name": "data"}) for number, name in enumerate("ab", start=1)},
            mdadm={
                "data": {
                    "type": "mdadm",
                    "level": 1,
                    "metadata": "1.2",
                    "content": {"type": "filesystem", "format": "xfs", "mountpoint": IMAGES},
                }
            },
        ),
        {"kind": "dir", "filesystem": "xfs", "redundancy": "mirror", "disks": [1, 2]},
        {f"{BASE}.mdadm.data.metadata"},
    ),
    "btrfs on one disk, in place": (
        devices({"a": on(1, {"type": "btrfs", "mountpoint": IMAGES, "mountOptions": ["noatime", "nodatacow"]})}),
        {"kind": "dir", "filesystem": "btrfs", "nodatacow": True, "disks": [1]},
        {f"{BASE}.disk.a.content.partitions.all.content.mountOptions[0]"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_on_disks_of_its_own(name: str) -> None:
    value, wanted, told = POOLS[name]
    found = read_disko(value)
    disks = [{"by_id": f"ata-Example_{number}"} for number in wanted["disks"]]
    assert found.answers["storage"] == {
        "filesystem": "ext4",
        "disk": {"by_id": "ata-Example_0"},
        "pool": {**wanted, "disks": disks},
    }
    assert {*left(found)} == told
    has_place = IMAGES in json.dumps(value)
    assert found.answers.get("first_run") == ({"pool": IMAGES} if has_place else None)
    load(json.dumps(whole(found)).encode(), "a.json")


REASONS: dict[str, tuple[Data, str, str]] = {
    "not for VMs": (
        devices({"a": on(1, {"type": "filesystem", "format": "xfs", "mountpoint": "/srv/media"})}),
        f"{BASE}.disk.a.content.partitions.all.content",
        "not called what VMs lie in",
    ),
    "shares a disk": (
        devices(
            {
                "a": {
                    "type": "disk",
                    "device": by_id(1),
                    "content": {
                        "type": "gpt",
                        "partitions": {
                            "one": {"size": "1G", "content": {"type": "swap"}},
                            "two": {"size": "100%", "content": zfs("vms")},
                        },
                    },
                }
            },
            zpool={"vms": {"type": "zpool"}},
        ),
        f"{BASE}.zpool.vms",
        "disks of its own",
    ),
    "a second one": (
        devices(
            {"a": on(1, zfs("vms")), "b": on(2, zfs("images"))},
            zpool={"vms": {"type": "zpool"}, "images": {"type": "zpool"}},
        ),
        f"{BASE}.zpool.images",
        "there is one pool",
    ),
    "LVM over two disks": (
        devices(
            {name: on(number, {"type": "lvm_pv", "vg": "vms"}) for number, name in enumerate("ab", start=1)},
            lvm_vg={"vms": {"type": "lvm_vg", "lvs": {}}},
        ),
        f"{BASE}.lvm_vg.vms",
        "loses all with one of them",
    ),
    "three at a time": (
        devices(
            {name: on(number, zfs("vms")) for number, name in enumerate("abc", start=1)},
            zpool={
                "vms": {
                    "type": "zpool",
                    "mode": {
                        "topology": {
                            "vdev": [{"mode": "mirror", "members": ["a", "b"]}, {"members": ["c"]}],
                            "cache": ["d"],
                        }
                    },
                }
            },
        ),
        f"{BASE}.zpool.vms.mode",
        "pairs of mirrors",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_no_pool_is_told_with_the_reason(name: str) -> None:
    value, path, words = REASONS[name]
    told = left(read_disko(value))
    assert any(words in why for where, why in told.items() if where.startswith(path)), told


def test_a_pool_beside_the_root_in_its_own_pool() -> None:
    disks = {"system": on(1, zfs("rpool"))}
    datasets = {
        "root": {"type": "zfs_fs", "mountpoint": "/"},
        "guests": {"type": "zfs_fs", "mountpoint": "/var/lib/vms"},
    }
    found = read_disko(devices(disks, zpool={"rpool": {"type": "zpool", "datasets": datasets}}))
    assert found.answers["storage"]["pool"] == {"kind": "zfs"}
    assert found.answers["first_run"] == {"pool": "/var/lib/vms"}
    subvolumes = {"/@": {"mountpoint": "/"}, "/@vms": {"mountpoint": IMAGES, "mountOptions": ["nodatacow"]}}
    found = read_disko(devices({"system": on(1, {"type": "btrfs", "subvolumes": subvolumes})}))
    assert found.answers["storage"]["pool"] == {"kind": "dir", "nodatacow": True}
    load(json.dumps(whole(found)).encode(), "a.json")


def test_a_disk_that_disko_does_not_destroy() -> None:
    data = on(1, {"type": "filesystem", "format": "ext4", "mountpoint": "/srv/data"}, destroy=False)
    found = read_disko(devices({"data": data}))
    entry = {"disk": {"by_id": "ata-Example_1"}, "label": "disk-data-all", "mount": "/srv/data"}
    assert found.answers["storage"]["partitions"] == [entry]
    assert found.left == ()
    load(json.dumps(whole(found)).encode(), "a.json")
    system = {**copy.deepcopy(SYSTEM), "destroy": False}
    assert read_disko(devices({"system": system})).answers["storage"]["existing"] == "keep"
    swap = read_disko(devices({"data": on(1, {"type": "swap"}, destroy=False)}))
    assert "does not look into it" in " ".join(left(swap).values())
    assert "swap" not in swap.answers["storage"]


def test_proxmox_has_a_place_for_guests_in_each_kind() -> None:
    def storage(kind: str, **more: Any) -> Data:
        setup = {"filesystem": kind, "disk-list": ["sdb"], **more}
        found: Data = read_proxmox({"global": {}, "disk-setup": setup}).answers["storage"]
        return found

    assert storage("zfs", zfs={"raid": "raid0"})["pool"] == {"kind": "zfs"}
    assert storage("btrfs", btrfs={"raid": "raid0"})["pool"] == {"kind": "dir"}
    assert storage("ext4")["pool"] == {"kind": "lvm-thin"}
    assert "pool" not in storage("xfs", lvm={"maxvz": 0})
    held = left(read_proxmox({"disk-setup": {"filesystem": "zfs", "zfs": {"raid": "raid0", "hdsize": 100}}}))
    assert "used whole" in held["disk-setup.zfs.hdsize"]


MACHINE = machine(
    disk(
        "nvme0n1",
        (*KEPT, Entry(4, 300 * GIB, GIB, gpt.LINUX, name="old", kind="ext4", uuid="OLD-UUID")),
        500 * GIB,
    ),
    old_disk(),
    systems=(),
)


def ks(text: str, facts: Facts | None = MACHINE) -> tuple[Data, dict[str, str]]:
    found = read_kickstart(text, facts)
    return found.answers["storage"], left(found)


def test_a_kickstart_keeps_mounts_formats_and_deletes() -> None:
    storage, told = ks(
        "ignoredisk --only-use=nvme0n1\n"
        "clearpart --list=nvme0n1p4 --disklabel=gpt\n"
        "part /boot/efi --onpart=nvme0n1p1 --fstype=efi --noformat\n"
        "part / --fstype=xfs --size=20000 --grow\n"
        "part /srv/data --onpart=LABEL=nothing --noformat\n"
        "part /srv/own --onpart=UUID=dddddddd --noformat --fstype=ext4\n"
        "part /srv/media --onpart=sdc2 --noformat\n"
    )
    disks = {"first": {"serial": cases.SERIAL}, "old": {"serial": "OLD"}}
    assert storage == {
        "disk": disks["first"],
        "existing": "keep",
        "esp": "share",
        "filesystem": "xfs",
        "partitions": [
            {"uuid": "6f2d1c3e-4b5a-4c6d-8e7f-000000000004", "action": "delete"},
            {"uuid": "6f2d1c3e-4b5a-4c6d-8e7f-000000000007", "mount": "/srv/own"},
            {"disk": disks["old"], "uuid": "b1946ac9-02", "mount": "/srv/media"},
        ],
    }
    # LABEL=nothing is nowhere; tables are GPT in any case.
    assert {each.partition(".")[0] for each in told} == {"clearpart", "part (3)"}
    assert "no such partition" in told["part (3).--onpart"]
    answers = load(json.dumps(whole(read_kickstart(_mountable()))).encode(), "a.json")
    assert answers.storage.partitions[0].disk is None


def _mountable() -> str:
    return "part / --onpart=disk/by-id/ata-Example_3-part2 --fstype=ext4\n"


def test_what_a_kickstart_keeps_makes_a_plan() -> None:
    found = read_kickstart(
        "ignoredisk --only-use=nvme0n1\nclearpart --none\npart / --fstype=ext4 --grow --size=1\n"
        "part /srv/media --onpart=sdc2 --noformat\n",
        MACHINE,
    )
    answers = load(json.dumps(whole(found)).encode(), "a.json")
    plan = make_plan(MACHINE, answers, cases.medium(estimated_closure=GIB))
    assert len(plan.destroyed[0].kept) == 4
    assert len(plan.mounted) == 1


def test_a_partition_by_a_stable_name_needs_no_machine() -> None:
    storage, told = ks(_mountable(), None)
    assert storage == {
        "existing": "keep",
        "filesystem": "ext4",
        "disk": {"by_id": "ata-Example_3"},
        "partitions": [{"number": 2, "action": "format", "mount": "/"}],
    }
    assert told == {}
    _, told = ks("part /srv --onpart=nvme0n1p4 --noformat\npart /a --onpart=LABEL=x --noformat\n", None)
    assert "kernel name" in told["part.--onpart"]
    assert "--machine" in told["part (2).--onpart"]


def test_what_linux_has_goes_and_nothing_else() -> None:
    storage, told = ks("clearpart --linux --drives=nvme0n1\npart / --grow --size=1 --fstype=ext4\n")
    assert sorted(each["uuid"][-1] for each in storage["partitions"]) == ["4", "7"]
    assert {each["action"] for each in storage["partitions"]} == {"delete"}
    assert told == {}
    _, told = ks("clearpart --linux\n", None)
    assert "--machine" in told["clearpart.--linux"]


REFUSED = {
    "part / --onpart=nvme0n1p4 --noformat": "never put over what stays",
    "part swap --onpart=nvme0n1p4": "by itself",
    "part /srv --noformat": "--onpart does",
    "part / --ondisk=$disk --size=1": "a variable",
    "ignoredisk --only-use=nvme0n1\nclearpart --list=sdc2": "not the system's",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_a_kickstart_cannot_keep_is_told(text: str) -> None:
    _, told = ks(text)
    assert any(REFUSED[text] in why for why in told.values()), told


COMPUTED = """\
%include /tmp/part-include
%include disks/two.ks
%include http://example.org/net.ks
%include gone.ks
autopart --type=lvm
%pre --interpreter=/bin/bash
if [ -b /dev/nvme0n1 ]; then
  echo "part / --ondisk=nvme0n1 --size=1 --grow" > /tmp/part-include
fi
%end
%pre
hostname
%end
"""


def test_what_is_computed_is_told_exactly_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "disks").mkdir()
    (tmp_path / "disks/two.ks").write_text(
        "clearpart --all\nignoredisk --only-use=disk/by-id/ata-Example_3\n"
    )
    path = tmp_path / "host.ks"
    path.write_text(COMPUTED)
    found = read(path, "auto", None)
    assert found.answers["storage"]["disk"] == {"by_id": "ata-Example_3"}
    assert found.answers["storage"]["volumes"] == "lvm"
    told = left(found)
    assert "run %pre there, put part-include beside this file" in told["%include"]
    assert "nothing is fetched" in told["%include (2)"]
    assert "no such file beside" in told["%include (3)"]
    assert "writes /tmp/part-include" in told["%pre"]
    # A script of its own cannot be told from the other: both ran before anything is read.
    (tmp_path / "part-include").write_text("part / --size=1 --grow --fstype=ext4\n")
    (tmp_path / "net.ks").write_text("network --bootproto=dhcp\n")
    again = read(path, "auto", None)
    assert again.answers["storage"]["filesystem"] == "xfs", "autopart stands behind it"
    assert {each for each in left(again) if each.startswith("%include")} == {"%include"}
    assert "only running it tells" in left(again)["%pre"]


def test_an_include_leads_out_of_no_folder_and_round_in_no_circle(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("autopart --type=btrfs\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    path = inner / "a.ks"
    path.write_text("%include ../secret\n%include a.ks\nzerombr\n")
    found = read(path, "kickstart", None)
    assert "filesystem" not in found.answers["storage"]
    assert any("no such file" in why for why in left(found).values())


@pytest.mark.parametrize("encrypted", [False, True])
def test_pairs_of_zfs_are_exported_and_come_back(encrypted: bool, tmp_path: Path) -> None:
    facts = cases.machine(*cases.disks(4))
    disks = [{"serial": each.serial} for each in facts.disks]
    storage = cases.storage(
        disk=None,
        disks=disks,
        layout="array",
        filesystem="zfs",
        encryption=cases.ENCRYPTED if encrypted else {},
    )
    answers = cases.answers(storage=storage)
    layout = make_layout(facts, answers, cases.medium())
    exported = disko(layout, answers.hostname)
    assert not any("pairs" in each for each in exported.left)
    path = tmp_path / "export.nix"
    path.write_text(exported.text)
    assert '"mirror"' in exported.text
    if nix := nixeval.find():
        command = [*nix.command("nix-instantiate"), "--eval", "--strict", "--json", str(path)]
        environment = {"HOME": str(tmp_path), "NIX_REMOTE": str(tmp_path / "store"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        value = json.loads(done.stdout)
        (pool,) = value["disko"]["devices"]["zpool"].values()
        groups = pool["mode"]["topology"]["vdev"]
        assert [each["mode"] for each in groups] == ["mirror", "mirror"]
        named = [member for each in groups for member in each["members"]]
        # disko goes on only where these are exactly the devices of the pool, as it calls them.
        parts = [
            (part, part["content"])
            for each in value["disko"]["devices"]["disk"].values()
            for part in each["content"]["partitions"].values()
        ]
        there = [
            f"/dev/mapper/{content['name']}" if encrypted else f"/dev/disk/by-partlabel/{part['label']}"
            for part, content in parts
            if content.get("type") == ("luks" if encrypted else "zfs")
        ]
        assert sorted(named) == sorted(there)
        found = read_disko(value, facts).answers["storage"]
        assert (found["layout"], found["redundancy"], found["filesystem"]) == ("array", "raid10", "zfs")
