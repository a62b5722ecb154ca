"""Tables that stay: random ones, changed as the answers say, with what is kept equal byte for byte."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.execute import kept_table
from installer.execute.evidence import Wrong, ensure
from installer.execute.kept_table import change_partitions, read_copies
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.facts.firmware import FirmwareKind
from installer.plan.actions import ChangePartitionTable, PartitionSpec, Run, SaveHeaders
from installer.plan.model import DiskIdentity, Plan
from installer.plan.planner import make_plan
from tests import gpt
from tests import plan_cases as cases
from tests.gpt import Entry, write_gpt

TAIL = 33 * 512
NAMES = ("", "data", "Basic data partition", "täglich ✓", "x" * 36)
TYPES = (gpt.LINUX, gpt.DATA, gpt.MSR, gpt.RECOVERY, gpt.ESP)
SIZE = 64 * GIB
LARGE = 200 * GIB


@st.composite
def tables(draw: st.DrawFn) -> tuple[Entry, ...]:
    """Partitions in any order of numbers, some not aligned, with gaps and odd attributes."""
    count = draw(st.integers(0, 7))
    numbers = draw(st.permutations(range(1, 12)))[:count]
    place, entries = draw(st.sampled_from((34 * 512, 63 * 512, MIB))), []
    for number in numbers:
        start = place + draw(st.sampled_from((0, 0, 512, MIB, 3 * GIB, 12 * GIB)))
        size = draw(st.sampled_from((MIB, 16 * MIB, 260 * MIB, 2 * GIB, 12 * GIB)))
        if start + size > SIZE - TAIL - 512:
            break
        kind = draw(st.sampled_from((None, "ext4", "ntfs", "vfat", "crypto_LUKS", "LVM2_member")))
        entries.append(
            Entry(
                number=number,
                start=start,
                size=size,
                type=draw(st.sampled_from(TYPES)),
                guid=draw(st.uuids()).__str__(),
                name=draw(st.sampled_from(NAMES)),
                attributes=draw(st.sampled_from((0, 1, 4, 1 << 60, 1 << 63, (1 << 63) | (1 << 48) | 5))),
                kind=kind,
            )
        )
        place = start + size
    return tuple(entries)


@st.composite
def wishes(draw: st.DrawFn, entries: tuple[Entry, ...]) -> dict[str, Any]:
    """What becomes of them."""
    wanted = []
    root = False
    for entry in entries:
        each: dict[str, Any] = {draw(st.sampled_from(("number", "uuid"))): entry.number}
        if "uuid" in each:
            each["uuid"] = entry.identity
        match draw(st.sampled_from(("say nothing", "say nothing", "delete", "format", "mount"))):
            case "delete":
                wanted.append(each | {"action": "delete"})
            case "format" if not root:
                root = draw(st.booleans())
                place = "/" if root else f"/srv/{entry.number}"
                wanted.append(each | {"action": "format", "mount": place, "grow": draw(st.booleans())})
            case "mount":
                wanted.append(each | {"mount": f"/srv/{entry.number}"})
            case _:
                pass
    return {
        "existing": "keep",
        "partitions": wanted,
        "esp": draw(st.sampled_from(("auto", "auto", "own", "share"))),
        "filesystem": draw(st.sampled_from(("ext4", "xfs", "btrfs"))),
        "swap": {"kind": draw(st.sampled_from(("none", "zram", "partition")))},
        "encryption": cases.ENCRYPTED if draw(st.booleans()) else {},
    }


def plan_for(entries: tuple[Entry, ...], wanted: dict[str, Any], firmware: FirmwareKind) -> Plan:
    partitions = tuple(sorted((each.partition("nvme0n1") for each in entries), key=lambda each: each.number))
    disk = cases.blank_disk(size=SIZE, table="gpt", partitions=partitions)
    facts = cases.machine(disk, firmware=firmware)
    return make_plan(
        facts, cases.answers(storage=cases.storage(**wanted)), cases.medium(estimated_closure=GIB)
    )


def change_of(plan: Plan) -> ChangePartitionTable | None:
    found = [each for step in plan.steps for each in step.actions if isinstance(each, ChangePartitionTable)]
    return found[0] if found else None


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(Log(tmp_path / "log", Redactor()), "/usr/sbin:/usr/bin:/sbin:/bin")


def test_kept_entries_are_equal_afterwards(tmp_path: Path, runner: Runner) -> None:
    outcomes = Counter[str]()
    path = tmp_path / "disk"

    @settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def check(data: st.DataObject) -> None:
        entries = data.draw(tables())
        wanted = data.draw(wishes(entries))
        firmware = data.draw(st.sampled_from((FirmwareKind.uefi64, FirmwareKind.bios)))
        try:
            plan = plan_for(entries, wanted, firmware)
        except HyperError as refusal:
            assert refusal.why.strip()
            assert refusal.remedy.strip()
            outcomes[refusal.code.name] += 1
            return
        action = change_of(plan)
        assert action is not None
        sound(entries, wanted, action)
        changed_on_file(path, runner, entries, action, plan.disks[0])
        outcomes["changed"] += 1
        outcomes["kept"] += len(action.kept)

    check()
    assert outcomes["changed"] >= 8, outcomes
    assert outcomes["kept"] >= 8, outcomes
    assert outcomes["unsuitable"] >= 2, outcomes


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[tuple[Entry, ...]], dict[str, Any]]:
    """Disks with random tables, the last for data alone, and what becomes of all of it."""
    count = draw(st.integers(2, 3))
    found: list[tuple[Entry, ...]] = []
    wanted: list[dict[str, Any]] = []
    for place in range(count + 1):
        entries = () if place < count and draw(st.integers(0, 4)) == 0 else draw(tables())
        entries = tuple(replace(each, uuid=f"uuid-{place}-{each.number}") for each in entries)
        if draw(st.integers(0, 5)):  # mostly what may be mounted and given up
            entries = tuple(replace(each, type=gpt.LINUX, kind="ext4") for each in entries)
        found.append(entries)
        for wish in draw(wishes(entries))["partitions"]:
            usual = draw(st.integers(0, 15)) > 0
            # Now and then nobody says which disk, the root goes into one, or another disk's is to be formatted.
            named = {"disk": {"serial": f"S{place}"}} if usual or place == count else {}
            each = wish | named
            if place == count and usual:
                each = {name: each[name] for name in ("number", "uuid", "disk") if name in each} | {
                    "mount": ""
                }
            if "mount" in each and (usual or each["mount"] != "/"):
                each["mount"] = f"/srv/{place}-{len(wanted)}"
            wanted.append(each)
    storage = {
        "disk": None,
        "disks": [{"serial": f"S{place}"} for place in range(count)],
        "layout": draw(st.sampled_from(("mirror", "mirror", "array"))),
        "existing": draw(st.sampled_from(("keep", "keep", "keep", "erase"))),
        "partitions": wanted,
        "filesystem": draw(st.sampled_from(("ext4", "xfs", "btrfs", "zfs"))),
        "swap": {"kind": draw(st.sampled_from(("none", "zram", "partition")))},
        "encryption": cases.ENCRYPTED if draw(st.booleans()) else {},
    }
    return found, storage


def test_several_disks_keep_what_nobody_gave_up_and_others_are_not_written_to(
    tmp_path: Path, runner: Runner
) -> None:
    outcomes = Counter[str]()
    path = tmp_path / "disk"

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def check(data: st.DataObject) -> None:
        found, storage = data.draw(machines())
        disks = []
        for place, entries in enumerate(found):
            name = f"sd{'abcd'[place]}"
            partitions = sorted((each.partition(name) for each in entries), key=lambda each: each.number)
            last = place == len(found) - 1
            kind = ("dos" if data.draw(st.booleans()) else "gpt") if last else "gpt" if entries else None
            given_ = {"name": name, "serial": f"S{place}", "wwn": None, "by_id": (f"ata-S{place}",)}
            disks.append(cases.blank_disk(size=LARGE, table=kind, partitions=tuple(partitions), **given_))
        firmware = data.draw(st.sampled_from((FirmwareKind.uefi64, FirmwareKind.bios)))
        facts = cases.machine(*disks, firmware=firmware)
        try:
            answers = cases.answers(storage=cases.storage(**storage))
            plan = make_plan(facts, answers, cases.medium(estimated_closure=GIB))
        except HyperError as refusal:
            assert refusal.why.strip()
            assert refusal.remedy.strip()
            outcomes[refusal.code.name] += 1
            return
        outcomes["planned"] += 1
        outcomes["mounted"] += len(plan.mounted)
        other = f"ata-S{len(found) - 1}"
        assert not any(other in disk.name for disk in plan.disks)
        programs = [a.argv for s in plan.steps for a in (*s.actions, *s.undo) if isinstance(a, Run)]
        assert all(argv[0] == "mount" for argv in programs if any(other in word for word in argv))
        saves = [n for n, s in enumerate(plan.steps) if any(isinstance(a, SaveHeaders) for a in s.actions)]
        assert len(saves) == len(plan.disks)
        assert max(saves) < min(n for n, s in enumerate(plan.steps) if s.writes)
        changes = {a.disk: a for s in plan.steps for a in s.actions if isinstance(a, ChangePartitionTable)}
        for identity_, entries in zip(plan.disks, found, strict=False):
            action = changes.get(identity_.key)
            if action is None:
                continue
            mine = {"partitions": [each for each in storage["partitions"] if _of(each, identity_, entries)]}
            sound(entries, mine, action, LARGE)
            changed_on_file(path, runner, entries, action, identity_)
            outcomes["changed"] += 1
            outcomes["kept"] += len(action.kept)

    check()
    assert outcomes["changed"] >= 10, outcomes
    assert outcomes["kept"] >= 10, outcomes
    assert outcomes["mounted"] >= 4, outcomes
    assert outcomes["unsuitable"] >= 2, outcomes


def _of(wanted: dict[str, Any], disk: DiskIdentity, entries: tuple[Entry, ...]) -> bool:
    """Whether an entry of the answers is about this disk."""
    if "disk" in wanted:
        return bool(wanted["disk"]["serial"] == disk.serial)
    return any(
        wanted.get("uuid") == each.identity or wanted.get("number") == each.number for each in entries
    )


def changed_on_file(
    path: Path,
    runner: Runner,
    entries: tuple[Entry, ...],
    action: ChangePartitionTable,
    disk: DiskIdentity,
) -> None:
    """Carried out on a sparse file: what stays is equal byte for byte, in both copies."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(disk.size)
    write_gpt(path, entries, disk.size)
    before, _ = read_copies(str(path), 512)
    change_partitions(runner, str(path), disk, action, path.parent / "erased")
    for copy in read_copies(str(path), 512):
        assert copy.guid == gpt.DISK.bytes_le
        for entry in entries:
            if entry.number in action.kept:
                assert copy.entries[entry.number] == before.entries[entry.number] == entry.raw(512)
        assert {*copy.entries} == {*action.kept, *(s.number for s in (*action.change, *action.add))}
        assert copy.last_usable < disk.size // 512 - 33


