"""A host that hibernated and is replaced: nothing of its memory is found by the one that comes after it."""

import json
from pathlib import Path
from typing import Any

import pytest

from installer.execute.asleep import VARIABLE, asleep, forget, give_up
from installer.execute.clear import clear_target
from installer.execute.live import LiveSystem
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from tests import plan_cases as cases

SWAP = b"SWAPSPACE2"
ASLEEP = SWAP + b"S1SUSPEND\0"


def plan(**storage: Any) -> Plan:
    answers = cases.answers(storage=cases.storage(swap={"kind": "file", "hibernate": True}, **storage))
    return make_plan(cases.machine(), answers, cases.medium())


def memory(swap: Path) -> None:
    """As the kernel leaves it (kernel/power/swap.c)."""
    swap.parent.mkdir(parents=True, exist_ok=True)
    swap.write_bytes(bytes(4096 - len(ASLEEP)) + ASLEEP + b"memory" * 1000)


def test_swap_is_told_from_a_memory(tmp_path: Path) -> None:
    swap = tmp_path / "swap"
    assert not asleep(swap), "which is not there"
    memory(swap)
    size = swap.stat().st_size
    assert asleep(swap)
    give_up(swap)
    assert not asleep(swap) and swap.stat().st_size == size
    assert swap.read_bytes()[4096 - len(SWAP) : 4096] == SWAP


def test_a_system_that_is_removed_leaves_no_memory_in_freed_blocks(tmp_path: Path) -> None:
    stored = tmp_path / "var/log/hyper-nixos/plan.json"
    stored.parent.mkdir(parents=True)
    stored.write_text(plan().model_dump_json())
    swap = tmp_path / "var/lib/swapfile"
    memory(swap)
    with swap.open("rb") as blocks:
        clear_target(LiveSystem(), tmp_path, (), 0)
        assert not swap.exists()
        assert blocks.read(4096).endswith(SWAP), "its blocks still say that a memory lies there"


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ("ours", True),
        ("12345678-1234-4123-8123-123456789abc", False),
        (None, False),
    ],
)
def test_the_firmware_forgets_what_was_on_these_disks(
    tmp_path: Path, said: str | None, *, gone: bool
) -> None:
    made = plan(filesystem="btrfs")
    (root,) = (each for each in made.host.filesystems if each.mountpoint == "/")
    uuid = root.device.rpartition("/")[2] if said == "ours" else said
    variable = tmp_path / "firmware/efi/efivars" / VARIABLE
    variable.parent.mkdir(parents=True)
    text = json.dumps({"uuid": uuid, "offset": 38912}) if uuid else "no JSON"
    variable.write_bytes(b"\7\0\0\0" + f"{text}\0".encode("utf-16-le"))
    assert forget(LiveSystem(sysfs=tmp_path), made) == gone
    assert variable.exists() != gone
    assert not forget(LiveSystem(sysfs=tmp_path / "bios"), made)
