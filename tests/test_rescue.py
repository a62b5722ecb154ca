"""`hv rescue` on hosts that were installed on loop devices: found, mounted by their plan, mended, let go of."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hv.rescue.asleep import below
from hv.rescue.boot import left
from hv.rescue.degraded import without
from hv.rescue.find import hosts, the_host
from hv.rescue.mount import up_steps
from hv.rescue.moved import moved, renamed
from installer.errors import Exit, HyperError
from installer.facts.disks import Disk, Filesystem, Partition
from installer.facts.firmware import FirmwareKind
from installer.plan.actions import AssembleArray, Run
from installer.plan.checks import ArrayIs, BootProof, PartitionTableIs
from installer.plan.model import HostSwapFile, Plan
from installer.plan.planner import make_plan
from tests import gpt
from tests import plan_cases as cases
from tests.execute.ready import Ready, ready_rig
from tests.execute.rig import HERE, add_nix, namespace, rig, run
from tests.test_execute_mirror import Pair
from tests.test_execute_reinstall import found, on_disk

SHELL = "/nix/var/nix/profiles/system/sw/bin/shell"
OTHER = "$6$othersalt$" + "b" * 86


def rescue(ready: Ready, *words: str) -> subprocess.CompletedProcess[str]:
    """`hv rescue` in the rig's namespace."""
    argv = [
        *("nsenter", f"--mount=/proc/{ready.space.holder.pid}/ns/mnt", "--"),
        *(sys.executable, "-m", "tests.execute.rescue_child", str(ready.rig.folder), *words),
    ]
    return subprocess.run(
        argv, cwd=HERE.parents[1], capture_output=True, text=True, check=False, timeout=120
    )


def mounted(ready: Ready) -> bool:
    return " /mnt " in ready.space.run("cat", "/proc/self/mountinfo")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    """A host that was installed; the machine knows of it what a probe would."""
    with ready_rig(tmp_path_factory.mktemp("host")) as ready:
        done = ready.space.install(ready.rig)
        assert done.returncode == Exit.ok, done.stdout + done.stderr
        facts = ready.rig.facts(ready.disk, partitions=found(ready))
        (ready.rig.folder / "facts.json").write_text(facts.model_dump_json())
        yield ready


@pytest.fixture
def host(made: Ready) -> Iterator[Ready]:
    """The same, with nothing mounted."""
    yield made
    rescue(made, "unmount")
    assert not mounted(made)


pytestmark = [pytest.mark.root, pytest.mark.nix]


def test_found(host: Ready) -> None:
    before = host.disk.digest()
    listed = json.loads(rescue(host, "list", "--json").stdout)
    assert listed["version"] == 1
    (one,) = listed["hosts"]
    assert (one["host"], one["encrypted"]) == ("loop", False)
    assert one["root"][0]["serial"] == host.disk.serial
    assert "loop: ext4" in rescue(host, "list").stdout
    assert host.disk.digest() == before, "listing wrote something"


def test_mounted_by_its_plan_and_let_go_of(host: Ready) -> None:
    done = rescue(host, "mount")
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert mounted(host)
    assert "hostname" in host.space.run("cat", "/mnt/var/lib/hyper-nixos/handoff.json")
    again = rescue(host, "mount")
    assert again.returncode == Exit.ok
    assert "so already" in again.stdout
    inside = rescue(host, "shell", "--", SHELL)
    assert inside.returncode == 64, "the small system's program says that"
    assert mounted(host), "it was mounted before"
    busy = subprocess.Popen(
        [
            "nsenter",
            f"--mount=/proc/{host.space.holder.pid}/ns/mnt",
            "--",
            "sh",
            "-c",
            "cd /mnt && exec cat",
        ],
        stdin=subprocess.PIPE,
    )
    try:
        refused = rescue(host, "unmount")
        assert refused.returncode == Exit.busy
        assert "still in use" in refused.stderr
    finally:
        busy.kill()
        busy.wait()
    let_go = rescue(host, "unmount")
    assert let_go.returncode == Exit.ok, let_go.stderr
    assert not mounted(host)
    assert "No host is mounted" in rescue(host, "unmount").stdout


def test_dry_runs_say_and_do_nothing(host: Ready, tmp_path: Path) -> None:
    hash_file = tmp_path / "hash"
    hash_file.write_text(OTHER)
    mount = rescue(host, "mount", "--dry-run")
    assert mount.returncode == Exit.ok
    assert "mount -t ext4 -o noatime" in mount.stdout
    for words in (
        ("login", "alice", "--password-hash-file", str(hash_file), "--dry-run"),
        ("repair", "--dry-run"),
    ):
        done = rescue(host, *words)
        assert done.returncode == Exit.ok, done.stderr
        assert "would be mounted" in done.stdout
    assert not mounted(host)
    assert OTHER not in host.file("/etc/shadow")