def sound(
    entries: tuple[Entry, ...], wanted: dict[str, Any], action: ChangePartitionTable, size: int = SIZE
) -> None:
    """What stays is what nobody gave up; what is new is aligned, in bounds, and beside everything else."""
    given_up = {
        entry.number
        for each in wanted["partitions"]
        if each.get("action") in ("delete", "format")
        for entry in entries
        if each.get("number") == entry.number or each.get("uuid") == entry.identity
    }
    assert {*action.kept} == {each.number for each in entries} - given_up
    taken = [(each.start, each.start + each.size) for each in entries if each.number in action.kept]
    for spec in (*action.change, *action.add):
        if spec in action.add:
            assert spec.start % MIB == 0
        assert all(spec.start + spec.size <= start or spec.start >= end for start, end in taken), spec
        assert spec.start + spec.size <= size - TAIL
        taken.append((spec.start, spec.start + spec.size))


def identity(size: int = SIZE, sector: int = 512) -> DiskIdentity:
    return DiskIdentity(
        key="main", wwn=None, serial="S", by_id="ata-S", model=None, size=size, logical_sector=sector
    )


ENTRIES = (
    Entry(1, MIB, 260 * MIB, gpt.ESP, name="EFI system partition"),
    Entry(2, 261 * MIB, 16 * MIB, gpt.MSR, attributes=1 << 63),
    Entry(3, 277 * MIB, 20 * GIB, gpt.DATA, name="Windows"),
)
ADDED = PartitionSpec(number=4, label="hv1-root", type_uuid=gpt.LINUX, start=30 * GIB, size=8 * GIB)


