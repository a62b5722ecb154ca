"""Disks: which one is it, is it free, and what is on it; on loop devices."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, Timer

import pytest

from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.execute.btrfs import check_subvolumes
from installer.execute.devices import claim_problem, gone, kernel_name, settle, wait_for
from installer.execute.evidence import Wrong
from installer.execute.headers import check_saved, save_headers
from installer.execute.identity import OwnUse, check_identity, check_places, disks_below
from installer.execute.log import Log, Redactor
from installer.execute.mounts import check_mounted, check_not_mounted, users_of
from installer.execute.partition_table import check_table, read_table, write_table
from installer.execute.runner import Runner
from installer.execute.signatures import check_none, check_signature, probe_signature
from installer.execute.stale import erased, kept_pieces
from installer.plan.actions import PartitionSpec, Run
from installer.plan.checks import MountedAt
from installer.plan.model import DiskIdentity, Step
from tests.execute.rig import LoopDisk, Rig, rig, run
from tests.namespaces import outside

pytestmark = pytest.mark.root

UUID = "7b9b0c86-0b0a-5a0e-9d0e-1f0b3b7c9a11"
TABLE = (
    PartitionSpec(
        number=1, label="hv-esp", type_uuid="c12a7328-f81f-11d2-ba4b-00a0c93ec93b", start=MIB, size=64 * MIB
    ),
    PartitionSpec(
        number=2,
        label="hv-boot code ü",
        type_uuid="21686148-6449-6e6f-744e-656564454649",
        start=65 * MIB,
        size=MIB,
    ),
    PartitionSpec(
        number=3,
        label="hv-root",
        type_uuid="ca7d7ccb-63ed-4c53-861c-1742536059cc",
        start=66 * MIB,
        size=GIB - 68 * MIB,
    ),
)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as one:
        yield one


@pytest.fixture
def runner(made: Rig) -> Runner:
    return Runner(Log(made.live.log, Redactor()), made.live.search_path)


def identity(disk: LoopDisk) -> DiskIdentity:
    return DiskIdentity(
        key="main",
        wwn=None,
        serial=disk.serial,
        by_id=disk.by_id,
        model="loop",
        size=disk.file.stat().st_size,
        logical_sector=512,
    )


def step(disk: DiskIdentity, *devices: str) -> Step:
    actions = tuple(Run(argv=("wipefs", "--all", device)) for device in devices or (disk.device,))
    return Step(id="wipe-main", summary="Wipe", writes=("main",), actions=actions, checks=())


NOBODY = OwnUse(frozenset())


def write(made: Rig, runner: Runner, disk: DiskIdentity, partitions: tuple[PartitionSpec, ...]) -> None:
    """Write a table, and let go of its partitions."""
    with ExitStack() as held:
        write_table(made.live, runner, disk, partitions, held)


def test_table_is_written_and_read_back(made: Rig, runner: Runner) -> None:
    disk = identity(made.add_disk(GIB))
    write(made, runner, disk, TABLE)
    assert tuple(read_table(runner, str(Path(disk.device).resolve()))) == TABLE
    assert len(check_table(made.live, runner, disk, TABLE)) == 3
    wrong = (*TABLE[:2], TABLE[2].model_copy(update={"label": "other"}))
    with pytest.raises(Wrong, match="hv-root"):
        check_table(made.live, runner, disk, wrong)
    write(made, runner, disk, TABLE[:1])
    assert len(check_table(made.live, runner, disk, TABLE[:1])) == 1


def test_what_an_older_table_left_is_gone_before_anybody_is_told(made: Rig, runner: Runner) -> None:
    """A real superblock at either end of the new root; in a real machine udev would begin an array with it."""
    loop = made.add_disk(GIB)
    disk, root = identity(loop), TABLE[2]
    path = Path(disk.device)
    marks = (root.start + 4096, root.start + root.size - 8192)
    with path.open("r+b", buffering=0) as device:
        for place in marks:
            os.pwrite(device.fileno(), b"\xfc\x4e\x2b\xa9" + bytes(range(252)), place)
        os.fsync(device.fileno())
    write(made, runner, disk, TABLE)
    with path.open("rb", buffering=0) as device:
        assert [os.pread(device.fileno(), 256, place) for place in marks] == [bytes(256)] * 2
    kept = {piece.place: piece.content for piece in kept_pieces(erased(made.live, disk))}
    assert {*kept} == {root.start, root.start + root.size - MIB}
    assert kept[root.start][4096:4100] == b"\xfc\x4e\x2b\xa9"


def test_new_partitions_stay_while_they_are_held(made: Rig, runner: Runner) -> None:
    """udev has the kernel read the table once more, later; here partx does what that does to partitions."""
    disk = identity(made.add_disk(GIB))
    path = str(Path(disk.device).resolve())
    with ExitStack() as held:
        write_table(made.live, runner, disk, TABLE, held)
        assert runner.run(["partx", "--delete", path], check=False).status != 0
        assert len(check_table(made.live, runner, disk, TABLE)) == 3
    assert runner.run(["partx", "--delete", path], check=False).status == 0
    with pytest.raises(Wrong):
        check_table(made.live, runner, disk, TABLE)


def test_a_link_that_still_leads_to_another_disk_is_waited_for(made: Rig, runner: Runner) -> None:
    disk, other = identity(made.add_disk(GIB)), identity(made.add_disk(GIB))
    write(made, runner, disk, TABLE)
    path = str(Path(disk.device).resolve())
    wait_for((disk.partition(1),), "it is there", disk=path)
    with pytest.raises(HyperError, match="did not appear"):
        wait_for((disk.partition(1),), "it is there", 0.2, disk=str(Path(other.device).resolve()))


def test_a_link_that_comes_and_goes_is_never_named_by_itself(made: Rig, tmp_path: Path) -> None:
    disk = made.add_disk(64 * MIB)
    link, over = tmp_path / "11111111-2222-4333-8444-555555555555", Event()

    def flicker() -> None:
        while not over.is_set():
            link.symlink_to(disk.device)
            link.unlink()

    thread = Thread(target=flicker)
    thread.start()
    try:
        found = {kernel_name(str(link)) for _ in range(20_000)}
    finally:
        over.set()
        thread.join()
    assert found == {None, Path(disk.device).name}


def test_table_that_does_not_fit_is_an_error(made: Rig, runner: Runner) -> None:
    loop = made.add_disk(512 * MIB)
    with Path(loop.device).open("r+b") as device:
        device.seek(TABLE[0].start)
        device.write(b"what an older table left")
    before = loop.digest()
    with pytest.raises(HyperError) as caught:
        write(made, runner, identity(loop), TABLE)
    assert caught.value.code is Exit.step
    assert loop.digest() == before


def test_free_disk_is_the_planned_one(made: Rig) -> None:
    disk = identity(made.add_disk(64 * MIB))
    (evidence,) = check_identity(made.live, disk, step(disk), NOBODY)
    assert disk.serial is not None
    assert str(disk.serial) in evidence


def test_link_that_leads_elsewhere_is_refused(made: Rig) -> None:
    """udev's name now belongs to another disk than when it was planned."""
    planned, other = made.add_disk(64 * MIB), made.add_disk(64 * MIB)
    disk, before = identity(planned), other.digest()
    planned.link.unlink()
    planned.link.symlink_to(other.device)
    with pytest.raises(HyperError, match="not touched") as caught:
        check_identity(made.live, disk, step(disk), NOBODY)
    assert caught.value.code is Exit.busy
    assert str(other.serial) in caught.value.why
    assert other.digest() == before