def test_a_new_password_and_key_last(host: Ready, tmp_path: Path) -> None:
    hash_file, key_file = tmp_path / "hash", tmp_path / "key.pub"
    hash_file.write_text(OTHER + "\n")
    key_file.write_text(cases.KEY + "\n")
    done = rescue(host, "login", "alice", "--password-hash-file", str(hash_file), "--ssh-key", str(key_file))
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert "proved: setup: alice: with a password at the console" in done.stdout
    assert OTHER not in done.stdout + done.stderr
    assert f"alice:{OTHER}:" in host.file("/etc/shadow")
    assert host.file("/var/lib/hyper-nixos/secrets/passwords/alice") == OTHER
    assert host.file("/home/alice/.ssh/authorized_keys") == cases.KEY
    module = host.file("/etc/nixos/rescue-login.nix")
    assert f'keys = [ "{cases.KEY}" ];' in " ".join(module.split())
    assert "/var/lib/hyper-nixos/secrets/passwords/alice" in module
    assert OTHER not in module, "everybody reads the store"
    configuration = host.file("/etc/nixos/configuration.nix")
    assert configuration.count("./rescue-login.nix") == 1
    again = rescue(host, "login", "alice", "--ssh-key", str(key_file))
    assert again.returncode == Exit.ok, again.stdout + again.stderr
    assert "the key is there already" in again.stdout
    assert host.file("/etc/nixos/configuration.nix").count("./rescue-login.nix") == 1
    assert OTHER not in (host.rig.live.runtime / "rescue.log").read_text()


def fall_asleep(host: Ready) -> None:
    """As the kernel leaves a swap file that has the memory in it (kernel/power/swap.c), named by the stored plan."""
    assert rescue(host, "mount").returncode == Exit.ok
    stored = "/mnt/var/log/hyper-nixos/plan.json"
    plan = Plan.model_validate_json(host.space.run("cat", stored))
    files = (HostSwapFile(path="/var/lib/swapfile", size=1 << 20),)
    changed = plan.model_copy(update={"host": plan.host.model_copy(update={"swap_files": files})})
    (host.rig.folder / "asleep.json").write_text(changed.model_dump_json())
    host.space.run("cp", str(host.rig.folder / "asleep.json"), stored)
    for command in (
        "truncate -s 1M /mnt/var/lib/swapfile && mkswap -q /mnt/var/lib/swapfile",
        "printf 'SWAPSPACE2S1SUSPEND\\000' | dd of=/mnt/var/lib/swapfile bs=1 seek=4076 conv=notrunc status=none",
    ):
        host.space.run("sh", "-ec", command)
    assert rescue(host, "unmount").returncode == Exit.ok


def test_a_host_that_hibernates_is_not_touched_until_its_memory_is_given_up(host: Ready) -> None:
    fall_asleep(host)
    before = host.disk.digest()
    for words in (
        ("mount",),
        ("shell", "--", SHELL),
        ("login", "alice", "--ssh-key", "/dev/null"),
        ("repair",),
    ):
        refused = rescue(host, *words)
        assert refused.returncode == Exit.busy, refused.stdout + refused.stderr
        assert "hibernates" in refused.stderr and "--discard-memory" in refused.stderr
    assert host.disk.digest() == before, "not one byte, not even by a journal that is played back"
    given_up = rescue(host, "mount", "--discard-memory")
    assert given_up.returncode == Exit.ok, given_up.stdout + given_up.stderr
    assert "is given up: it begins anew" in given_up.stdout
    said = host.space.run("blkid", "-p", "-s", "TYPE", "-o", "value", "/mnt/var/lib/swapfile")
    assert said.strip() == "swap"
    assert rescue(host, "unmount").returncode == Exit.ok
    again = rescue(host, "mount")
    assert again.returncode == Exit.ok, again.stderr
    assert "given up" not in again.stdout


def test_swap_is_looked_for_where_it_lies_below_the_top_of_a_btrfs(tmp_path: Path) -> None:
    storage = cases.storage(swap={"kind": "file", "hibernate": True}, filesystem="btrfs")
    plan = make_plan(cases.machine(), cases.answers(storage=storage), cases.medium())
    assert below(plan, tmp_path, "/var/lib/swapfile") == tmp_path / "@/var/lib/swapfile"
    assert below(plan, tmp_path, "/var/log/swapfile") == tmp_path / "@log/swapfile"
    assert below(plan, tmp_path, "/boot/swapfile") is None