def disk_with(path: Path, entries: tuple[Entry, ...], size: int = SIZE) -> ChangePartitionTable:
    with path.open("wb") as file:
        file.truncate(size)
    write_gpt(path, entries, size)
    plan = plan_for(entries, {"existing": "keep"}, FirmwareKind.uefi64)
    action = change_of(plan)
    assert action is not None
    return action.model_copy(update={"add": (ADDED,)})


def ends(path: Path) -> bytes:
    with path.open("rb") as file:
        first = file.read(MIB)
        file.seek(-MIB, os.SEEK_END)
        return first + file.read()


def test_a_table_that_is_not_the_planned_one_is_left_alone(tmp_path: Path, runner: Runner) -> None:
    path = tmp_path / "disk"
    action = disk_with(path, ENTRIES)
    write_gpt(path, ENTRIES[:2], SIZE)
    before = ends(path)
    with pytest.raises(HyperError) as refused:
        change_partitions(runner, str(path), identity(), action, path.parent / "erased")
    assert refused.value.code is Exit.busy
    assert "3 6f2d1c3e" in refused.value.why
    assert ends(path) == before


@pytest.mark.parametrize("damage", [512 + 40, 2 * 512 + 8, SIZE - 512 + 40])
def test_a_damaged_table_is_left_alone(tmp_path: Path, runner: Runner, damage: int) -> None:
    path = tmp_path / "disk"
    action = disk_with(path, ENTRIES)
    with path.open("r+b") as file:
        file.seek(damage)
        file.write(b"\x5a")
    before = ends(path)
    with pytest.raises(HyperError) as refused:
        change_partitions(runner, str(path), identity(), action, path.parent / "erased")
    assert "is damaged, and nothing was written" in refused.value.what
    assert ends(path) == before


