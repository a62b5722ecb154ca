"""Plans of all combinations of one disk, and of several; `python -m tests.plan_goldens` writes them anew, to be read in
the diff.
"""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from installer.facts.disks import Disk
from installer.facts.firmware import FirmwareKind
from installer.plan.describe import describe
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from tests import plan_cases as cases
from tests.layout_matrix import text

FOLDER = Path(__file__).parent / "golden/plans"

FIRMWARES = {"uefi": FirmwareKind.uefi64, "bios": FirmwareKind.bios}
FILESYSTEMS = ("ext4", "xfs", "btrfs")
ENCRYPTIONS = {"plain": {}, "luks": cases.ENCRYPTED}
SWAPS = ("partition", "zram")


def golden_plans() -> Iterator[tuple[str, Plan]]:
    """Every combination, by name."""
    for firmware, filesystem, encryption, swap in product(FIRMWARES, FILESYSTEMS, ENCRYPTIONS, SWAPS):
        storage = cases.storage(
            filesystem=filesystem, encryption=ENCRYPTIONS[encryption], swap={"kind": swap}
        )
        plan = make_plan(
            cases.machine(firmware=FIRMWARES[firmware]), cases.answers(storage=storage), cases.medium()
        )
        yield f"{firmware}-{filesystem}-{encryption}-{swap}", plan


def full_plan() -> Plan:
    """A disk with a past, and everything that answers can add to a plan."""
    return make_plan(
        cases.machine(cases.blank_disk(), cases.used_disk(), systems=(cases.WINDOWS,)),
        cases.answers(
            storage={
                "disk": {"model": "ST4000*"},
                "filesystem": "btrfs",
                "encryption": cases.ENCRYPTED,
                "swap": {"kind": "partition", "size": "8GiB"},
            },
            users=[
                {"name": "alice", "admin": True, "password_hash": cases.HASH},
                {"name": "bob", "password_hash_file": {"file": "/run/secrets/bob"}, "ssh_keys": [cases.KEY]},
            ],
            network={"proxy": "http://proxy.example:3128", "no_proxy": ["10.0.0.0/8", "example"]},
            system={
                "ca_certificates": ["-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"],
                "substituters": [{"url": "https://cache.example", "public_key": "cache.example-1:AAAA"}],
            },
            hypervisor={"passthrough": [{"address": "03:00.0"}]},
            security={"phase": "hardened"},
            first_run={"vms": [{"name": "Web.1", "image": "medium:marker", "disk_size": "5TiB"}]},
            hooks=[
                {"when": "before-write", "command": ["/payload/ask-permission", "for a disk"]},
                {"when": "after-install", "command": ["/payload/register"], "timeout": 30},
            ],
        ),
        cases.medium(),
    )


def several(count: int) -> dict[str, Any]:
    """The storage table for that many equal NVMe disks."""
    layout = {1: "one-disk", 2: "mirror"}.get(count, "array")
    return {"layout": layout, "disk": {"transport": "nvme", "count": count}}


