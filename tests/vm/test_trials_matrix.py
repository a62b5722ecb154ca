"""Long trials: every moment of every step, random power cuts on every layout, every fault; `make test-matrix`."""

from collections.abc import Callable

import pytest

from installer.errors import Exit
from tests.trial.cuts import CLEAR, FREE, cut_at_random
from tests.trial.disks import PULLED, SECTORS, Sector, bad_sector, pulled
from tests.trial.faults import FAULTS, SMALL, Fault
from tests.trial.kills import kill_at_every_step, new_kinds
from tests.trial.layouts import FIRST, LAYOUTS, LUKS_BTRFS, MD_LVM, OTHERS, SECOND, THIRD, Layout
from tests.trial.old import LET_GO, OLD, OPENS, UP
from tests.trial.site import Session, Site
from tests.vm.test_trials import face

pytestmark = [pytest.mark.matrix, pytest.mark.nix, pytest.mark.root]
CUTS = 5
"""Of each layout."""
BESIDE = Layout(
    "beside-group", (THIRD,), 'existing = "keep"\nfilesystem = "ext4"\nswap = { kind = "none" }\n'
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A machine for every layout."""
    return Site(tmp_path_factory.mktemp("trials"), (*LAYOUTS.values(), SMALL, BESIDE))


@pytest.mark.parametrize("layout", [LUKS_BTRFS, MD_LVM], ids=lambda layout: layout.name)
def test_killed_at_every_moment_of_every_step(
    session: Session, layout: Layout, record_property: Callable[[str, object], None]
) -> None:
    session.shell(CLEAR, measured=20)
    kills = kill_at_every_step(session, layout, every_moment=True)
    assert len(kills.reached) == kills.wanted
    record_property("proved", str(kills))


OLDER = f"""set -eu
disk=$(readlink -f /dev/disk/by-id/*{LUKS_BTRFS.disks[0]} | sort -u | head -n 1)
mdadm --create /dev/md/older --run --force --level 1 --raid-devices 1 --metadata 1.0 --assume-clean "${{disk}}3"
udevadm settle
mdadm --stop /dev/md/older
pvcreate --yes -ff "${{disk}}2"
vgcreate older "${{disk}}2"
lvcreate --yes --extents 100%FREE --name volume older
vgchange --activate n older
udevadm settle
wipefs --all --force --quiet "$disk"
blockdev --rereadpt "$disk"
udevadm settle
echo now: "$disk"*
cat /proc/mdstat"""
"""Shell: an array and a volume group in the partitions of a host, then no partitions, and nothing that can be seen."""


def test_what_an_older_table_left_is_not_brought_up(session: Session) -> None:
    """udev begins an array and a volume group as soon as there is a partition with one."""
    session.shell(CLEAR, measured=20)
    assert session.install(LUKS_BTRFS, "--fresh").finished
    session.shell(FREE, measured=20)
    left = session.shell(OLDER, measured=20)
    (line,) = (each for each in left.splitlines() if each.startswith("now: "))
    assert len(line.split()) == 2, f"there are partitions still: {left}"
    done = session.install(LUKS_BTRFS, "--fresh")
    assert done.status == Exit.ok, done.text
    assert done.finished
    found = session.shell("cat /proc/mdstat; dmsetup ls", measured=10)
    assert "older" not in found, found
    assert "active" not in found, found


PAIR = f"""set -eu
a=$(readlink -f /dev/disk/by-id/*{FIRST} | sort -u | head -n 1); b=$(readlink -f /dev/disk/by-id/*{SECOND} | sort -u | head -n 1)
"""
GROUP = "vgcreate --yes both {0} $b && lvcreate --yes --extents 100%VG --name data both"
ENCRYPTED = (
    "cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $a /run/secrets/passphrase && "
    "cryptsetup open --key-file /run/secrets/passphrase $a cryptboth"
)
STACKS = {
    "lvm": (f"pvcreate --yes $a $b && {GROUP.format('$a')}", "vgchange --activate n both"),
    "md": (
        "mdadm --create /dev/md/both --run --level 1 --raid-devices 2 --assume-clean --metadata 1.2 $a $b",
        "mdadm --stop /dev/md/both",
    ),
    "btrfs": (
        "mkfs.btrfs -q -f -m raid1 -d raid1 $a $b && mkdir -p /run/trial/both && mount $a /run/trial/both",
        "umount /run/trial/both",
    ),
    "luks": (
        f"{ENCRYPTED} && pvcreate --yes /dev/mapper/cryptboth $b && {GROUP.format('/dev/mapper/cryptboth')}",
        "",
    ),
}
"""Shell that makes a stack over both disks, and that lets go of it; nothing: a closed LUKS shows nothing of it."""


@pytest.mark.parametrize("kind", STACKS)
def test_what_reaches_another_disk_is_refused(site: Site, session: Session, kind: str) -> None:
    """In use, and at rest: only one of its disks was chosen. Not one byte of either changes."""
    session.shell(CLEAR, measured=20)
    make, let_go = STACKS[kind]
    session.shell(f"{PAIR}{make}; udevadm settle; sync", measured=20)
    try:
        for state in ("used", "rests") if let_go else ("used",):
            if state == "rests":
                session.shell(f"{let_go}; udevadm settle; sync", measured=10)
            before = {
                serial: session.running.copy(serial, f"{kind}-{state}-before") for serial in (FIRST, SECOND)
            }
            refused = session.install(LAYOUTS["plain-ext4"], "--fresh")
            assert refused.status == Exit.busy, refused.text
            assert not refused.events, "a refusal writes nothing"
            words = " ".join(refused.text.split())
            assert "reaches beyond what was chosen" in words, words
            assert f"serial {SECOND}" in words, words
            for serial in (FIRST, SECOND):
                after = session.running.copy(serial, f"{kind}-{state}-after")
                assert site.same(before[serial], after), (serial, state)
    finally:
        session.shell(f"umount /run/trial/both || true\n{CLEAR}", measured=20)


GROW_DISK = f"disk=/dev/disk/by-id/virtio-{LUKS_BTRFS.disks[0]}; key=/run/secrets/passphrase"
SMALL_LUKS = f"""set -eu
{GROW_DISK}
printf 'size=600MiB\\n' | sfdisk --quiet --label gpt "$disk"
udevadm settle
cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "$disk-part1" "$key"
head -c 64 /dev/urandom >/run/trial/left.key
cryptsetup luksAddKey -q --key-file "$key" --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "$disk-part1" /run/trial/left.key
cryptsetup open --key-file "$key" "$disk-part1" cryptgrow
mkfs.ext4 -q /dev/mapper/cryptgrow
mount /dev/mapper/cryptgrow /mnt"""
"""Shell: an opened LUKS2 volume with a mounted ext4 in a partition of 600 MiB, on a disk that has more."""
OPENED_ANEW = f"""set -eu
{GROW_DISK}
umount /mnt
cryptsetup close cryptgrow
cryptsetup open --key-file "$key" "$disk-part1" cryptgrow
mount /dev/mapper/cryptgrow /mnt"""
"""Shell: what a start does."""
GROW = """
import os, sys
from pathlib import Path
from hv.firstrun.grow_root import GrowRootJob
from hv.firstrun.world import LaterError, World
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.handoff import GrowRoot
disk, *keys = sys.argv[1:]
job = GrowRootJob(GrowRoot(disk_by_id=disk, partition=1, luks="cryptgrow", filesystem="ext4"), tuple(keys))
world = World(programs=Runner(Log(Path("/run/trial/grow.log"), Redactor()), os.environ["PATH"]), root=Path("/"))
try:
    job.run(world)
    job.verify(world)
    print("grown")
except LaterError as later:
    print(f"later: {later.what}")
"""


@pytest.mark.parametrize("key", [False, True], ids=["nobody has a key", "the installer's key is left"])
def test_an_encrypted_root_grows_without_a_passphrase(session: Session, key: bool) -> None:
    """The partition at once; the volume by the key that is left for enrolling, else when it is opened anew."""
    session.shell(CLEAR, measured=20)
    session.shell(SMALL_LUKS, measured=20)
    session.agent.write("/run/trial/grow.py", GROW)
    run = (
        "hv=$(readlink -f /live/bin/hv); PYTHONPATH=${hv%/bin/hv} python3 /run/trial/grow.py "
        f"virtio-{LUKS_BTRFS.disks[0]} {'/run/trial/left.key' if key else ''}"
    )
    said = session.shell(run, measured=20)
    if not key:
        assert "later: The LUKS volume cryptgrow takes its new size" in said, said
        session.shell(OPENED_ANEW, measured=10)
        said = session.shell(run, measured=20)
    assert said.rstrip().endswith("grown"), said
    size = int(session.shell("df --output=size --block-size=1M /mnt | tail -n 1").split()[-1])
    assert size > 5000
    session.shell(CLEAR, measured=20)


@pytest.mark.parametrize("layout", OTHERS, ids=lambda layout: layout.name)
def test_killed_at_every_moment_of_new_kinds_of_steps(
    session: Session, site: Site, layout: Layout, record_property: Callable[[str, object], None]
) -> None:
    """The other layouts: each kind of step that none of those before has."""
    assert site.facts
    before = OTHERS[: OTHERS.index(layout)]
    only = new_kinds(site.facts, layout, (LUKS_BTRFS, MD_LVM, *before))
    session.shell(CLEAR, measured=20)
    kills = kill_at_every_step(session, layout, every_moment=True, only=only)
    assert len(kills.reached) == kills.wanted
    record_property("proved", f"{kills}; killed in {', '.join(sorted(only)) or 'none'}")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(session: Session, fault: Fault) -> None:
    face(session, fault)


def test_given_up_it_comes_back_to_the_byte(session: Session, site: Site) -> None:
    """Two disks with an array, LUKS and LVM on them, killed at three stages before the first file system is made; each time
    array and group were up when it began.
    """
    session.shell(CLEAR, measured=20)
    session.shell(OLD, measured=30)
    session.shell(f"{LET_GO} || true", measured=10)
    before = {serial: session.running.copy(serial, "before") for serial in MD_LVM.disks}
    for number, step in enumerate(("wipe-partitions-main-1", "wipe-main-2", "partition-main-2")):
        assert session.shell(UP, measured=10).split()[-2:] == ["old", "old-data"]
        killed = session.install(MD_LVM, "--fresh", die={"event": (step, "done")})
        assert killed.status == -9, killed.text
        spoilt = {serial: session.running.copy(serial, f"spoilt-{number}") for serial in MD_LVM.disks}
        assert not all(site.same(before[serial], spoilt[serial]) for serial in MD_LVM.disks)
        given_up = session.hv("install", "--abort")
        assert given_up.status == Exit.ok, given_up.text
        assert "as they were before, to the byte" in " ".join(given_up.text.split())
        session.shell(f"{LET_GO} || true", measured=10)
        for serial in MD_LVM.disks:
            assert site.same(before[serial], session.running.copy(serial, f"after-{number}")), (step, serial)
        session.shell(OPENS, measured=10)
    session.shell(UP, measured=10)
    done = session.install(MD_LVM, "--fresh")
    assert done.status == Exit.ok, done.text
    assert done.finished
    assert "old" not in session.shell("cat /proc/mdstat; dmsetup ls", measured=10)


STORM = (
    "setsid sh -c 'while udevadm trigger --subsystem-match=block --action=change; do udevadm settle; sleep 2; done' "
    "</dev/null >/dev/null 2>&1 & echo $! >/run/storm.pid"
)
"""Shell: udev looks at every block device again and again, and brings up what it finds."""
CALM = "kill -- -$(cat /run/storm.pid); udevadm settle"
STORMS, RUNS = 2, 3


def test_what_udev_brings_up_again_is_stopped_again(
    session: Session, record_property: Callable[[str, object], None]
) -> None:
    """An array and a volume group on both disks; udev is never done with them while the host is installed. What comes up
    right before a write has the kernel refuse it: then the same command goes on.
    """
    ran = 0
    for number in range(STORMS):
        session.shell(CLEAR, measured=50)
        session.shell(OLD, measured=30)
        session.shell(UP, measured=10)
        session.shell(STORM)
        try:
            for run in range(RUNS):
                done = session.install(MD_LVM, *(() if run else ("--fresh",)))
                ran += 1
                if done.finished:
                    break
                assert done.status in (Exit.step, Exit.busy), done.text
        finally:
            session.shell(CALM, measured=40)
        assert done.status == Exit.ok, done.text
        assert done.finished
        assert "old" not in session.shell("cat /proc/mdstat; dmsetup ls", measured=10), number
    record_property("proved", f"{STORMS} of {STORMS} installed, with {ran} runs of the installer")


GROUP_BESIDE = f"""set -eu
disk=$(readlink -f /dev/disk/by-id/*{THIRD} | sort -u | head -n 1)
printf 'label: gpt\\nsize=600M, type=lvm\\n' | sfdisk --quiet "$disk"
udevadm settle
pvcreate --yes "${{disk}}1"
vgcreate --yes other "${{disk}}1"
lvcreate --yes --extents 100%FREE --name root other
mkfs.ext4 -q /dev/other/root
udevadm settle; sync"""
DIGEST = "vgchange --quiet --activate y other >/dev/null && sha256sum </dev/other/root"


def test_a_host_goes_beside_a_volume_group_that_is_up(session: Session) -> None:
    """udev activates it again whenever the table is changed; not one byte of it changes."""
    session.shell(CLEAR, measured=20)
    session.shell(GROUP_BESIDE, measured=20)
    before = session.shell(DIGEST, measured=10)
    done = session.install(BESIDE, "--fresh")
    assert done.status == Exit.ok, done.text
    assert done.finished
    assert session.shell(DIGEST, measured=10) == before


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A machine of its own: power cuts end it, and its disks fail."""
    made = Site(tmp_path_factory.mktemp("cuts"), (*LAYOUTS.values(), SMALL), ballast=24 << 20)
    with made.live("first"):
        pass
    return made


@pytest.mark.parametrize("sector", SECTORS, ids=lambda sector: sector.name)
def test_bad_sector(ground: Site, sector: Sector, record_property: Callable[[str, object], None]) -> None:
    record_property("proved", bad_sector(ground, sector))


@pytest.mark.parametrize("layout", PULLED, ids=lambda layout: layout.name)
def test_disk_pulled_while_installing(
    ground: Site, layout: Layout, record_property: Callable[[str, object], None]
) -> None:
    record_property("proved", pulled(ground, layout))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_power_cuts(ground: Site, layout: Layout, record_property: Callable[[str, object], None]) -> None:
    ground.blank()
    others = [disk.serial for disk in ground.machine.hardware.disks if disk.serial not in layout.disks]
    before = {serial: ground.digest(serial) for serial in others}
    cuts = cut_at_random(ground, layout, CUTS, seed=len(layout.name))
    assert len(cuts.moments) == CUTS
    assert {serial: ground.digest(serial) for serial in others} == before, "a disk that nobody chose"
    record_property("proved", str(cuts))