def test_partition_of_another_disk_is_refused(made: Rig, runner: Runner) -> None:
    """Two disks with one name: the link to the disk leads to the one, the link to its partition to the other."""
    disk, other = identity(made.add_disk(GIB)), identity(made.add_disk(GIB))
    for each in (disk, other):
        write(made, runner, each, TABLE)
    formatting = step(disk, disk.partition(3))
    (evidence,) = check_places(made.live, (disk,), formatting)
    assert f"on {Path(disk.device).resolve().name}" in evidence
    link = Path(disk.partition(3))
    right = link.readlink()
    link.unlink()
    link.symlink_to(Path(other.partition(3)).resolve())
    try:
        with pytest.raises(HyperError, match="not touched") as caught:
            check_places(made.live, (disk,), formatting)
        assert caught.value.code is Exit.busy
        assert f"lies on {Path(other.device).resolve().name}" in caught.value.why
        both = check_places(made.live, (disk, other), formatting)
        assert len(both) == 1
    finally:
        link.unlink()
        link.symlink_to(right)


def test_devices_are_followed_down_to_disks(made: Rig) -> None:
    """A volume on an array on partitions, and a multipath device that is itself the disk: sysfs as the kernel has it."""
    block = made.folder / "sysfs/class/block"
    for name, slaves in (("dm-1", ("md127",)), ("md127", ("sda1", "sdb1")), ("dm-0", ("sdc", "sdd"))):
        for slave in slaves:
            (block / name / "slaves" / slave).mkdir(parents=True)
    for disk in ("sda", "sdb", "sdc", "sdd"):
        (made.folder / f"sysfs/devices/{disk}/{disk}1").mkdir(parents=True)
        (made.folder / f"sysfs/devices/{disk}/{disk}1/partition").write_text("1")
        for name in (disk, f"{disk}1"):
            place = f"devices/{disk}" if name == disk else f"devices/{disk}/{name}"
            (block / name).symlink_to(made.folder / "sysfs" / place)
    live = replace(made.live, sysfs=made.folder / "sysfs")
    assert list(disks_below(live, "dm-1", frozenset())) == ["sda", "sdb"]
    assert list(disks_below(live, "dm-0", frozenset({"dm-0"}))) == ["dm-0"]
    assert list(disks_below(live, "dm-0", frozenset())) == ["sdc", "sdd"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"serial": "ANOTHER"}, "serial ANOTHER was planned"),
        ({"wwn": "0x5000c500a1b2c3d4"}, "WWN 0x5000c500a1b2c3d4 was planned, none"),
        ({"size": 65 * MIB}, f"{65 * MIB} bytes were planned"),
        ({"by_id": "virtio-not-there"}, "not there any more"),
    ],
)
def test_other_identity_is_refused(made: Rig, changes: dict[str, object], words: str) -> None:
    disk = identity(made.add_disk(64 * MIB)).model_copy(update=changes)
    with pytest.raises(HyperError) as caught:
        check_identity(made.live, disk, step(disk), NOBODY)
    assert caught.value.code is Exit.busy
    assert words in caught.value.why