BIG = {"transport": "sata", "rotational": True}
PARTITION = {"kind": "partition", "size": "8GiB"}
LUKS = {"encryption": cases.ENCRYPTED}
SEVERAL: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "mirror-uefi-btrfs-luks": ("uefi", 2, 0, {"filesystem": "btrfs", **LUKS}),
    "mirror-uefi-btrfs-plain-partition": ("uefi", 2, 0, {"filesystem": "btrfs", "swap": PARTITION}),
    "mirror-uefi-ext4-luks-lvm-partition": ("uefi", 2, 0, {"volumes": "lvm", "swap": PARTITION, **LUKS}),
    "mirror-uefi-xfs-luks-partition": ("uefi", 2, 0, {"filesystem": "xfs", "swap": PARTITION, **LUKS}),
    "mirror-uefi-xfs-plain-file": ("uefi", 2, 0, {"filesystem": "xfs", "swap": {"kind": "file"}}),
    "mirror-uefi-zfs-luks": ("uefi", 2, 0, {"filesystem": "zfs", **LUKS}),
    "mirror-bios-btrfs-luks": ("bios", 2, 0, {"filesystem": "btrfs", **LUKS}),
    "mirror-bios-ext4-lvm-thin": ("bios", 2, 0, {"volumes": "lvm-thin", "root_size": "100GiB"}),
    "array-uefi-btrfs-raid10-luks": ("uefi", 4, 0, {"filesystem": "btrfs", **LUKS}),
    "array-uefi-btrfs-none": ("uefi", 3, 0, {"filesystem": "btrfs", "redundancy": "none"}),
    "array-uefi-xfs-raid5": ("uefi", 3, 0, {"filesystem": "xfs", "redundancy": "raid5"}),
    "array-uefi-ext4-raid6-luks-lvm": ("uefi", 5, 0, {"volumes": "lvm", **LUKS}),
    "array-uefi-xfs-raid10": ("uefi", 4, 0, {"filesystem": "xfs"}),
    "array-uefi-zfs-raidz2-pool": (
        "uefi",
        4,
        0,
        {"filesystem": "zfs", "redundancy": "raidz2", "pool": {"kind": "zfs", "record_size": "16KiB"}},
    ),
    "array-uefi-zfs-raid10": ("uefi", 4, 0, {"filesystem": "zfs"}),
    "one-uefi-zfs": ("uefi", 1, 0, {"filesystem": "zfs"}),
    "one-uefi-btrfs-pool": ("uefi", 1, 0, {"filesystem": "btrfs", "pool": {"kind": "dir"}}),
    "one-uefi-lvm-pool-luks": ("uefi", 1, 0, {"volumes": "lvm", "pool": {"kind": "lvm-thin"}, **LUKS}),
    "mirror-uefi-btrfs-data-xfs-luks": (
        "uefi",
        2,
        4,
        {"filesystem": "btrfs", "pool": {"disk": BIG | {"count": 4}}, **LUKS},
    ),
    "one-uefi-data-lvm-thin": ("uefi", 1, 2, {"pool": {"kind": "lvm-thin", "disk": BIG | {"count": 2}}}),
    "one-uefi-data-zfs": ("uefi", 1, 3, {"pool": {"kind": "zfs", "disk": BIG | {"count": 3}}}),
    "one-uefi-data-btrfs": (
        "uefi",
        1,
        2,
        {"pool": {"filesystem": "btrfs", "nodatacow": True, "disk": BIG | {"count": 2}}},
    ),
}
"""Firmware, NVMe disks, disks that turn, and what the storage table says besides."""


def several_plans() -> Iterator[tuple[str, Plan]]:
    """Plans of several disks, by name, and those that `auto` makes."""
    for name, (firmware, fast, big, more) in SEVERAL.items():
        yield name, _several(firmware, cases.disks(fast), cases.turning(big), several(fast) | more)
    unequal = (cases.disks(1)[0], cases.disks(2, size=1_200_000_000_000, logical_sector=4096)[1])
    yield "mirror-uefi-unequal", _several("uefi", unequal, (), several(2) | {"filesystem": "btrfs"})
    for fast, big in ((1, 0), (2, 0), (4, 0), (2, 4)):
        named: dict[str, Any] = {"layout": "auto", "disks": [{"transport": "nvme", "count": fast}]}
        named["disks"] += [BIG | {"count": big}] if big else []
        yield f"auto-{fast}-{big}", _several("uefi", cases.disks(fast), cases.turning(big), named)


def _several(firmware: str, fast: tuple[Disk, ...], big: tuple[Disk, ...], storage: dict[str, Any]) -> Plan:
    return make_plan(
        cases.machine(*fast, *big, firmware=FIRMWARES[firmware]),
        cases.answers(storage=storage),
        cases.medium(),
    )


def texts() -> Iterator[tuple[str, str]]:
    """File name and content of every golden file."""
    yield "matrix.txt", text()
    for name, plan in several_plans():
        yield f"several/{name}.txt", describe(plan, "answers.toml")
    for name, plan in (*golden_plans(), ("everything", full_plan())):
        yield f"{name}.json", json.dumps(json.loads(plan.model_dump_json()), indent=1) + "\n"
        yield f"{name}.txt", describe(plan, "answers.toml")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, content in texts():
        (FOLDER / file).parent.mkdir(exist_ok=True)
        (FOLDER / file).write_text(content)
