"""What stays where more than one disk is concerned: mirrors beside partitions, data disks that are only mounted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hv.rescue.mount import dispensable, up_steps
from installer.answers.load import load
from installer.answers.problems import AnswersError
from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.execute.preflight import root_room
from installer.facts import Facts
from installer.facts.disks import Disk, Filesystem, Health, Holder, HolderKind, Partition
from installer.facts.firmware import FirmwareKind, Hibernation
from installer.facts.systems import InstalledSystem
from installer.plan.actions import ChangePartitionTable, ClearTarget, Run, SaveHeaders, WritePartitionTable
from installer.plan.checks import (
    ArrayMembersAre,
    DevicesOf,
    EntriesKept,
    MountedAt,
    PartitionTableIs,
    SignatureIs,
)
from installer.plan.describe import describe
from installer.plan.model import Plan, is_destructive
from installer.plan.planner import make_layout, make_plan
from installer.render import load_templates, render
from installer.render.disko import disko
from tests import gpt
from tests import plan_cases as cases
from tests.gpt import Entry
from tests.nixeval import hosts
from tests.nixeval.cases import MEDIUM
from tests.nixeval.host import evaluate_flake_host

FIRST, SECOND = 500 * GIB, 400 * GIB
KEPT = (
    Entry(1, MIB, 2 * GIB, gpt.ESP, name="EFI system partition", kind="vfat", uuid="A1B2-C3D4"),
    Entry(3, 3 * GIB, 200 * GIB, gpt.DATA, kind="ntfs"),
    Entry(7, 480 * GIB, 10 * GIB, gpt.LINUX, name="data", kind="ext4", uuid="d" * 8),
)
OTHER = (Entry(2, 100 * GIB, 50 * GIB, gpt.LINUX, name="old", kind="xfs", uuid="e" * 8),)
WINDOWS = (InstalledSystem(name="Windows", disk="nvme0n1", partition="nvme0n1p3", evidence="type"),)
MEDIA, LOGICAL = "f" * 8, "0" * 8


def disk(name: str, entries: tuple[Entry, ...], size: int, **changes: Any) -> Disk:
    partitions = tuple(sorted((each.partition(name) for each in entries), key=lambda each: each.number))
    given = {"name": name, "size": size, "table": "gpt" if entries else None, "partitions": partitions}
    return cases.blank_disk(**given | changes)


def second(entries: tuple[Entry, ...] = OTHER, **changes: Any) -> Disk:
    given = {"serial": "SECOND", "wwn": "0x5000000000000002", "by_id": ("ata-SECOND",)}
    return disk("sdb", entries, changes.pop("size", SECOND), **given | changes)


def old_disk(**changes: Any) -> Disk:
    """A data disk with an MBR, an extended partition and a logical one, as they were sold for decades."""

    def part(number: int, start: int, size: int, kind: str, filesystem: Filesystem | None) -> Partition:
        return Partition(
            number=number,
            name=f"sdc{number}",
            start=start,
            size=size,
            type_uuid=kind,
            part_uuid=f"b1946ac9-{number:02x}",
            filesystem=filesystem,
        )

    partitions = (
        part(1, 63 * 512, 300 * GIB, "0x7", Filesystem(kind="ntfs", uuid="NTFS")),
        part(2, 301 * GIB, 100 * GIB, "0x83", Filesystem(kind="ext4", uuid=MEDIA, label="media")),
        part(3, 402 * GIB, 50 * GIB, "0xf", None),
        part(5, 403 * GIB, 40 * GIB, "0x83", Filesystem(kind="xfs", uuid=LOGICAL)),
    )
    given = {"serial": "OLD", "wwn": None, "by_id": ("ata-OLD",), "table": "dos", "partitions": partitions}
    return cases.blank_disk(**{"name": "sdc", "size": FIRST, **given, **changes})


def machine(*disks: Disk, firmware: FirmwareKind = FirmwareKind.uefi64, **changes: Any) -> Facts:
    return cases.machine(*disks, firmware=firmware, **{"systems": WINDOWS} | changes)


def plan(facts: Facts, **storage: Any) -> Plan:
    return make_plan(
        facts, cases.answers(storage=cases.storage(**storage)), cases.medium(estimated_closure=GIB)
    )


def both(**storage: Any) -> dict[str, Any]:
    disks = [{"serial": cases.SERIAL}, {"serial": "SECOND"}]
    return {"layout": "mirror", "disk": None, "disks": disks, "existing": "keep"} | storage


def mounted(number: int = 2, mount: str = "/srv/media", **more: Any) -> dict[str, Any]:
    return {"disk": {"serial": "OLD"}, "number": number, "mount": mount} | more


ASLEEP = Entry(9, 260 * GIB, 16 * GIB, gpt.LINUX, name="swap", kind="swsuspend", uuid="a" * 8)


def test_a_system_that_hibernates_is_not_ruined() -> None:
    """Whatever it has mounted, on any disk: also one that nothing else is done with."""
    first, other = disk("nvme0n1", KEPT, FIRST), second((*OTHER, ASLEEP))
    alone: dict[str, Any] = {"disk": {"serial": cases.SERIAL}, "existing": "keep"}
    give_up = {"disk": {"serial": "SECOND"}, "number": 9, "action": "delete"}
    for facts, storage in (
        (machine(first, other), both()),
        (machine(first, other), alone),
        (machine(first, other, old_disk()), {"disk": {"serial": cases.SERIAL}, "partitions": [mounted()]}),
    ):
        with pytest.raises(HyperError, match=r"sdb .* hibernates") as caught:
            plan(facts, **storage)
        assert caught.value.code is Exit.unsuitable
        assert ("delete" in caught.value.remedy) == ("disks" in storage), "only of the system's own disks"
    assert plan(machine(first, other), **both(partitions=[give_up]))
    assert plan(machine(first, other), disk={"serial": cases.SERIAL}), (
        "which is emptied, and touches no other"
    )
    assert plan(machine(first, other), **both(existing="erase"))


def test_a_memory_in_a_volume_is_seen_while_its_group_is_up() -> None:
    memory = Holder(kind=HolderKind.filesystem, name="swsuspend", active=False)
    volume = Holder(kind=HolderKind.lvm_lv, name="old/swap", layers=(memory,))
    group = Holder(kind=HolderKind.lvm_pv, name="old", layers=(volume,))
    other = second((Entry(2, 100 * GIB, 50 * GIB, gpt.LINUX, kind="LVM2_member", uuid="e" * 8),))
    (part,) = other.partitions
    other = other.model_copy(update={"partitions": (part.model_copy(update={"holders": (group,)}),)})
    alone: dict[str, Any] = {"disk": {"serial": cases.SERIAL}, "existing": "keep"}
    with pytest.raises(HyperError, match=r"sdb .* hibernates") as caught:
        plan(machine(disk("nvme0n1", KEPT, FIRST), other), **alone)
    assert "volume old/swap in partition 2" in caught.value.why


@pytest.mark.parametrize("system", ["debian", None])
def test_a_memory_that_only_the_firmware_knows_of_is_told(system: str | None) -> None:
    """In LUKS, or in a file: whatever its system has mounted, until it is known to go."""
    first, other = disk("nvme0n1", KEPT, FIRST), second()

    def asleep(where: str) -> Facts:
        facts = machine(first, other)
        told = facts.firmware.model_copy(update={"hibernation": Hibernation(uuid=where, system=system)})
        return facts.model_copy(update={"firmware": told})

    alone: dict[str, Any] = {"disk": {"serial": cases.SERIAL}, "existing": "keep"}
    for where in ("11111111-2222-4333-8444-555555555555", OTHER[0].uuid or "", KEPT[2].uuid or ""):
        with pytest.raises(HyperError, match="hibernates") as caught:
            plan(asleep(where), **alone)
        assert caught.value.code is Exit.unsuitable
        assert where in caught.value.why and "chattr -i" in caught.value.remedy
    gone = {"number": 7, "action": "delete"}
    assert plan(asleep(KEPT[2].uuid or ""), **alone, partitions=[gone]), "it begins anew"
    assert plan(asleep("1" * 8), disk={"serial": cases.SERIAL}), "nothing of it is touched that stays"


LAYOUTS: dict[str, dict[str, Any]] = {
    "btrfs": {"filesystem": "btrfs"},
    "md": {"filesystem": "ext4", "swap": {"kind": "partition", "size": "4GiB"}},
    "md, LUKS, LVM": {"filesystem": "xfs", "volumes": "lvm", "encryption": cases.ENCRYPTED},
    "zfs": {"filesystem": "zfs"},
}


@pytest.mark.parametrize("firmware", [FirmwareKind.uefi64, FirmwareKind.bios])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_mirror_goes_beside_what_is_on_both_disks(name: str, firmware: FirmwareKind) -> None:
    systems = WINDOWS if firmware is FirmwareKind.uefi64 else ()
    facts = machine(disk("nvme0n1", KEPT, FIRST), second(), firmware=firmware, systems=systems)
    made = plan(facts, **both(**LAYOUTS[name]))
    changes = {a.disk: a for step in made.steps for a in step.actions if isinstance(a, ChangePartitionTable)}
    assert changes.keys() == {"main-1", "main-2"}
    assert {key: each.kept for key, each in changes.items()} == {"main-1": (1, 3, 7), "main-2": (2,)}
    assert not any(isinstance(a, WritePartitionTable) for step in made.steps for a in step.actions)
    roots = [each.add[-1].size for each in changes.values()]
    assert roots[0] == roots[1], "md and ZFS take the smallest, and so the partitions are alike"
    for picture, there in zip(made.pictures, facts.disks, strict=True):
        end = MIB
        for region in sorted(picture.after, key=lambda each: each.start):
            assert region.start >= end - MIB
            end = region.start + region.size
        before = {each.number: (each.start, each.size) for each in there.partitions}
        after = {each.number or 0: (each.start, each.size) for each in picture.after}
        assert before.items() <= {*after.items()}
    kept = {
        check.disk: check.numbers
        for step in made.steps
        for check in step.checks
        if isinstance(check, EntriesKept)
    }
    assert kept == {"main-1": (1, 3, 7), "main-2": (2,)}
    assert [len(each.kept) for each in made.destroyed] == [3, 1]
    assert all("nothing" in each.losses[0] for each in made.destroyed)
    assert len(made.host.mirrors) == 1
    every_header_first(made)


def every_header_first(made: Plan) -> None:
    """All tables and headers are saved before anything is written to any disk."""
    saves = [
        place
        for place, step in enumerate(made.steps)
        if any(isinstance(a, SaveHeaders) for a in step.actions)
    ]
    writes = [place for place, step in enumerate(made.steps) if step.writes]
    assert len(saves) == len(made.disks)
    assert max(saves) < min(writes)


def test_each_disk_of_a_mirror_starts_the_host_from_a_partition_of_its_own() -> None:
    made = plan(machine(disk("nvme0n1", KEPT, FIRST), second()), **both(filesystem="btrfs"))
    boots = [each for each in made.host.filesystems if each.kind == "vfat"]
    assert [each.mountpoint for each in boots] == ["/boot", "/boot2"]
    assert all("A1B2-C3D4" not in each.device for each in boots), (
        "not another system's, which only the first disk has"
    )


def test_a_blank_disk_beside_one_with_something_on_it() -> None:
    made = plan(machine(disk("nvme0n1", KEPT, FIRST), second(())), **both(filesystem="btrfs"))
    assert [each.kept != () for each in made.destroyed] == [True, False]
    assert any("more free space" in each for each in made.warnings) is False
    assert any("is larger than the smallest" in each for each in made.warnings)
    kinds = {type(a) for step in made.steps for a in step.actions}
    assert {ChangePartitionTable, WritePartitionTable} <= kinds
    every_header_first(made)


def test_single_partitions_of_both_disks_are_decided_about() -> None:
    facts = machine(disk("nvme0n1", KEPT, FIRST), second())
    fates = [
        {"disk": {"serial": "SECOND"}, "number": 2, "action": "format", "mount": "/srv/two"},
        {"label": "data", "mount": "/srv/one"},
    ]
    made = plan(facts, **both(filesystem="btrfs", partitions=fates))
    places = {each.mountpoint: each for each in made.host.filesystems}
    assert places["/srv/one"].device == f"/dev/disk/by-uuid/{'d' * 8}"
    assert places["/srv/two"].kind == "ext4"
    assert "formatted" in made.destroyed[1].losses[0]
    gone = plan(
        facts, **both(filesystem="btrfs", partitions=[{"uuid": OTHER[0].identity, "action": "delete"}])
    )
    assert gone.destroyed[1].kept == ()
    assert "more free space" in " ".join(gone.warnings)


def test_a_pool_of_its_own_beside_a_kept_disk_is_emptied_only_once_all_headers_are_saved() -> None:
    facts = machine(disk("nvme0n1", KEPT, FIRST), second())
    made = plan(facts, existing="keep", pool={"disk": {"serial": "SECOND"}})
    every_header_first(made)
    assert made.destroyed[1].kept == ()


@pytest.mark.parametrize("existing", ["erase", "keep"])
def test_a_partition_of_a_disk_with_an_mbr_is_mounted_and_nothing_else(existing: str) -> None:
    facts = machine(disk("nvme0n1", KEPT, FIRST), old_disk())
    made = plan(facts, existing=existing, partitions=[mounted(), mounted(5, "/srv/more")])
    assert [each.key for each in made.disks] == ["main"]
    media, more = (each for each in made.host.filesystems if each.mountpoint.startswith("/srv"))
    assert (media.device, media.kind) == (f"/dev/disk/by-uuid/{MEDIA}", "ext4")
    assert more.device == f"/dev/disk/by-uuid/{LOGICAL}"
    assert "nofail" in media.options
    words = [a for step in made.steps for a in (*step.actions, *step.undo) if isinstance(a, Run)]
    assert not any("OLD" in word for run in words for word in run.argv), "no program is given the disk"
    looked = [
        c.device
        for step in made.steps
        for c in step.checks
        if isinstance(c, SignatureIs) and "OLD" in c.device
    ]
    assert looked == ["/dev/disk/by-id/ata-OLD-part2", "/dev/disk/by-id/ata-OLD-part5"]
    order = [step.id for step in made.steps]
    first = min(place for place, step in enumerate(made.steps) if step.writes)
    assert max(order.index("find-data-1"), order.index("find-data-2")) < first, (
        "looked at before anything is written"
    )
    assert "hold-srv-media" in order
    assert "mount-srv-media" not in order
    assert "no byte of it changes" in describe(made)


def test_what_the_host_puts_its_images_on_is_mounted_while_it_is_installed() -> None:
    facts = machine(disk("nvme0n1", KEPT, FIRST), old_disk())
    pool = cases.answers().first_run.pool
    made = plan(facts, partitions=[mounted(mount=pool)])
    (mount,) = (
        c for step in made.steps for c in step.checks if isinstance(c, MountedAt) and c.target.endswith(pool)
    )
    assert mount.uuid == MEDIA
    inner = plan(facts, partitions=[mounted(), mounted(5, "/srv/media/more")])
    order = [step.id for step in inner.steps]
    assert order.index("mount-srv-media") < order.index(
        next(each for each in order if each.startswith("hold-srv-media-more"))
    )


def test_a_rescue_goes_on_without_a_data_disk_that_is_not_there() -> None:
    made = plan(
        machine(disk("nvme0n1", KEPT, FIRST), old_disk()),
        partitions=[mounted(mount=cases.answers().first_run.pool)],
    )
    steps = {step.id: dispensable(made, step) for step in up_steps(made)}
    assert steps == {
        "mount-root": None,
        "mount-boot": None,
        "mount-var-lib-libvirt-images": "/dev/disk/by-id/ata-OLD-part2",
    }


def test_a_file_system_on_a_whole_disk_is_mounted() -> None:
    whole = old_disk(table=None, partitions=(), filesystem=Filesystem(kind="btrfs", uuid=MEDIA))
    made = plan(
        machine(disk("nvme0n1", (), FIRST), whole), partitions=[{"disk": {"serial": "OLD"}, "mount": "/srv"}]
    )
    assert any(
        c.device == "/dev/disk/by-id/ata-OLD"
        for s in made.steps
        for c in s.checks
        if isinstance(c, SignatureIs)
    )
    assert "serial OLD" in made.mounted[0]


TWIN = old_disk(name="sdd", serial="TWIN", by_id=("ata-TWIN",))
REFUSED: dict[str, tuple[tuple[Disk, ...], dict[str, Any], Exit, str]] = {
    "ntfs": ((old_disk(),), {"partitions": [mounted(1)]}, Exit.unsuitable, "holds ntfs"),
    "an extended one": ((old_disk(),), {"partitions": [mounted(3)]}, Exit.unsuitable, "nothing known"),
    "none such": ((old_disk(),), {"partitions": [mounted(9)]}, Exit.selection, "matches no partition"),
    "no such disk": (
        (old_disk(),),
        {"partitions": [mounted() | {"disk": {"serial": "X"}}]},
        Exit.selection,
        "storage.partitions[0].disk matches no disk",
    ),
    "which one": (
        (old_disk(),),
        {"partitions": [{"disk": {"serial": "OLD"}, "mount": "/srv"}]},
        Exit.selection,
        "matches 4 partitions",
    ),
    "twice": (
        (old_disk(),),
        {"partitions": [mounted(), mounted(mount="/srv/b", uuid="b1946ac9-02")]},
        Exit.selection,
        "two entries",
    ),
    "a copy": (
        (old_disk(), TWIN),
        {"partitions": [mounted()]},
        Exit.unsuitable,
        "cannot be told from a copy",
    ),
    "emptied": (
        (old_disk(),),
        {"partitions": [{"disk": {"serial": cases.SERIAL}, "number": 7, "mount": "/srv"}]},
        Exit.selection,
        "the disk is emptied",
    ),
    "the pool's": (
        (old_disk(),),
        {"partitions": [mounted()], "pool": {"disk": {"serial": "OLD"}}},
        Exit.selection,
        "the disk is emptied",
    ),
    "formatted on another": (
        (old_disk(),),
        {"existing": "keep", "partitions": [mounted(action="format")]},
        Exit.selection,
        "not one of the system's",
    ),
    "where the pool is": (
        (old_disk(), second(())),
        {"partitions": [mounted(mount="/var/lib/libvirt/images")], "pool": {"disk": {"serial": "SECOND"}}},
        Exit.answers,
        "two file systems",
    ),
    "an MBR beside the host": (
        (),
        {"existing": "keep", "disk": {"serial": "OLD"}},
        Exit.unsuitable,
        "mounted as they are",
    ),
    "both blank": ((second(()),), both() | {"filesystem": "btrfs"}, Exit.unsuitable, "are blank"),
    "no room on one": (
        (second((replace(OTHER[0], start=MIB, size=395 * GIB),)),),
        both() | {"filesystem": "btrfs"},
        Exit.unsuitable,
        "in one piece",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name: str) -> None:
    more, storage, code, words = REFUSED[name]
    first = disk("nvme0n1", () if name == "both blank" else KEPT, FIRST)
    disks = (old_disk(),) if name == "an MBR beside the host" else (first, *more)
    with pytest.raises(HyperError) as refused:
        plan(machine(*disks, systems=()), **storage)
    assert refused.value.code is code
    assert words in " ".join(f"{refused.value.what} {refused.value.why} {refused.value.remedy}".split())


def test_bios_refuses_another_system_on_either_disk() -> None:
    there = (InstalledSystem(name="Debian", disk="sdb", partition="sdb2", evidence="os-release"),)
    facts = machine(disk("nvme0n1", KEPT, FIRST), second(), firmware=FirmwareKind.bios, systems=there)
    with pytest.raises(HyperError, match="cannot be shared with Debian"):
        plan(facts, **both(filesystem="btrfs"))


WRONG = [
    ('existing = "keep"\nlayout = "auto"', "storage.layout"),
    ('layout = "mirror"\nexisting = "keep"\nesp = "share"', "storage.esp"),
    (
        'layout = "mirror"\nexisting = "keep"\npartitions = [{ number = 3, action = "format", mount = "/" }]',
        "partitions[0].mount",
    ),
    (
        'partitions = [{ disk = { serial = "Y" }, number = 3, action = "delete" }]',
        "storage.partitions[0].action",
    ),
    ('partitions = [{ disk = { serial = "Y" }, number = 3 }]', "storage.partitions[0].mount"),
    ('partitions = [{ disk = {}, number = 3, mount = "/srv" }]', "storage.partitions[0].disk"),
    (
        'partitions = [{ disk = { model = "Y", count = 2 }, number = 3, mount = "/srv" }]',
        "partitions[0].disk.count",
    ),
    ('partitions = [{ number = 3, mount = "/srv" }]', "storage.partitions[0]"),
    (
        'filesystem = "btrfs"\npartitions = [{ disk = { serial = "Y" }, number = 3, mount = "/home" }]',
        "partitions[0].mount",
    ),
]


@pytest.mark.parametrize(("storage", "field"), WRONG)
def test_wrong_answers_name_the_field(storage: str, field: str) -> None:
    disks = (
        'disks = [{ serial = "X" }, { serial = "Z" }]'
        if '"mirror"' in storage
        else 'disk = { serial = "X" }'
    )
    text = f"""