@pytest.mark.parametrize(
    ("words", "content", "why"),
    [
        (("login", "bob", "--ssh-key"), cases.KEY, "there is no account bob"),
        (("login", "root", "--ssh-key"), cases.KEY, "no administrator"),
        (("login", "alice", "--ssh-key"), "ssh-dss AAAA", "SSH key cannot be used"),
        (("login", "alice", "--password-hash-file"), "secret-in-clear", "hash cannot be used"),
    ],
)
def test_what_helps_nobody_is_refused_before_a_change(
    host: Ready, tmp_path: Path, words: tuple[str, ...], content: str, why: str
) -> None:
    before = host.file("/etc/shadow"), host.file("/etc/nixos/configuration.nix")
    file = tmp_path / "given"
    file.write_text(content)
    refused = rescue(host, *words, str(file))
    assert refused.returncode == Exit.answers, refused.stdout
    assert why in " ".join(refused.stderr.split())
    assert "secret-in-clear" not in refused.stdout + refused.stderr
    assert (host.file("/etc/shadow"), host.file("/etc/nixos/configuration.nix")) == before
    assert not mounted(host)


def test_boot_code_and_entries_are_written_anew(host: Ready) -> None:
    host.space.run("mount", f"{host.disk.link}-part2", "/mnt")
    host.space.run("sh", "-c", "rm -r /mnt/boot/grub /mnt/boot/kernels")
    host.space.run("umount", "/mnt")
    with Path(host.disk.device).open("r+b") as device:
        device.seek(380)
        device.write(bytes(20))
    done = rescue(host, "repair")
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert "proved: GRUB's boot code and core image are on" in done.stdout
    assert "tiny" in host.file("/boot/grub/grub.cfg")


def test_a_host_that_cannot_be_mended_is_not_called_mended(host: Ready) -> None:
    """Its kernel is gone from the store."""
    host.space.run("mount", f"{host.disk.link}-part2", "/mnt")
    kernel = host.space.run("sh", "-c", "ls /mnt/nix/store/*/kernel")
    host.space.run("mv", kernel, "/mnt/kernel")
    host.space.run("umount", "/mnt")
    try:
        failed = rescue(host, "repair")
        assert failed.returncode != Exit.ok
        assert not mounted(host)
    finally:
        host.space.run("mount", f"{host.disk.link}-part2", "/mnt")
        host.space.run("mv", "/mnt/kernel", kernel)
        host.space.run("umount", "/mnt")


@pytest.mark.matrix
def test_a_mirror_with_a_ruined_boot_file_system(tmp_path: Path) -> None:
    """A btrfs on two disks, found on both, mounted with its subvolumes; /boot2 is made anew, /boot stays."""
    with rig(tmp_path) as made, namespace() as space:
        add_nix(made)
        pair = Pair(made, space)
        done = space.install(made)
        assert done.returncode == Exit.ok, done.stdout + done.stderr
        first, second = (
            pair.facts.disks[place].model_copy(update={"table": "gpt", "partitions": on_disk(disk.device)})
            for place, disk in enumerate(pair.disks)
        )
        facts = pair.facts.model_copy(update={"disks": (first, second)})
        (tmp_path / "facts.json").write_text(facts.model_dump_json())
        ready = cast("Ready", SimpleNamespace(rig=made, space=space))
        listed = json.loads(rescue(ready, "list", "--json").stdout)
        assert [len(each["root"]) for each in listed["hosts"]] == [2]
        done = rescue(ready, "mount")
        assert done.returncode == Exit.ok, done.stdout + done.stderr
        assert "pair" in space.run("cat", "/mnt/var/lib/hyper-nixos/handoff.json")
        assert " /@log /mnt/var/log " in space.run("cat", "/proc/self/mountinfo")
        assert rescue(ready, "unmount").returncode == Exit.ok
        space.run("wipefs", "--all", f"{pair.disks[1].link}-part2")
        refused = rescue(ready, "repair")
        assert refused.returncode != Exit.ok
        done = rescue(ready, "repair", "--format")
        assert done.returncode == Exit.ok, done.stdout + done.stderr
        assert "part2: its file system can be mounted, and stays" in done.stdout
        assert done.stdout.count("its file system can be mounted") == 1
        assert "proved: GRUB's boot code" in done.stdout