def test_read_only_disk_is_refused(made: Rig) -> None:
    loop = made.add_disk(64 * MIB)
    run("blockdev", "--setro", loop.device)
    try:
        with pytest.raises(HyperError, match="not touched") as caught:
            check_identity(made.live, identity(loop), step(identity(loop)), NOBODY)
    finally:
        run("blockdev", "--setrw", loop.device)
    assert "cannot be written" in caught.value.why


def test_mounted_disk_is_refused_but_for_own_mounts(made: Rig, runner: Runner, tmp_path: Path) -> None:
    disk = identity(made.add_disk(GIB))
    write(made, runner, disk, TABLE)
    run("mkfs.ext4", "-q", "-U", UUID, disk.partition(3))
    place = tmp_path / "mounted here"
    place.mkdir()
    run("mount", disk.partition(3), place)
    try:
        with pytest.raises(HyperError) as caught:
            check_identity(made.live, disk, step(disk), NOBODY)
        assert str(place) in caught.value.why
        mounting = Step(
            id="mount", summary="Mount", actions=(), checks=(MountedAt(target=str(place), uuid=UUID),)
        )
        own = OwnUse.of((mounting,))
        assert check_identity(made.live, disk, step(disk, disk.partition(1)), own)
        # Its own mount or not: the partition that is mounted cannot be formatted.
        with pytest.raises(HyperError, match="not touched"):
            check_identity(made.live, disk, step(disk, disk.partition(3)), own)
    finally:
        run("umount", place)
    assert check_identity(made.live, disk, step(disk), NOBODY)


def test_mounts_of_tests_are_not_copied_by_those_beside_them(made: Rig, tmp_path: Path) -> None:
    """A copy in another worker's namespace would claim the disk when it is unmounted here."""
    loop = made.add_disk(64 * MIB)
    run("mkfs.ext4", "-q", loop.device)
    place = tmp_path / "here"
    place.mkdir()
    run("mount", loop.device, place)
    try:
        argv = ("nsenter", f"--mount={outside()}", "unshare", "--mount", "sh", "-c", "echo made; cat")
        other = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert other.stdout is not None
        assert other.stdout.readline() == b"made\n"
    finally:
        run("umount", place)
    problem = claim_problem(loop.device)
    other.communicate()
    assert problem is None


