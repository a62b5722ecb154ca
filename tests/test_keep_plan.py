"""What stays, by plan: refusals with their reasons, the ESP that is shared, and reinstallations."""

from dataclasses import replace
from typing import Any

import pytest

from installer.answers.load import load
from installer.answers.problems import AnswersError
from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.execute.identity import OwnUse
from installer.facts import Facts
from installer.facts.disks import Disk, Filesystem, Holder, HolderKind
from installer.facts.firmware import FirmwareKind
from installer.facts.systems import InstalledSystem
from installer.plan.actions import (
    ChangePartitionTable,
    ClearTarget,
    LookAtEsp,
    PutBackForeign,
    Run,
    WritePartitionTable,
)
from installer.plan.checks import (
    ArrayMembersAre,
    DatasetsAre,
    DevicesOf,
    EntriesKept,
    PoolIs,
    PoolMembersAre,
    SignatureIs,
    StoredPlanIs,
)
from installer.plan.describe import describe
from installer.plan.model import Plan, is_destructive
from installer.plan.planner import make_plan
from installer.plan.storage.idle import STOP
from tests import gpt
from tests import plan_cases as cases
from tests.gpt import Entry

SIZE = 500 * GIB
WINDOWS = (
    Entry(1, MIB, 260 * MIB, gpt.ESP, name="EFI system partition", kind="vfat", uuid="A1B2-C3D4"),
    Entry(2, 261 * MIB, 16 * MIB, gpt.MSR),
    Entry(3, 277 * MIB, 200 * GIB, gpt.DATA, kind="ntfs"),
    Entry(4, 277 * MIB + 200 * GIB, 800 * MIB, gpt.RECOVERY, kind="ntfs"),
    Entry(5, 300 * GIB, 100 * GIB, gpt.LINUX, name="data", kind="ext4"),
)
THERE = (InstalledSystem(name="Windows", disk="nvme0n1", partition="nvme0n1p2", evidence="type"),)


def disk(*entries: Entry, **changes: Any) -> Disk:
    partitions = tuple(sorted((each.partition("nvme0n1") for each in entries), key=lambda each: each.number))
    return cases.blank_disk(**{"size": SIZE, "table": "gpt", "partitions": partitions} | changes)


def machine(*entries: Entry, firmware: FirmwareKind = FirmwareKind.uefi64, **changes: Any) -> Facts:
    return cases.machine(disk(*entries, **changes), firmware=firmware, systems=THERE)


def plan(facts: Facts, existing: str = "keep", **storage: Any) -> Plan:
    answers = cases.answers(storage=cases.storage(existing=existing, **storage))
    return make_plan(facts, answers, cases.medium(estimated_closure=GIB))


def one(number: int, action: str, **more: Any) -> dict[str, Any]:
    return {"partitions": [{"number": number, "action": action} | more]}


