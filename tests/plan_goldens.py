"""Plans of all combinations of one disk; `python -m tests.plan_goldens` writes them anew, to be read in the diff."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from installer.facts.firmware import FirmwareKind
from installer.plan.describe import describe
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from tests import plan_cases as cases

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


def texts() -> Iterator[tuple[str, str]]:
    """File name and content of every golden file."""
    for name, plan in (*golden_plans(), ("everything", full_plan())):
        yield f"{name}.json", json.dumps(json.loads(plan.model_dump_json()), indent=1) + "\n"
        yield f"{name}.txt", describe(plan, "answers.toml")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, text in texts():
        (FOLDER / file).write_text(text)