def test_use_that_only_the_kernel_sees_is_refused(made: Rig, tmp_path: Path) -> None:
    """Mounted in another mount namespace, so that no table here shows it."""
    from tests.execute.rig import namespace

    loop = made.add_disk(64 * MIB)
    run("mkfs.ext4", "-q", loop.device)
    (tmp_path / "far").mkdir()
    with namespace() as space:
        space.run("mount", loop.device, str(tmp_path / "far"))
        assert users_of(made.live, Path(loop.device).name) == ()
        with pytest.raises(HyperError, match="not touched") as caught:
            check_identity(made.live, identity(loop), step(identity(loop)), NOBODY)
        assert "does not give" in caught.value.why


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_file_systems_are_made_mounted_and_read_back(
    made: Rig, runner: Runner, tmp_path: Path, kind: str
) -> None:
    disk = identity(made.add_disk(GIB))
    write(made, runner, disk, TABLE)
    device = disk.partition(3)
    assert check_none(runner, device)
    make = {
        "ext4": ("mkfs.ext4", "-q", "-F", "-U", UUID, "-L", "my root", device),
        "xfs": ("mkfs.xfs", "-q", "-f", "-m", f"uuid={UUID}", "-L", "my root", device),
        "btrfs": ("mkfs.btrfs", "-q", "-f", "-U", UUID, "-L", "my root", device),
    }[kind]
    run(*make)
    assert "my root" in check_signature(runner, device, kind, UUID, "my root")[0]
    with pytest.raises(Wrong, match="other"):
        check_signature(runner, device, kind, UUID, "other")
    with pytest.raises(Wrong):
        check_none(runner, device)
    place = tmp_path / "it"
    place.mkdir()
    run("mount", "-o", "noatime", device, place)
    try:
        signature = probe_signature(runner, device)
        assert signature
        assert check_mounted(made.live, str(place), ("noatime",), UUID, signature.uuid)
        with pytest.raises(Wrong, match="without nodev"):
            check_mounted(made.live, str(place), ("noatime", "nodev"), UUID, signature.uuid)
        with pytest.raises(Wrong, match="mounted"):
            check_not_mounted(made.live, str(place), ())
        if kind == "btrfs":
            run("btrfs", "subvolume", "create", place / "@one")
            assert check_subvolumes(made.live, runner, UUID, ("@one",))
            with pytest.raises(Wrong, match="@two"):
                check_subvolumes(made.live, runner, UUID, ("@one", "@two"))
    finally:
        run("umount", place)
    assert check_not_mounted(made.live, str(place), ())
    if kind == "btrfs":
        settle(runner)
        assert check_subvolumes(made.live, runner, UUID, ("@one",))
        assert check_not_mounted(made.live, str(made.live.runtime), ())


def test_udev_that_is_never_done_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "udevadm").write_text(
        "#!/bin/sh\necho 'Timed out for waiting the udev queue being empty.' >&2\nexit 1\n"
    )
    (tmp_path / "udevadm").chmod(0o755)
    settle(Runner(Log(tmp_path / "log", Redactor()), f"{tmp_path}:/usr/bin:/bin"))
    assert "Timed out" in (tmp_path / "log").read_text()


def test_missing_device_is_not_called_blank(runner: Runner) -> None:
    with pytest.raises(OSError, match="not-there"):
        check_none(runner, "/dev/disk/by-id/not-there")


def test_headers_are_saved_and_bring_the_table_back(made: Rig, runner: Runner, tmp_path: Path) -> None:
    loop = made.add_disk(GIB)
    disk = identity(loop)
    write(made, runner, disk, TABLE)
    key = tmp_path / "key"
    key.write_text("correct horse")
    cheap = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    run("cryptsetup", "luksFormat", "-q", "--type", "luks2", *cheap, "--uuid", UUID, disk.partition(3), key)
    with pytest.raises(Wrong):
        check_saved(made.live, disk)
    save_headers(made.live, runner, disk)
    (evidence,) = check_saved(made.live, disk)
    assert "luks-" in evidence
    folder = made.live.headers / "main"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} <= {0o600, 0o400}
    run("wipefs", "--all", "--force", disk.device)
    with (folder / "partition-table.sfdisk").open() as table:
        import subprocess

        subprocess.run(["sfdisk", "--no-reread", loop.device], stdin=table, capture_output=True, check=True)
    assert tuple(read_table(runner, loop.device)) == TABLE
    assert check_signature(runner, disk.partition(3), "crypto_LUKS", UUID, None)


def test_blank_disk_has_headers_too(made: Rig, runner: Runner) -> None:
    disk = identity(made.add_disk(64 * MIB))
    save_headers(made.live, runner, disk)
    assert check_saved(made.live, disk)


def test_naa_names_are_one_spelling(made: Rig) -> None:
    """The kernel writes `naa.…`, udev `0x…` (SCSI): the same disk."""
    loop = made.add_disk(64 * MIB)
    made.describe(loop, loop.serial)
    record = next(made.live.udev.iterdir())
    record.write_text(record.read_text() + "E:ID_WWN=0x5000c500a1b2c3d4\n")
    disk = identity(loop).model_copy(update={"wwn": "naa.5000C500A1B2C3D4"})
    assert check_identity(made.live, disk, step(disk), NOBODY)


def test_udev_record_that_is_not_utf8(made: Rig) -> None:
    loop = made.add_disk(64 * MIB)
    record = next(made.live.udev.iterdir())
    record.write_bytes(b"E:ID_MODEL=\xff\xfe\n" + record.read_bytes())
    assert check_identity(replace(made.live), identity(loop), step(identity(loop)), NOBODY)


def test_a_link_that_udev_takes_away_later_is_waited_for(tmp_path: Path) -> None:
    link = tmp_path / "md-uuid-1"
    link.symlink_to("nothing any more")
    later = Timer(0.2, link.unlink)
    later.start()
    assert not gone(str(link), patience=0.0)
    assert gone(str(link))
    later.join()
