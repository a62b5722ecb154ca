"""The lab's comparison of mounts with the plan notices what is not so."""

import json
from typing import Any

import pytest

from installer.plan.planner import make_plan
from tests import plan_cases as cases
from tests.lab.mounts import command, devices, differences

STORAGE = {
    "layout": "mirror",
    "disk": {"transport": "nvme", "count": 2},
    "filesystem": "btrfs",
    "swap": {"kind": "partition"},
}
HOST = make_plan(cases.machine(*cases.disks(2)), cases.answers(storage=STORAGE), cases.medium()).host


def seen(change: str = "") -> str:
    """What a host as planned would print, but for one thing."""
    rows: list[dict[str, Any]] = [
        {
            "target": each.mountpoint,
            "source": "/dev/nvme0n1p3",
            "fstype": each.kind,
            "options": ",".join(("rw", *each.options)),
            "uuid": each.device.rpartition("/")[2],
        }
        for each in HOST.filesystems
    ]
    rows.append(
        {**rows[0], "target": "/nix/store", "source": "/dev/nvme0n1p3[/@nix/store]", "options": "ro"}
    )
    match change:
        case "not mounted":
            rows = [row for row in rows if row["target"] != "/home"]
        case "subvolume":
            rows[-2]["options"] = "rw,subvol=/@other"
        case "uuid":
            rows[0]["uuid"] = "other"
        case "kind":
            rows[0]["fstype"] = "xfs"
        case "more":
            rows.append({**rows[0], "target": "/more", "source": "/dev/sdz1"})
    swaps = "Filename\n" + ("" if change == "swap" else "/dev/md127\n" * len(HOST.swap_devices))
    paths = "\n".join(
        "missing x" if change == "path" and not n else path for n, path in enumerate(devices(HOST))
    )
    return f"{json.dumps({'filesystems': rows})}\n\n{swaps}\n{paths}\n"


def test_as_planned() -> None:
    assert not list(differences(HOST, seen()))
    assert all(path in command(HOST) for path in devices(HOST))


POOL = {
    "layout": "mirror",
    "disk": {"transport": "nvme", "count": 2},
    "filesystem": "zfs",
    "pool": {"kind": "zfs"},
}
ON_ZFS = make_plan(cases.machine(*cases.disks(2)), cases.answers(storage=POOL), cases.medium()).host


def seen_on_zfs(change: str = "") -> str:
    """What a host on ZFS as planned would print, but for one thing."""
    rows: list[dict[str, Any]] = [
        {
            "target": each.mountpoint,
            "source": each.device if each.kind == "zfs" else "/dev/nvme0n1p1",
            "fstype": each.kind,
            "options": ",".join(("rw", *each.options)),
            "uuid": each.device.rpartition("/")[2] if each.kind != "zfs" else None,
        }
        for each in ON_ZFS.filesystems
    ]
    assert ON_ZFS.zfs
    (pool,) = ON_ZFS.zfs.pools
    datasets = [pool, *(row["source"] for row in rows if row["fstype"] == "zfs")]
    pools = f"{pool}\tONLINE\n"
    match change:
        case "another dataset":
            next(row for row in rows if row["target"] == "/nix")["source"] = f"{pool}/other"
        case "degraded":
            pools = f"{pool}\tDEGRADED\n"
        case "another pool":
            pools += "old\tONLINE\n"
        case "a dataset more":
            datasets.append(f"{pool}/more")
        case "mounted elsewhere":
            rows.append({**rows[-1], "target": "/more", "fstype": "zfs", "source": f"{pool}/root"})
    swaps = "Filename\n" + "/dev/zram0\n" * bool(ON_ZFS.zram_percent)
    paths = "\n".join(devices(ON_ZFS))
    listed = "\n".join(datasets)
    return f"{json.dumps({'filesystems': rows})}\n\n{swaps}\n{paths}\n\n{pools}{listed}\n"


def test_pools_as_planned() -> None:
    assert not list(differences(ON_ZFS, seen_on_zfs()))
    assert "zpool list" in command(ON_ZFS) and "zpool" not in command(HOST)


@pytest.mark.parametrize(
    "change", ["another dataset", "degraded", "another pool", "a dataset more", "mounted elsewhere"]
)
def test_what_differs_in_a_pool_is_noticed(change: str) -> None:
    assert len(list(differences(ON_ZFS, seen_on_zfs(change)))) == 1


@pytest.mark.parametrize("change", ["not mounted", "subvolume", "uuid", "kind", "more", "swap", "path"])
def test_what_differs_is_noticed(change: str) -> None:
    assert len(list(differences(HOST, seen(change)))) == 1