@pytest.mark.matrix
def test_a_mirror_whose_first_disk_is_gone(tmp_path: Path) -> None:
    """Refused without a word about it; mounted from what is left, an administrator's login set, and let go of.

    GRUB, ruined, is written again, to the disk that is there alone; the other is as it was.
    """
    with rig(tmp_path) as made, namespace() as space:
        add_nix(made)
        pair = Pair(made, space)
        done = space.install(made)
        assert done.returncode == Exit.ok, done.stdout + done.stderr
        lost, left = pair.disks
        second = pair.facts.disks[1].model_copy(update={"table": "gpt", "partitions": on_disk(left.device)})
        facts = pair.facts.model_copy(update={"disks": (second,)})
        (tmp_path / "facts.json").write_text(facts.model_dump_json())
        run("btrfs", "device", "scan", "--forget")
        run("partx", "--delete", lost.device)
        # It stays attached without a name or a partition: a loop device that is let go of may be another's at once.
        for link in lost.link.parent.glob(f"{lost.link.name}*"):
            link.unlink()
        try:
            ready = cast("Ready", SimpleNamespace(rig=made, space=space))
            refused = rescue(ready, "mount")
            assert refused.returncode != Exit.ok
            assert "--degraded" in refused.stderr
            done = rescue(ready, "mount", "--degraded")
            assert done.returncode == Exit.ok, done.stdout + done.stderr
            assert f"{lost.link.name} (" in done.stdout
            assert "no second copy" in done.stdout
            mounts = space.run("cat", "/proc/self/mountinfo")
            assert " /@log /mnt/var/log " in mounts
            assert " /mnt/boot2 " in mounts
            assert " /mnt/boot " not in mounts
            assert rescue(ready, "unmount").returncode == Exit.ok
            key = tmp_path / "key.pub"
            key.write_text(cases.KEY + "\n")
            done = rescue(ready, "login", "alice", "--ssh-key", str(key), "--degraded")
            assert done.returncode == Exit.ok, done.stdout + done.stderr
            assert not mounted(ready)
            before = lost.digest()
            table = run("sfdisk", "--dump", left.device)
            for path, place in ((left.device, 384), (f"{left.device}p1", 0)):
                with Path(path).open("r+b") as device:
                    device.seek(place)
                    device.write(bytes(16))
                    os.fsync(device.fileno())
            done = rescue(ready, "repair", "--degraded")
            assert done.returncode == Exit.ok, done.stdout + done.stderr
            said = " ".join(done.stdout.split())
            assert f"{left.link.name} stands in for {lost.link.name} while GRUB is written" in said
            assert "rebuilding the host stops at GRUB" in said
            assert f"proved: GRUB's boot code and core image are on {left.link.name}" in said
            with Path(left.device).open("rb") as device:
                device.seek(384)
                assert device.read(4) == b"GRUB"
            assert not lost.link.is_symlink(), "the name of the missing disk leads nowhere outside"
            assert run("sfdisk", "--dump", left.device) == table
            assert lost.digest() == before
            assert not mounted(ready)
        finally:
            run("btrfs", "device", "scan", "--forget")
            run("partx", "--add", lost.device)


def mirror(**storage: object) -> Plan:
    table = {"layout": "mirror", "disk": {"transport": "nvme", "count": 2}} | storage
    facts = cases.machine(*cases.disks(2), firmware=FirmwareKind.uefi64)
    return make_plan(facts, cases.answers(storage=table), cases.medium())


def test_without_the_first_disk_a_mirror_of_encrypted_disks_is_brought_up_from_the_other() -> None:
    plan = mirror(filesystem="btrfs", encryption=cases.ENCRYPTED, swap={"kind": "partition"})
    first, second = plan.disks
    steps = {step.id: step for step in without(up_steps(plan), (first,))}
    assert steps.keys() == {step.id for step in up_steps(plan)} - {"open-cryptroot-1", "mount-boot"}
    words = [word for step in steps.values() for action in step.actions for word in action.model_dump_json()]
    assert first.name not in "".join(words)
    mount = next(each for each in steps["mount-nix"].actions if isinstance(each, Run))
    assert mount.argv[3:] == (
        "-o",
        "subvol=/@nix,noatime,compress=zstd:1,degraded",
        "/dev/mapper/cryptroot-2",
        "/mnt/nix",
    )
    (check,) = steps["assemble-swap-array"].checks
    assert isinstance(check, ArrayIs)
    assert check.devices == (second.partition(2),)


