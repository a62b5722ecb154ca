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


@pytest.mark.parametrize("change", ["not mounted", "subvolume", "uuid", "kind", "more", "swap", "path"])
def test_what_differs_is_noticed(change: str) -> None:
    assert len(list(differences(HOST, seen(change)))) == 1
