"""Properties of the layout for any disk: aligned, inside, apart, named apart; and what each element says."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.facts.disks import Disk
from installer.plan.actions import CopyFile, PartitionSpec
from installer.plan.checks import PartitionTableIs
from installer.plan.model import DiskIdentity, Plan
from installer.plan.naming import Names
from installer.plan.planner import make_plan
from installer.plan.storage.btrfs import Btrfs
from installer.plan.storage.disk import WholeDisk
from installer.plan.storage.element import Element, Layout
from installer.plan.storage.ext4 import Ext4
from installer.plan.storage.filesystem import Mount
from installer.plan.storage.gpt import Partition, PartitionType, Table
from installer.plan.storage.luks import fitted_memory
from installer.plan.storage.xfs import Xfs
from tests import plan_cases as cases
from tests.plan_goldens import ENCRYPTIONS, FILESYSTEMS, FIRMWARES

HOSTNAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


def partitions_of(plan: Plan) -> tuple[PartitionSpec, ...]:
    (check,) = (check for step in plan.steps for check in step.checks if isinstance(check, PartitionTableIs))
    return check.partitions


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(min_value=0, max_value=64 << 40),
    sector=st.sampled_from((512, 4096)),
    hostname=HOSTNAMES,
    firmware=st.sampled_from(sorted(FIRMWARES)),
    filesystem=st.sampled_from(FILESYSTEMS),
    encryption=st.sampled_from(sorted(ENCRYPTIONS)),
    swap=st.sampled_from(({"kind": "none"}, {"kind": "partition"}, {"kind": "partition", "size": "3333MB"})),
    esp=st.sampled_from(("1GiB", "2GiB", "1500MB")),
)
def test_partitions_fit_any_disk(  # noqa: PLR0917
    size: int,
    sector: int,
    hostname: str,
    firmware: str,
    filesystem: str,
    encryption: str,
    swap: Any,
    esp: str,
) -> None:
    size -= size % sector
    facts = cases.machine(cases.blank_disk(size=size, logical_sector=sector), firmware=FIRMWARES[firmware])
    storage = cases.storage(filesystem=filesystem, encryption=ENCRYPTIONS[encryption], swap=swap)
    answers = cases.answers(hostname=hostname, storage=storage, boot={"esp_size": esp})
    try:
        plan = make_plan(facts, answers, cases.medium())
    except HyperError as error:
        # Nothing of 24 GiB or more is too small for these answers: 2 + 3.4 + 2·6 + 2 GiB and a little.
        assert size < 24 * GIB
        assert error.code in (Exit.unsuitable, Exit.busy)
        return
    parts = partitions_of(plan)
    end = 0
    for number, part in enumerate(parts, start=1):
        assert part.number == number
        assert part.start % MIB == 0
        assert part.start >= max(end, MIB)
        assert part.size > 0
        assert part.size % sector == 0
        end = part.start + part.size
    assert end <= size - MIB
    assert size - end < 2 * MIB + MIB
    assert len({part.label for part in parts}) == len(parts)
    assert all(len(part.label) <= 36 for part in parts)
    assert parts[-1].number == (plan.handoff.grow.partition if plan.handoff.grow else 0)
    assert plan == make_plan(facts, answers, cases.medium())


@given(hostname=HOSTNAMES)
def test_labels_keep_within_every_limit(hostname: str) -> None:
    names = Names(hostname, (identity(),))
    for role in ("esp", "boot", "root", "swap", "luks", "grub"):
        for limit in (12, 15, 16, 36, 47, 255):
            label = names.label(role, limit)
            assert len(label) <= limit
            assert label.endswith(role)


def identity(**changes: Any) -> DiskIdentity:
    values = {"key": "main", "wwn": None, "serial": "S", "by_id": "ata-S", "model": None, "size": 64 * GIB}
    return DiskIdentity(**{**values, "logical_sector": 512, **changes})


def test_names_follow_from_identity_host_and_role_alone() -> None:
    base = Names("hv1", (identity(),))
    assert base.uuid("root") == Names("hv1", (identity(model="renamed", by_id="wwn-1"),)).uuid("root")
    others = {
        base.uuid("root"),
        base.uuid("boot"),
        Names("hv2", (identity(),)).uuid("root"),
        Names("hv1", (identity(serial="T"),)).uuid("root"),
        Names("hv1", (identity(wwn="0x5"),)).uuid("root"),
        Names("hv1", (identity(size=65 * GIB),)).uuid("root"),
    }
    assert len(others) == 6


@pytest.mark.parametrize(
    ("total", "available", "memory"),
    [
        (64 * GIB, 60 * GIB, GIB),
        (64 * GIB, GIB, GIB),
        (64 * GIB, 900 * MIB, 896 * MIB),
        (GIB, 800 * MIB, 512 * MIB),
        (GIB, 400 * MIB, 384 * MIB),
        (512 * MIB, 200 * MIB, 128 * MIB),
        (512 * MIB, 127 * MIB, 0),
        (2 * GIB, None, 512 * MIB),
        (400 * MIB, None, 0),
    ],
)
def test_argon2id_memory_is_fitted(total: int, available: int | None, memory: int) -> None:
    assert fitted_memory(total, available) == memory


def test_a_boot_disk_beyond_an_old_bios_gets_a_boot_partition() -> None:
    def mountpoints(disk: Disk) -> list[str]:
        facts = cases.machine(disk, firmware=FIRMWARES["bios"])
        plan = make_plan(facts, cases.answers(), cases.medium())
        return [each.mountpoint for each in plan.host.filesystems]

    assert mountpoints(cases.blank_disk(size=2 << 40)) == ["/"]
    assert mountpoints(cases.blank_disk(size=3 << 40)) == ["/", "/boot"]


def test_swap_nobody_sized_is_bounded() -> None:
    def swap(size: int) -> int:
        answers = cases.answers(storage=cases.storage(swap={"kind": "partition"}))
        plan = make_plan(cases.machine(cases.blank_disk(size=size)), answers, cases.medium())
        return partitions_of(plan)[1].size

    assert swap(1 << 40) == 16 * GIB
    assert swap(50 * GIB) == 5 * GIB


def test_chosen_mount_options_replace_the_usual() -> None:
    def options(**storage: Any) -> dict[str, tuple[str, ...]]:
        answers = cases.answers(storage=cases.storage(**storage))
        plan = make_plan(cases.machine(), answers, cases.medium())
        return {each.mountpoint: each.options for each in plan.host.filesystems}

    assert options(mount_options=("discard", "relatime"))["/"] == ("discard", "relatime")
    assert options(mount_options=())["/"] == ("defaults",)
    btrfs = options(filesystem="btrfs", subvolumes={"root": "/", "s": "/srv"}, mount_options=("noatime",))
    assert btrfs == {
        "/": ("subvol=/root", "noatime"),
        "/boot": ("fmask=0077", "dmask=0077"),
        "/srv": ("subvol=/s", "noatime"),
    }


def test_step_names_of_mounts_are_distinct_and_well_formed() -> None:
    places = ("/", "/root", "/srv/a-b", "/srv/a/b", "/Srv", "/srv", "/ü", "/a.b")
    names = [Mount(place, ()).step for place in places]
    assert len(set(names)) == len(names)
    assert all(name.strip("-") == name and "--" not in name and name.isascii() for name in names)


def two_disks() -> Layout:
    """What the next layouts need: two disks, and elements on both."""
    elements: list[Element] = []
    for key in ("main", "second"):
        elements += [
            WholeDisk(key=key, disk=identity(key=key, serial=key, by_id=f"ata-{key}"), old_partitions=()),
            Table(key=f"{key}-table", disk=key),
            Partition(
                key=f"{key}-root",
                table=f"{key}-table",
                number=1,
                label=key,
                type=PartitionType.linux,
                start=MIB,
                size=30 * GIB,
            ),
        ]
    elements.append(
        Ext4(key="var", on="second-root", uuid="b", label="var", mounts=(Mount("/var", ("noatime",)),))
    )
    subvolumes = (Mount("/", ("subvol=/@",)), Mount("/var/log", ("subvol=/@log",)))
    elements.append(
        Btrfs(key="root", on="main-root", uuid="a", label="r", mounts=subvolumes, subvolumes=("@", "@log"))
    )
    return Layout(tuple(elements))


def test_file_systems_of_two_disks_may_be_mounted_into_each_other() -> None:
    steps = {step.id: step for step in two_disks().steps()}
    assert steps["mount-var"].requires == ("format-var", "mount-root")
    assert steps["mount-var-log"].requires == ("format-root", "mount-var")
    assert steps["format-var"].writes == ("second",)
    assert steps["format-root"].writes == ("main",)


def test_layouts_refuse_loose_and_doubled_elements() -> None:
    loose = Xfs(key="root", on="nowhere", uuid="a", label="r", mounts=())
    with pytest.raises(ValueError, match="nowhere"):
        Layout((loose,))
    disk = WholeDisk(key="main", disk=identity(), old_partitions=())
    with pytest.raises(ValueError, match="two elements are called main"):
        Layout((disk, disk))


def test_vms_that_share_an_image_share_its_copy() -> None:
    vms = [{"name": name, "image": "medium:marker"} for name in ("a", "b")]
    vms.append({"name": "c", "image": "/root/disk.raw", "image_format": "raw", "memory": "1GB"})
    plan = make_plan(cases.machine(), cases.answers(first_run={"vms": vms}), cases.medium())
    copies = [action for step in plan.steps for action in step.actions if isinstance(action, CopyFile)]
    assert [(each.source, each.path) for each in copies] == [
        ("/payload/images/marker.qcow2", "/mnt/var/lib/hyper-nixos/images/a.qcow2"),
        ("/root/disk.raw", "/mnt/var/lib/hyper-nixos/images/c.raw"),
    ]
    assert [(vm.image, vm.memory) for vm in plan.handoff.vms] == [
        ("/var/lib/hyper-nixos/images/a.qcow2", GIB),
        ("/var/lib/hyper-nixos/images/a.qcow2", GIB),
        ("/var/lib/hyper-nixos/images/c.raw", 10**9),
    ]