def test_without_the_second_disk_an_array_is_brought_up_from_the_first() -> None:
    plan = mirror(filesystem="ext4", volumes="lvm")
    first, second = plan.disks
    steps = {step.id: step for step in without(up_steps(plan), (second,))}
    assert steps.keys() == {step.id for step in up_steps(plan)} - {"mount-boot2"}
    (action,) = steps["assemble-root-array"].actions
    assert isinstance(action, AssembleArray)
    assert action.devices == (first.partition(2),)
    assert without(up_steps(plan), ()) == up_steps(plan)


def test_a_pool_that_lacks_a_disk_is_brought_up_and_one_that_lacks_all_is_done_without() -> None:
    plan = mirror(filesystem="zfs", encryption=cases.ENCRYPTED)
    first, _ = plan.disks
    steps = [step.id for step in without(up_steps(plan), (first,))]
    lost = {"open-cryptroot-1", "mount-boot"}
    assert steps == [step.id for step in up_steps(plan) if step.id not in lost]
    facts = cases.machine(*cases.disks(3), firmware=FirmwareKind.uefi64)
    serials = [each.serial for each in facts.disks]
    pool = {"kind": "zfs", "disks": [{"serial": each} for each in serials[1:]], "redundancy": "mirror"}
    apart = make_plan(
        facts, cases.answers(storage={"disk": {"serial": serials[0]}, "pool": pool}), cases.medium()
    )
    all_steps = [step.id for step in up_steps(apart)]
    assert [step.id for step in without(up_steps(apart), apart.disks[1:2])] == all_steps
    steps = [step.id for step in without(up_steps(apart), apart.disks[1:])]
    assert set(all_steps) - set(steps) == {"import-vms-zpool", "mount-var-lib-libvirt-images"}


def test_the_other_boot_partition_stands_in_for_the_first() -> None:
    plan = mirror(filesystem="btrfs", encryption=cases.ENCRYPTED, swap={"kind": "partition"})
    first, second = plan.disks
    (proof,) = (check for step in plan.steps for check in step.checks if isinstance(check, BootProof))
    whole = left(plan, proof, ())
    assert (whole.disks, whole.host, whole.stand_in) == ((first, second), plan.host, None)
    lost = left(plan, proof, (first,))
    assert lost.disks == (second,)
    assert lost.stand_in is not None
    assert lost.stand_in.mountpoint == "/boot2"
    assert {"/boot", "/boot2"}.isdisjoint(each.mountpoint for each in lost.host.filesystems)
    assert [each.name for each in lost.host.luks] == ["cryptroot-2"]
    lost = left(plan, proof, (second,))
    assert (lost.disks, lost.host.mirrors, lost.stand_in) == ((first,), (), None)
    assert [each.name for each in lost.host.luks] == ["cryptroot-1"]
    assert "/boot" in {each.mountpoint for each in lost.host.filesystems}
    with pytest.raises(HyperError, match="not repaired with a disk missing"):
        left(plan, proof, (first, second))


def test_a_disk_of_the_pool_alone_does_not_keep_grub_from_being_written() -> None:
    facts = cases.machine(*cases.disks(3), firmware=FirmwareKind.bios)
    system = [{"serial": f"S{number}"} for number in (1, 2)]
    table = {
        "layout": "mirror",
        "disks": system,
        "filesystem": "btrfs",
        "encryption": cases.ENCRYPTED,
        "pool": {"disks": [{"serial": "S3"}], "filesystem": "xfs"},
    }
    plan = make_plan(facts, cases.answers(storage=table), cases.medium())
    (proof,) = (check for step in plan.steps for check in step.checks if isinstance(check, BootProof))
    lost = left(plan, proof, plan.disks[2:])
    assert (lost.disks, lost.host.mirrors, lost.stand_in) == (plan.disks[:2], plan.host.mirrors, None)
    places = {each.mountpoint for each in lost.host.filesystems}
    assert {"/", "/boot", "/boot2"} <= places
    assert "/var/lib/libvirt/images" not in places
    assert lost.host.key_luks == ()
    assert plan.host.key_luks
    gone = left(plan, proof, plan.disks[:1])
    assert gone.lost == (("/boot", plan.disks[0]),)
    assert gone.stand_in is not None
    assert gone.stand_in.mountpoint == "/boot2"
    other = left(plan, proof, plan.disks[1:2])
    assert (other.lost, other.stand_in) == ((("/boot2", plan.disks[1]),), None)
    with pytest.raises(HyperError, match="not repaired with a disk missing"):
        left(plan, proof, plan.disks[:2])