version = 1
hostname = "hv1"
[storage]
{disks}
{storage}
[[users]]
name = "anna"
admin = true
ssh_keys = ["{cases.KEY}"]
"""
    with pytest.raises(AnswersError) as wrong:
        load(text.encode(), "a.toml")
    assert field in str(wrong.value)


def test_a_host_is_reinstalled_with_its_data_disk() -> None:
    """Also what it had mounted from its own disk: its place in the table does not change."""
    from tests.test_keep_plan import installed

    blank = machine(disk("nvme0n1", (), FIRST), old_disk(), systems=())
    first = plan(blank, partitions=[mounted()])
    (there,) = installed(first, machine(disk("nvme0n1", (), FIRST), systems=())).disks
    again = plan(machine(there, old_disk(), systems=()), existing="reinstall", partitions=[mounted()])
    assert again.host == first.host
    root = next(each for each in there.partitions if each.label == "hv1-root")
    with pytest.raises(HyperError, match="not mounted a second time"):
        plan(
            machine(there, old_disk(), systems=()),
            existing="reinstall",
            partitions=[{"number": root.number, "mount": "/srv/again"}],
        )


def after(made: Plan, facts: Facts) -> Facts:
    """The machine after a plan that changes its tables, as the probe would find it."""
    known: dict[str, tuple[str, str]] = {}
    for check in (check for step in made.steps for check in step.checks):
        match check:
            case SignatureIs():
                known[check.device] = (check.type, check.uuid)
            case ArrayMembersAre():
                known |= dict.fromkeys(check.devices, ("linux_raid_member", check.uuid))
            case DevicesOf():
                known |= dict.fromkeys(check.devices, ("btrfs", check.uuid))
    changes = {a.disk: a for step in made.steps for a in step.actions if isinstance(a, ChangePartitionTable)}
    disks = []
    for there, identity in zip(facts.disks, made.disks, strict=True):
        ours = []
        for spec in changes[identity.key].add:
            kind, uuid = known.get(identity.partition(spec.number), (None, None))
            entry = Entry(
                spec.number, spec.start, spec.size, spec.type_uuid, name=spec.label, kind=kind, uuid=uuid
            )
            ours.append(entry.partition(there.name))
        partitions = sorted((*there.partitions, *ours), key=lambda each: each.number)
        disks.append(there.model_copy(update={"partitions": tuple(partitions)}))
    return facts.model_copy(update={"disks": tuple(disks)})


@pytest.mark.parametrize("name", ["btrfs", "md", "md, LUKS, LVM"])
def test_a_mirror_beside_what_stays_is_reinstalled(name: str) -> None:
    """Nothing of either table changes, what stays is checked and told, and data of it can be mounted again."""
    facts = machine(disk("nvme0n1", KEPT, FIRST), second())
    fates = [{"label": "data", "mount": "/srv/one"}]
    first = plan(facts, **both(**LAYOUTS[name], partitions=fates))
    again = plan(after(first, facts), **both(**LAYOUTS[name], existing="reinstall", partitions=fates))
    assert {each.mountpoint for each in again.host.filesystems} == {
        each.mountpoint for each in first.host.filesystems
    }
    assert again.host.luks == first.host.luks
    destructive = [type(a) for step in again.steps for a in step.actions if is_destructive(a)]
    assert destructive == [ClearTarget]
    checked = {
        c.disk: {each.number for each in c.partitions}
        for s in again.steps
        for c in s.checks
        if isinstance(c, PartitionTableIs)
    }
    assert {1, 3, 7} < checked["main-1"]
    assert {2} < checked["main-2"]
    regions = {each.number: each.content for each in again.pictures[1].after}
    assert regions[2].startswith("kept: ")


def test_a_host_that_hibernates_beside_another_system_is_told_what_that_must_not_do() -> None:
    facts = machine(disk("nvme0n1", KEPT, FIRST))
    swap = {"kind": "partition", "hibernate": True}
    words = "While this host hibernates"
    made = plan(facts, existing="keep", swap=swap, partitions=[{"label": "data", "mount": "/srv/data"}])
    assert any(words in each for each in made.warnings)
    alone = plan(
        facts, existing="keep", swap={"kind": "zram"}, partitions=[{"label": "data", "mount": "/srv/data"}]
    )
    assert not any(words in each for each in alone.warnings)


def test_a_data_disk_that_is_failing_is_told() -> None:
    failing = old_disk(health=Health(summary="worn out", failing=True))
    made = plan(machine(disk("nvme0n1", KEPT, FIRST), failing), partitions=[mounted()])
    assert any("reports that it is failing: worn out" in each for each in made.warnings)


def test_an_export_says_what_is_there_already() -> None:
    facts = machine(disk("nvme0n1", (), FIRST), old_disk())
    answers = cases.answers(storage=cases.storage(partitions=[mounted()]))
    exported = disko(make_layout(facts, answers, cases.medium()), "hv1")
    assert [each for each in exported.left if "already" in each] == [
        "the ext4 at /srv/media, which is there already"
    ]
    assert "OLD" not in exported.text


def test_the_system_must_fit_where_the_root_is_and_not_where_something_stays() -> None:
    large = (replace(KEPT[1], size=450 * GIB),)
    made = plan(machine(disk("nvme0n1", large, FIRST), old_disk()), existing="keep", partitions=[mounted()])
    assert root_room(made) < 50 * GIB
    pool = plan(
        machine(disk("nvme0n1", (), FIRST), second((), size=4000 * GIB)), pool={"disk": {"serial": "SECOND"}}
    )
    assert root_room(pool) < FIRST
    assert (
        root_room(plan(machine(disk("nvme0n1", KEPT, FIRST), second()), **both(**LAYOUTS["md, LUKS, LVM"])))
        > GIB
    )


def test_the_plan_says_it_in_json() -> None:
    made = plan(machine(disk("nvme0n1", KEPT, FIRST), old_disk()), partitions=[mounted()])
    assert json.loads(made.model_dump_json())["mounted"] == list(made.mounted)
    assert "mounted" not in json.loads(plan(machine(disk("nvme0n1", KEPT, FIRST))).model_dump_json())


SELECT = """host: {
  places = builtins.mapAttrs (_: each: [ each.device each.fsType each.options ]) host.config.fileSystems;
  toplevel = builtins.unsafeDiscardStringContext host.config.system.build.toplevel.drvPath;
}"""


@pytest.mark.nixpkgs
@pytest.mark.parametrize("name", ["btrfs", "md, LUKS, LVM", "zfs"])
def test_a_host_beside_what_stays_on_two_disks_evaluates(name: str, tmp_path: Path) -> None:
    facts = machine(disk("nvme0n1", KEPT, FIRST), second(), old_disk())
    fates = [{"label": "data", "mount": "/srv/one"}, mounted(), mounted(5, "/srv/more")]
    storage = cases.storage(**both(**LAYOUTS[name], partitions=fates))
    answers = cases.answers(storage=storage)
    made = make_plan(facts, answers, MEDIUM)
    files = render(facts, answers, made, MEDIUM, load_templates()).files
    found = evaluate_flake_host(hosts.write(files, tmp_path), answers.hostname, SELECT)
    assert (found.failed_assertions, found.warnings) == ((), ())
    assert found.value["toplevel"].endswith(".drv")
    places = found.value["places"]
    assert {"/boot", "/boot2"} <= places.keys()
    assert places["/srv/one"][0] == f"/dev/disk/by-uuid/{'d' * 8}"
    assert places["/srv/media"][:2] == [f"/dev/disk/by-uuid/{MEDIA}", "ext4"]
    assert "nofail" in places["/srv/more"][2]