def test_a_hybrid_table_is_left_alone(tmp_path: Path, runner: Runner) -> None:
    path = tmp_path / "disk"
    action = disk_with(path, ENTRIES)
    with path.open("r+b") as file:
        file.seek(446 + 16 + 4)
        file.write(b"\x07")
    before = ends(path)
    with pytest.raises(HyperError, match="is not changed"):
        change_partitions(runner, str(path), identity(), action, path.parent / "erased")
    assert ends(path) == before


def test_what_comes_out_wrong_is_put_back(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that changes a kept entry: here one that renames it behind our back."""
    path = tmp_path / "disk"
    action = disk_with(path, ENTRIES)
    before = ends(path)
    run = Runner.run

    def spoiling(self: Runner, argv: Any, **named: Any) -> Any:
        if "--part-type" in argv:
            run(self, ["sfdisk", "--no-tell-kernel", "--part-label", str(path), "3", "gone"])
        return run(self, argv, **named)

    monkeypatch.setattr(Runner, "run", spoiling)
    with pytest.raises(Wrong) as wrong:
        change_partitions(runner, str(path), identity(), action, path.parent / "erased")
    assert "the entry of partition 3" in wrong.value.expected
    assert ends(path) == before


def test_what_an_older_table_left_in_the_free_space_does_not_come_to_light(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is zeros while the table changes, and back when that fails; in kept partitions nothing is looked at."""
    path = tmp_path / "disk"
    action = disk_with(path, ENTRIES)
    marks = (ADDED.start + 4096, ADDED.start + ADDED.size - 8192)
    with path.open("r+b") as file:
        for place in (*marks, ENTRIES[2].start + 4096):
            file.seek(place)
            file.write(MD_MAGIC)
    monkeypatch.setattr(
        kept_table, "_require_kept", lambda *_: ensure(False, "what should be", f"{at(path, marks)}")
    )
    with pytest.raises(Wrong) as wrong:
        change_partitions(runner, str(path), identity(), action, tmp_path / "erased")
    assert wrong.value.found == f"{[bytes(4), bytes(4)]}"
    assert at(path, marks) == [MD_MAGIC, MD_MAGIC]
    monkeypatch.undo()
    change_partitions(runner, str(path), identity(), action, tmp_path / "erased")
    assert at(path, (*marks, ENTRIES[2].start + 4096)) == [bytes(4), bytes(4), MD_MAGIC]


MD_MAGIC = 0xA92B4EFC.to_bytes(4, "little")
"""linux/raid/md_p.h"""


def at(path: Path, places: tuple[int, ...]) -> list[bytes]:
    with path.open("rb") as file:
        return [os.pread(file.fileno(), 4, place) for place in places]


def test_a_disk_that_has_grown_is_used_to_its_end(tmp_path: Path, runner: Runner) -> None:
    path = tmp_path / "disk"
    action = disk_with(path, ENTRIES)
    os.truncate(path, 2 * SIZE)
    far = ADDED.model_copy(update={"start": SIZE, "size": SIZE - 2 * MIB})
    change_partitions(
        runner,
        str(path),
        identity(2 * SIZE),
        action.model_copy(update={"add": (far,)}),
        path.parent / "erased",
    )
    first, second = read_copies(str(path), 512)
    assert first.other == 2 * SIZE // 512 - 1
    assert first.entries == second.entries
    assert {1, 2, 3, 4} == {*first.entries}
    assert first.entries[3] == ENTRIES[2].raw(512)