def test_disks_in_an_adapter_are_known_by_their_partitions(host: Ready) -> None:
    """Another name, another serial number: refused with both names, and taken when that is said."""
    serial, link = host.disk.serial, host.disk.link
    other = f"usb-{host.disk.by_id}"
    facts = host.rig.folder / "facts.json"
    before = facts.read_text()
    links = sorted(link.parent.glob(f"{link.name}*"))
    for each in links:
        each.rename(each.with_name(each.name.replace(host.disk.by_id, other)))
    host.disk.by_id, host.disk.serial = other, "BRIDGE"
    try:
        host.rig.describe(host.disk, "BRIDGE")
        facts.write_text(host.rig.facts(host.disk, partitions=found(host)).model_dump_json())
        refused = rescue(host, "mount")
        assert refused.returncode == Exit.selection, refused.stdout + refused.stderr
        assert f"{link.name} is here as {other}" in refused.stderr
        assert not mounted(host)
        done = rescue(host, "mount", "--moved")
        assert done.returncode == Exit.ok, done.stdout + done.stderr
        assert f"{other} is taken for {link.name}" in done.stdout
        assert "hostname" in host.space.run("cat", "/mnt/var/lib/hyper-nixos/handoff.json")
        assert rescue(host, "unmount").returncode == Exit.ok
    finally:
        for each in links:
            each.with_name(each.name.replace(link.name, other)).rename(each)
        host.disk.by_id, host.disk.serial = link.name, serial
        host.rig.describe(host.disk, serial)
        facts.write_text(before)


def test_a_disk_is_not_known_by_some_of_its_partitions() -> None:
    plan = mirror(filesystem="ext4")
    first, second = plan.disks
    specs = {
        check.disk: check.partitions
        for step in plan.steps
        for check in step.checks
        if isinstance(check, PartitionTableIs)
    }

    def disk(name: str, key: str, *, without: int = 0) -> Disk:
        parts = tuple(
            Partition(
                number=each.number,
                name=f"{name}{each.number}",
                start=each.start,
                size=each.size,
                type_uuid=each.type_uuid,
                label=each.label,
            )
            for each in specs[key]
            if each.number != without
        )
        names = (f"usb-{name}",)
        return cases.blank_disk(name=name, serial=name, wwn=None, by_id=names, table="gpt", partitions=parts)

    facts = cases.machine(disk("sda", second.key), disk("sdb", first.key, without=2))
    names = moved(plan, facts)
    assert {key: each.by_id for key, each in names.items()} == {second.key: "usb-sda"}
    changed = renamed(plan, names)
    assert changed.disks == (first, names[second.key])
    assert second.device not in changed.model_dump_json()
    assert first.device in changed.model_dump_json()
    twins = cases.machine(disk("sda", second.key), disk("sdb", second.key))
    assert moved(plan, twins) == {}


def partition(number: int, label: str, kind: str | None = "ext4") -> Partition:
    return Partition(
        number=number,
        name=f"sda{number}",
        start=number << 30,
        size=1 << 30,
        type_uuid=gpt.LINUX,
        label=label,
        filesystem=Filesystem(kind=kind, uuid=f"u{number}") if kind else None,
    )


def test_hosts_are_told_by_the_names_of_their_partitions() -> None:
    def disk(name: str, *partitions: Partition) -> object:
        return cases.blank_disk(
            name=name, serial=name, wwn=None, by_id=(f"ata-{name}",), table="gpt", partitions=partitions
        )

    facts = cases.machine(
        disk("sda", partition(1, "web-1-esp", "vfat"), partition(2, "web-1-root-1", "crypto_LUKS")),  # type: ignore[arg-type]
        disk("sdb", partition(1, "web-1-esp-2", "vfat"), partition(2, "web-1-root-2", "crypto_LUKS")),  # type: ignore[arg-type]
        disk("sdc", partition(1, "old-root"), partition(2, "data")),  # type: ignore[arg-type]
    )
    old, web = hosts(facts)
    assert (old.name, old.encrypted, len(old.parts)) == ("old", False, 1)
    assert (web.name, web.encrypted, [each.device for each in web.parts]) == (
        "web-1",
        True,
        ["/dev/disk/by-id/ata-sda-part2", "/dev/disk/by-id/ata-sdb-part2"],
    )
    assert the_host((old, web), "old") is old
    for name in (None, "nobody"):
        with pytest.raises(HyperError, match="host"):
            the_host((old, web), name)