REFUSED: dict[str, tuple[Facts, dict[str, Any], Exit, str]] = {
    "no table": (cases.machine(), {}, Exit.unsuitable, "no partition table"),
    "mbr": (machine(*WINDOWS, table="dos"), {}, Exit.unsuitable, "mbr2gpt"),
    "esp deleted": (machine(*WINDOWS), one(1, "delete"), Exit.unsuitable, "an EFI system partition"),
    "msr deleted": (machine(*WINDOWS), one(2, "delete"), Exit.unsuitable, "Microsoft reserved"),
    "windows formatted": (
        machine(*WINDOWS),
        one(3, "format", mount="/"),
        Exit.unsuitable,
        "an NTFS of Windows",
    ),
    "recovery deleted": (machine(*WINDOWS), one(4, "delete"), Exit.unsuitable, "recovery environment"),
    "no such number": (machine(*WINDOWS), one(9, "delete"), Exit.selection, "matches no partition"),
    "twice": (
        machine(*WINDOWS),
        {"partitions": [{"number": 5, "action": "delete"}, {"label": "data"}]},
        Exit.selection,
        "two entries",
    ),
    "ntfs mounted": (machine(*WINDOWS), one(3, "keep", mount="/srv/c"), Exit.unsuitable, "holds ntfs"),
    "bios beside a system": (
        machine(*WINDOWS, firmware=FirmwareKind.bios),
        {},
        Exit.unsuitable,
        "there is one place for it",
    ),
    "no room": (
        machine(*WINDOWS, Entry(6, 400 * GIB, 99 * GIB, gpt.DATA), Entry(7, 201 * GIB, 98 * GIB, gpt.DATA)),
        {},
        Exit.unsuitable,
        "in one piece",
    ),
    "no GUIDs": (
        cases.machine(
            disk(
                partitions=tuple(
                    each.partition("nvme0n1").model_copy(update={"part_uuid": None}) for each in WINDOWS
                )
            )
        ),
        {},
        Exit.unsuitable,
        "probe as root",
    ),
    "this host already": (
        machine(*WINDOWS, Entry(6, 450 * GIB, GIB, gpt.LINUX, name="hv1-root", kind="ext4")),
        {},
        Exit.unsuitable,
        "would be there twice",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name: str) -> None:
    facts, storage, code, words = REFUSED[name]
    with pytest.raises(HyperError) as refused:
        plan(facts, **storage)
    assert refused.value.code is code
    assert words in " ".join(f"{refused.value.what} {refused.value.why} {refused.value.remedy}".split())


def test_what_sleeps_in_a_kept_partition_reaches_nothing() -> None:
    """A member of an array over another disk stays what it is; only in use it is in the way."""
    asleep = Holder(kind=HolderKind.md, name="md0", spans=("sdb",), active=False)
    partitions = tuple(each.partition("nvme0n1") for each in WINDOWS)
    other = cases.blank_disk(name="sdb", serial="OTHER", wwn="0x5", by_id=("ata-OTHER",))

    def facts(holder: Holder) -> Facts:
        last = partitions[-1].model_copy(update={"holders": (holder,)})
        return cases.machine(disk(partitions=(*partitions[:-1], last)), other, systems=THERE)

    assert plan(facts(asleep))
    with pytest.raises(HyperError) as refused:
        plan(facts(asleep.model_copy(update={"active": True})))
    assert refused.value.code is Exit.busy
    with pytest.raises(HyperError, match="must not be touched"):
        plan(facts(asleep), **one(5, "delete"))


def test_the_largest_free_space_is_used_and_deleting_makes_it() -> None:
    regions = {each.content: each for each in plan(machine(*WINDOWS)).pictures[0].after}
    assert regions["ext4 at /"].start == 400 * GIB + 2 * GIB
    freed = plan(machine(*WINDOWS), **one(5, "delete"))
    regions = {each.content: each for each in freed.pictures[0].after}
    assert regions["ext4 at /"].start + regions["ext4 at /"].size == SIZE - MIB
    assert regions["vfat at /boot"].start < 300 * GIB
    assert "partition 5, 100 GiB: ext4 (deleted)" in freed.destroyed[0].losses
    assert len(freed.destroyed[0].kept) == 4
    assert freed.handoff.grow is not None, "the root is the last on the disk"


def test_a_root_before_others_does_not_grow() -> None:
    made = plan(machine(*WINDOWS), **one(5, "format", mount="/"))
    assert made.handoff.grow is None


def test_a_large_esp_is_shared() -> None:
    entries = (
        replace(WINDOWS[0], size=2 * GIB),
        *(replace(each, start=each.start + 2 * GIB) for each in WINDOWS[1:]),
    )
    made = plan(machine(*entries))
    steps = {step.id: step for step in made.steps}
    assert "format-esp" not in steps
    (look,) = (each for step in made.steps for each in step.actions if isinstance(each, LookAtEsp))
    assert look.partition == 1
    assert any(isinstance(each, PutBackForeign) for each in steps["boot-loader"].actions)
    order = [step.id for step in made.steps]
    assert order.index("look-at-esp") < order.index("partition-main")
    assert made.host.esp_mountpoint == "/boot"
    (boot,) = (each for each in made.host.filesystems if each.mountpoint == "/boot")
    assert boot.device == "/dev/disk/by-uuid/A1B2-C3D4"
    assert not any(
        "mkfs.fat" in action.argv
        for step in made.steps
        for action in step.actions
        if isinstance(action, Run)
    )


def test_a_file_system_stays_and_is_mounted() -> None:
    made = plan(machine(*WINDOWS), **one(5, "keep", mount="/srv/data"))
    (data,) = (each for each in made.host.filesystems if each.mountpoint == "/srv/data")
    assert (data.device, data.kind) == ("/dev/disk/by-uuid/uuid-5", "ext4")
    assert "nofail" in data.options
    assert "what stays" in describe(made)


WRONG = [
    ('existing = "erase"\npartitions = [{ number = 1, action = "delete" }]', "storage.partitions"),
    ('esp = "own"', "storage.esp"),
    ('keep = ["/home"]', "storage.keep"),
    ('existing = "reinstall"\nkeep = ["/nix"]', "storage.keep[0]"),
    ('existing = "reinstall"\nkeep = ["/var"]', "storage.keep[0]"),
    ('existing = "reinstall"\nkeep = ["/srv/../etc"]', "storage.keep[0]"),
    ('existing = "keep"\npartitions = [{ action = "delete" }]', "storage.partitions[0]"),
    ('existing = "keep"\npartitions = [{ number = 3, mount = "/" }]', "storage.partitions[0].mount"),
    ('existing = "keep"\npartitions = [{ number = 3, action = "format" }]', "storage.partitions[0].mount"),
    ('existing = "keep"\npartitions = [{ number = 3, grow = true }]', "storage.partitions[0].grow"),
    ('existing = "keep"\npartitions = [{ number = 3, mount = "/nix/x" }]', "storage.partitions[0].mount"),
    (
        'existing = "keep"\npartitions = [{ number = 3, action = "delete", mount = "/srv" }]',
        "storage.partitions[0].mount",
    ),
]


@pytest.mark.parametrize(("storage", "field"), WRONG)
def test_wrong_answers_name_the_field(storage: str, field: str) -> None:
    text = f"""
version = 1
hostname = "hv1"
[storage]
disk = {{ serial = "X" }}
{storage}
[[users]]
name = "anna"
admin = true
ssh_keys = ["{cases.KEY}"]
"""
    with pytest.raises(AnswersError) as wrong:
        load(text.encode(), "a.toml")
    assert field in str(wrong.value)


LAYOUTS: dict[str, dict[str, Any]] = {
    "ext4": {},
    "btrfs encrypted": {"filesystem": "btrfs", "encryption": cases.ENCRYPTED},
    "lvm": {"volumes": "lvm", "swap": {"kind": "partition", "size": "4GiB"}},
    "zfs": {"filesystem": "zfs", "pool": {"kind": "zfs"}},
}


def installed(made: Plan, facts: Facts) -> Facts:
    """The machine after this plan, as the probe would find it."""
    known: dict[str, tuple[str, str]] = {}
    pools: dict[str, str] = {}
    for check in (check for step in made.steps for check in step.checks):
        match check:
            case SignatureIs():
                known[check.device] = (check.type, check.uuid)
            case ArrayMembersAre():
                known |= dict.fromkeys(check.devices, ("linux_raid_member", check.uuid))
            case DevicesOf():
                known |= dict.fromkeys(check.devices, ("btrfs", check.uuid))
            case PoolMembersAre():
                pools |= dict.fromkeys(check.devices, check.name)
    tables = {
        action.disk: action.partitions
        for step in made.steps
        for action in step.actions
        if isinstance(action, WritePartitionTable)
    }
    disks = []
    for disk, identity in zip(facts.disks, made.disks, strict=True):
        entries = []
        for spec in tables[identity.key]:
            kind, uuid = known.get(identity.partition(spec.number), (None, None))
            entries.append(
                Entry(
                    spec.number, spec.start, spec.size, spec.type_uuid, name=spec.label, kind=kind, uuid=uuid
                )
            )
        partitions = tuple(
            found.model_copy(
                update={"filesystem": Filesystem(kind="zfs_member", uuid="1234567890", label=pools[device])}
            )
            if (device := identity.partition(found.number)) in pools
            else found
            for found in (each.partition(disk.name) for each in entries)
        )
        disks.append(disk.model_copy(update={"table": "gpt", "partitions": partitions}))
    return facts.model_copy(update={"disks": tuple(disks)})


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("firmware", [FirmwareKind.uefi64, FirmwareKind.bios])
def test_a_reinstallation_writes_to_no_disk_but_clears_the_target(name: str, firmware: FirmwareKind) -> None:
    blank = cases.machine(cases.blank_disk(size=SIZE), firmware=firmware)
    first = plan(blank, "erase", **LAYOUTS[name])
    again = plan(installed(first, blank), "reinstall", **LAYOUTS[name])
    destructive = [action for step in again.steps for action in step.actions if is_destructive(action)]
    assert [type(each) for each in destructive] == [ClearTarget]
    assert again.host == first.host
    steps = {step.id: step for step in again.steps}
    assert {"mount-root", "find-host", "clear-target", "write-configuration"} <= {*steps}
    order = [step.id for step in again.steps]
    assert order.index("find-host") < order.index("clear-target") < order.index("write-configuration")
    (stored,) = steps["find-host"].checks
    assert isinstance(stored, StoredPlanIs)
    assert "/var/lib/libvirt" in again.destroyed[0].kept[0]
    made_anew = ("mkfs", "mkswap", "luksFormat", "wipefs", "vgcreate", "luksAddKey", 'create"')
    text = again.model_dump_json()
    assert not any(f'"{word}' in text for word in made_anew)


def brought_up(
    facts: Facts, mountpoints: tuple[str, ...] = (), kind: HolderKind = HolderKind.lvm_lv
) -> Facts:
    """The machine after udev has activated its volume group, as the probe tells of it; maybe with a volume in use."""
    (disk,) = facts.disks
    last = disk.partitions[-1]
    root = Holder(kind=HolderKind.filesystem, name="ext4", active=False, mountpoints=mountpoints)
    volume = Holder(kind=kind, name="system/root", mountpoints=mountpoints, layers=(root,))
    group = Holder(kind=HolderKind.lvm_pv, name="system", layers=(volume,))
    uses = (
        f"{last.name} is part of lvm physical volume system",
        f"system is part of {kind.value} system/root",
        *(f"system/root is mounted at {point}" for point in mountpoints),
    )
    member = Filesystem(kind="LVM2_member", uuid="p" * 8)
    partitions = (
        *disk.partitions[:-1],
        last.model_copy(update={"holders": (group,), "filesystem": last.filesystem or member}),
    )
    up = disk.model_copy(update={"partitions": partitions, "in_use": uses})
    return facts.model_copy(update={"disks": (up,)})


@pytest.mark.parametrize("volumes", ["lvm", "lvm-thin"])
def test_volumes_of_a_group_that_is_found_are_the_installations_own(volumes: str) -> None:
    """No step makes them, and what lies in no file system of ours (swap, parts of a thin pool) must not look like others'."""
    blank = cases.machine(cases.blank_disk(size=SIZE))
    storage = LAYOUTS["lvm"] | {"volumes": volumes}
    again = plan(installed(plan(blank, "erase", **storage), blank), "reinstall", **storage)
    clearing = next(number for number, step in enumerate(again.steps) if step.id == "clear-target")
    own = OwnUse.of(again.steps[:clearing])
    (device,) = (each.device for each in again.host.filesystems if each.mountpoint == "/")
    group = device.removeprefix("/dev/mapper/").rpartition("-")[0]
    assert own.includes(f"holder {group}-swap")
    assert own.includes(f"holder {group}-vms_tmeta")
    assert not own.includes(f"holder {group}x-swap")


def test_a_volume_group_that_came_up_by_itself_is_installed_anew() -> None:
    blank = cases.machine(cases.blank_disk(size=SIZE))
    there = installed(plan(blank, "erase", **LAYOUTS["lvm"]), blank)
    again = plan(there, "reinstall", **LAYOUTS["lvm"])
    assert plan(brought_up(there), "reinstall", **LAYOUTS["lvm"]).steps == again.steps
    for used in (
        brought_up(there, mountpoints=("/mnt/old",)),
        brought_up(there, kind=HolderKind.luks),  # which somebody has opened
    ):
        with pytest.raises(HyperError, match="must not be touched") as refused:
            plan(used, "reinstall", **LAYOUTS["lvm"])
        assert refused.value.code == Exit.busy
        assert "is part of lvm physical volume system" in str(refused.value.why)
    anew = plan(brought_up(there), "erase", **LAYOUTS["lvm"])
    assert STOP in [step.id for step in anew.steps], "what is erased is stopped first"
    assert STOP not in [step.id for step in again.steps], "what is kept is used as it is"


def test_a_pool_is_looked_for_before_it_is_up_and_by_its_name() -> None:
    """Nothing asks for a pool that is up before the step that brings it up; another host's is refused."""
    blank = cases.machine(cases.blank_disk(size=SIZE))
    there = installed(plan(blank, "erase", **LAYOUTS["zfs"]), blank)
    steps = plan(there, "reinstall", **LAYOUTS["zfs"]).steps
    before = steps[: [step.id for step in steps].index("import-zpool")]
    assert any(isinstance(check, PoolMembersAre) for step in before for check in step.checks)
    assert not any(isinstance(check, PoolIs | DatasetsAre) for step in before for check in step.checks)
    (disk,) = there.disks
    for found, words in (
        (Filesystem(kind="zfs_member", uuid="1234567890", label="tank"), "zfs_member tank"),
        (None, "nothing"),
    ):
        other = disk.partitions[-1].model_copy(update={"filesystem": found})
        spoiled = disk.model_copy(update={"partitions": (*disk.partitions[:-1], other)})
        with pytest.raises(HyperError, match="there is no host hv1") as refused:
            plan(there.model_copy(update={"disks": (spoiled,)}), "reinstall", **LAYOUTS["zfs"])
        assert f"holds {words}, and this host's would be of the ZFS pool system_" in str(refused.value.why)


LARGE = Entry(1, MIB, 1200 * MIB, gpt.ESP, name="EFI system partition", kind="vfat", uuid="A1B2-C3D4")
BESIDE = (LARGE, Entry(3, 1300 * MIB, 200 * GIB, gpt.DATA, kind="ntfs"))


def beside_them(**storage: Any) -> tuple[Plan, Facts]:
    """A plan beside Windows, and the machine after it."""
    facts = machine(*BESIDE)
    first = plan(facts, **storage)
    known = {
        check.device: (check.type, check.uuid)
        for step in first.steps
        for check in step.checks
        if isinstance(check, SignatureIs)
    }
    added = next(
        action.add
        for step in first.steps
        for action in step.actions
        if isinstance(action, ChangePartitionTable)
    )
    ours = [
        Entry(each.number, each.start, each.size, each.type_uuid, name=each.label, kind=kind, uuid=uuid)
        for each in added
        for kind, uuid in (known.get(first.disks[0].partition(each.number), (None, None)),)
    ]
    return first, machine(*BESIDE, *ours)


@pytest.mark.parametrize("esp", ["auto", "share"])
@pytest.mark.parametrize("name", ["ext4", "btrfs encrypted"])
def test_a_host_that_shares_an_esp_is_reinstalled(name: str, esp: str) -> None:
    """Nothing of the table changes, and the other system's files are looked at before and after."""
    first, there = beside_them(esp="share", **LAYOUTS[name])
    again = plan(there, "reinstall", esp=esp, **LAYOUTS[name])
    assert again.host == first.host
    actions = [action for step in again.steps for action in step.actions]
    assert [type(each) for each in actions if is_destructive(each)] == [ClearTarget]
    assert [each.partition for each in actions if isinstance(each, LookAtEsp)] == [1]
    assert any(isinstance(each, PutBackForeign) for each in actions)
    kept = [check for step in again.steps for check in step.checks if isinstance(check, EntriesKept)]
    assert [each.numbers for each in kept] == [(1, 3)]
    assert "mkfs" not in again.model_dump_json()
    (stays,) = (each.kept for each in again.destroyed)
    assert any(each.startswith("partition 1, 1.2 GiB: ") and "shared" in each for each in stays)
    assert any(each.startswith("partition 3, 200 GiB: ntfs") for each in stays)
    regions = {each.number: each.content for each in again.pictures[0].after}
    assert regions[1].startswith("kept: ")
    assert regions[3].startswith("kept: ")


def test_a_host_with_an_esp_of_its_own_does_not_share_another_when_reinstalled() -> None:
    first, there = beside_them(esp="own")
    again = plan(there, "reinstall")
    assert again.host == first.host
    assert not any(isinstance(action, LookAtEsp) for step in again.steps for action in step.actions)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hostname": "hv2"}, "no partition called hv2-esp"),
        (
            {"storage": cases.storage(existing="reinstall", filesystem="xfs")},
            "holds ext4, and the answers ask for xfs",
        ),
        ({"storage": cases.storage(existing="reinstall", encryption=cases.ENCRYPTED)}, "hv1-root"),
        (
            {"storage": cases.storage(existing="reinstall", swap={"kind": "partition"})},
            "no partition called hv1-swap",
        ),
    ],
)
def test_a_reinstallation_of_another_host_or_layout_is_refused(changed: dict[str, Any], words: str) -> None:
    blank = cases.machine(cases.blank_disk(size=SIZE))
    there = installed(plan(blank, "erase"), blank)
    answers = cases.answers(**{"storage": cases.storage(existing="reinstall")} | changed)
    with pytest.raises(HyperError) as refused:
        make_plan(there, answers, cases.medium(estimated_closure=GIB))
    assert refused.value.code is Exit.unsuitable
    assert words in refused.value.why


def test_another_uuid_is_doubt_enough() -> None:
    blank = cases.machine(cases.blank_disk(size=SIZE))
    there = installed(plan(blank, "erase"), blank)
    root = there.disks[0].partitions[-1]
    assert root.filesystem is not None
    foreign = root.model_copy(update={"filesystem": root.filesystem.model_copy(update={"uuid": "other"})})
    spoiled = there.disks[0].model_copy(update={"partitions": (*there.disks[0].partitions[:-1], foreign)})
    with pytest.raises(HyperError, match="no host hv1 on these disks"):
        plan(there.model_copy(update={"disks": (spoiled,)}), "reinstall")
