"""`hv install --abort` on real disks: to the byte while nothing was overwritten for good, and honest afterwards."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from installer.answers.sizes import MIB
from installer.commands.install import main
from installer.errors import Exit, HyperError
from installer.facts.disks import Partition
from installer.plan.token import confirm_token
from tests.execute.ready import Ready, ready_rig
from tests.execute.rig import LoopDisk, run

pytestmark = [pytest.mark.root, pytest.mark.nix]

CHEAP = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
PASSPHRASE = "correct horse"


def table(disk: LoopDisk, script: str) -> tuple[Partition, ...]:
    """Write a partition table, show it to the kernel, and say what facts would say of it."""
    subprocess.run(
        ["sfdisk", "--quiet", "--no-tell-kernel", disk.device], input=script, text=True, check=True
    )
    run("partx", "--add", disk.device)
    found = json.loads(run("sfdisk", "--json", disk.device))["partitiontable"]["partitions"]
    numbers = [int(each["node"].removeprefix(f"{disk.device}p")) for each in found]
    for number in numbers:
        Path(f"{disk.link}-part{number}").symlink_to(f"{disk.device}p{number}")
    return tuple(
        Partition(
            number=number,
            name=f"vda{number}",
            start=each["start"] * 512,
            size=each["size"] * 512,
            type_uuid=each["type"].lower() if "-" in each["type"] else f"0x{each['type']}",
        )
        for number, each in zip(numbers, found, strict=True)
    )


def luks(device: str) -> None:
    subprocess.run(
        ["cryptsetup", "luksFormat", "-q", "--type", "luks2", *CHEAP, device, "-"],
        input=PASSPHRASE.encode(),
        check=True,
    )


def gpt(disk: LoopDisk) -> tuple[Partition, ...]:
    """A GPT with one of everything that has signatures at odd places; after it a hole with stale signatures."""
    found = table(disk, "label: gpt\n" + "size=300M\n" * 9)
    p = f"{disk.device}p"
    run("mkfs.vfat", f"{p}1")
    run("mkfs.ext4", "-q", f"{p}2")
    run("mkfs.xfs", "-q", f"{p}3")
    run("mkfs.btrfs", "-q", f"{p}4")
    run("mkswap", f"{p}5")
    luks(f"{p}6")
    run("pvcreate", "-q", f"{p}7")
    with Path(f"{p}8").open("r+b") as part:  # ZFS: labels at both ends (uberblock magic, vdev label layout)
        for place in (0, 256 << 10, (300 << 20) - (512 << 10), (300 << 20) - (256 << 10)):
            for slot in range(128):
                part.seek(place + (128 << 10) + slot * 1024)
                part.write((0x00BAB10C).to_bytes(8, "little"))
    with Path(disk.device).open("r+b") as device:
        # Where the new root will begin there was once something else: the table's wiping brings it to light.
        device.seek(2 * MIB + 1080)
        device.write(b"\x53\xef")
    return found


def mbr(disk: LoopDisk) -> tuple[Partition, ...]:
    """An MBR with logical partitions, and boot code before the first."""
    script = "label: dos\n1: size=200M, type=83\n2: type=5\n5: size=300M, type=83\n6: size=300M, type=83\n"
    found = table(disk, script)
    run("mkfs.ext4", "-q", f"{disk.device}p1")
    run("mkfs.xfs", "-q", f"{disk.device}p5")
    run("mkfs.vfat", f"{disk.device}p6")
    with Path(disk.device).open("r+b") as device:
        device.write(b"\xeb\x63" + b"GRUB" * 100)
        device.seek(40 * 512)
        device.write(b"core image" * 300)
    return found


def whole_btrfs(disk: LoopDisk) -> tuple[Partition, ...]:
    run("mkfs.btrfs", "-q", disk.device)
    return ()


def whole_luks(disk: LoopDisk) -> tuple[Partition, ...]:
    luks(disk.device)
    return ()


def nothing(disk: LoopDisk) -> tuple[Partition, ...]:
    return ()


OLD: dict[str, Callable[[LoopDisk], tuple[Partition, ...]]] = {
    "gpt": gpt,
    "mbr": mbr,
    "btrfs": whole_btrfs,
    "luks": whole_luks,
    "blank": nothing,
}
STAGES = (
    r"^\$ blkid",
    "^# save-headers-main:",
    r"^\$ wipefs .*-part7$",
    r"^\$ wipefs .*-part1$",
    "^# wipe-partitions-main:",
    r"^\$ wipefs \S+ \S+ \S+_\d+$",
    "^# wipe-main:",
    r"^\$ partx --add",
    "^# partition-main:",
)
"""Lines of the log at which the installer is killed, up to where file systems begin."""


@pytest.fixture
def on(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ready]:
    with ready_rig(tmp_path, old=OLD[request.param]) as made:
        yield made


def given_up(ready: Ready, *more: str) -> subprocess.CompletedProcess[str]:
    return ready.space.install(ready.rig, "--abort", *more)


def kernel_view(disk: LoopDisk) -> list[tuple[str, str, str]]:
    folder = Path("/sys/class/block", Path(disk.device).name)
    return sorted(
        (path.parent.name, (path.parent / "start").read_text(), (path.parent / "size").read_text())
        for path in folder.glob("*/partition")
    )


@pytest.mark.parametrize("on", ["gpt"], indirect=True)
def test_killed_anywhere_before_the_first_file_system_it_comes_back_to_the_byte(on: Ready) -> None:
    """One disk, killed and given up at every stage by turns: each time the whole disk hashes as before."""
    before, view = on.disk.digest(), kernel_view(on.disk)
    changed = set()
    for line in STAGES:
        killed = on.space.install(on.rig, "--die-at", line)
        assert killed.returncode == -9, (line, killed.stdout, killed.stderr)
        changed.add(on.disk.digest())
        done = given_up(on)
        assert done.returncode == Exit.ok, (line, done.stdout, done.stderr)
        assert on.disk.digest() == before, line
        assert kernel_view(on.disk) == view, line
        assert not on.journal.events, "put aside"
        assert ("Nothing was written" in done.stdout) == (line in STAGES[:2]), (line, done.stdout)
    assert len(changed - {before}) >= 5, "the stages left different things on the disk"


@pytest.mark.parametrize("on", [name for name in OLD if name != "gpt"], indirect=True)
def test_whatever_was_on_it(on: Ready) -> None:
    before, view = on.disk.digest(), kernel_view(on.disk)
    assert on.space.install(on.rig, "--die-at", "^# partition-main:").returncode == -9
    assert on.disk.digest() != before
    killed = given_up(on, "--die-at", r"^\$ udevadm settle")  # even when giving up is cut off
    assert killed.returncode == -9
    done = given_up(on)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert "as they were before, to the byte" in " ".join(done.stdout.split())
    assert on.disk.digest() == before
    assert kernel_view(on.disk) == view
    again = given_up(on)
    assert again.returncode == Exit.failed
    assert "nothing to give up" in again.stderr


@pytest.mark.parametrize("on", ["gpt"], indirect=True)
def test_afterwards_it_says_what_is_gone_and_asks(on: Ready) -> None:
    assert on.space.install(on.rig, "--die-at", r"^\$ nix copy").returncode == -9
    assert "/mnt" in on.space.run("cat", "/proc/self/mountinfo")
    shown = given_up(on)
    assert shown.returncode == Exit.consent, shown.stdout + shown.stderr
    assert " /mnt " not in on.space.run("cat", "/proc/self/mountinfo"), "released all the same"
    before = on.disk.digest()
    assert "what `format-root` overwrote" in " ".join(shown.stdout.split())
    assert f"hv install --abort --confirm {confirm_token(on.plan)}" in " ".join(shown.stdout.split())
    wrong = given_up(on, "--confirm", "0000-0000-0000-0000")
    assert wrong.returncode == Exit.consent
    assert on.disk.digest() == before
    assert "written and verified" not in shown.stdout
    done = given_up(on, "--confirm", confirm_token(on.plan))
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert "Does not come back: what `format-root` overwrote" in " ".join(done.stdout.split())
    for number, kind in ((1, "vfat"), (6, "crypto_LUKS")):  # the new system lies elsewhere
        assert run("blkid", "-p", "-s", "TYPE", "-o", "value", f"{on.disk.device}p{number}") == kind
    opened = subprocess.run(
        ["cryptsetup", "open", "--test-passphrase", f"{on.disk.device}p6"],
        input=PASSPHRASE.encode(),
        check=False,
    )
    assert opened.returncode == 0


@pytest.mark.parametrize("on", ["gpt"], indirect=True)
def test_refused_consent_can_still_be_gone_on_with(on: Ready) -> None:
    assert on.space.install(on.rig, "--die-at", r"^\$ nix copy").returncode == -9
    assert given_up(on).returncode == Exit.consent
    done = on.space.install(on.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    late = given_up(on)
    assert late.returncode == Exit.failed
    assert "came to its end" in late.stderr


@pytest.mark.parametrize("on", ["gpt"], indirect=True)
def test_another_disk_in_its_place_is_not_written_to(on: Ready) -> None:
    assert on.space.install(on.rig, "--die-at", "^# wipe-main:").returncode == -9
    before = on.disk.digest()
    on.rig.describe(on.disk, "ANOTHER")
    refused = given_up(on)
    assert refused.returncode == Exit.busy
    assert "ANOTHER is there" in " ".join(refused.stderr.split())
    assert on.disk.digest() == before


@pytest.mark.parametrize("on", ["gpt"], indirect=True)
def test_in_use_by_others_it_is_not_written_to(on: Ready) -> None:
    assert on.space.install(on.rig, "--die-at", "^# partition-main:").returncode == -9
    run("mkfs.ext4", "-q", f"{on.disk.device}p2")
    on.space.run("mount", f"{on.disk.device}p2", "/mnt")
    refused = given_up(on)
    assert refused.returncode == Exit.busy
    on.space.run("umount", "/mnt")


def test_command_line() -> None:
    for words in (["--abort", "--fresh"], ["--abort", "--plan"], ["--abort", "--answers", "x"], ["--plan"]):
        with pytest.raises(HyperError) as caught:
            main(words)
        assert caught.value.code == Exit.usage
    assert "--answers" in str(caught.value)
