"""Faults that are real: full disks, disks that vanish or take no writes, programs that are missing, fail, stop half way or
lie, and a udev that takes its time. Each ends in an error that says so; once mended, the same command goes on to the end.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.errors import Exit, HyperError
from installer.execute.preflight import require_programs
from tests.execute.ready import Ready, ready_rig
from tests.execute.rig import HERE, run

pytestmark = [pytest.mark.root, pytest.mark.nix]

MKFS = "/usr/sbin/mkfs.ext4"


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[Ready]:
    with ready_rig(tmp_path) as made:
        yield made


def instead(ready: Ready, name: str, script: str) -> Path:
    """Another program of this name on the rig's PATH."""
    path = ready.rig.folder / "bin" / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def failed(ready: Ready, *words: str, code: Exit = Exit.step) -> str:
    done = ready.space.install(ready.rig)
    said = " ".join(done.stderr.split())
    assert done.returncode == code, done.stdout + done.stderr
    for word in words:
        assert word in said
    return said


def goes_on(ready: Ready) -> None:
    done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert ready.file("/etc/group").splitlines()[1] == "wheel:x:1:alice"


def test_missing_programs_are_told_at_once_before_anything(ready: Ready) -> None:
    with pytest.raises(HyperError) as caught:
        require_programs(ready.plan, str(ready.rig.folder / "bin"))
    for name in ("mkfs.ext4", "wipefs", "sfdisk"):
        assert f"{name} (" in caught.value.why


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo no such feature >&2; exit 1", ("`mkfs.ext4", "exit status 1", "no such feature")),
        ("exit 0", ("what it should have done is not there", "no signature")),
        ("kill -9 $$", ("killed by signal 9",)),
        (
            'for last; do :; done; head -c 3000000 /dev/urandom > "$last"; echo short write >&2; exit 1',
            ("short write",),
        ),
        (f'{MKFS} "$@"; for last; do :; done; tune2fs -U random "$last"', ("expected ext4",)),
    ],
    ids=["fails", "lies", "killed", "half", "other"],
)
def test_a_program_that(ready: Ready, script: str, words: tuple[str, ...]) -> None:
    path = instead(ready, "mkfs.ext4", script)
    failed(ready, "the step `format-root` failed", "hv install --abort", *words)
    path.unlink()
    goes_on(ready)


def test_slow_udev(ready: Ready) -> None:
    """Its queue is empty before it has made the links: what is needed is waited for, not taken for granted."""
    prefix = ready.rig.prefix
    real = f'HV_TEST_PREFIX={prefix} {HERE / "udevadm"} "$@"'
    instead(ready, "udevadm", f"(sleep 2; {real}) >/dev/null 2>&1 </dev/null &")
    goes_on(ready)


def test_a_full_target(ready: Ready) -> None:
    real = (ready.rig.folder / "bin/nix").read_text()
    # Root may use what is reserved for it, so that counts as free.
    fill = 'free=$(($(stat -f -c "%f*%S" /mnt))); [ "$1" != copy ] || fallocate -l $((free - 4194304)) /mnt/fill\n'
    instead(ready, "nix", fill + real.removeprefix("#!/bin/sh\n"))
    failed(ready, "the step `realise` failed", "No space left on device")
    instead(ready, "nix", real.removeprefix("#!/bin/sh\n"))
    ready.space.run("rm", "/mnt/fill")
    goes_on(ready)


def test_a_disk_that_takes_no_writes(ready: Ready) -> None:
    device = ready.disk.device
    path = instead(ready, "mkfs.ext4", f'blockdev --setro {device} {device}p1 {device}p2; exec {MKFS} "$@"')
    failed(ready, "the step `format-root` failed")
    path.unlink()
    failed(ready, "cannot be written", "write protection", code=Exit.busy)
    run("blockdev", "--setrw", device)
    for part in (1, 2):
        run("blockdev", "--setrw", f"{device}p{part}")
    goes_on(ready)


def test_writes_that_were_lost_are_never_gone_on_with(ready: Ready) -> None:
    """The kernel tells once; a second run would find nothing wrong, and an empty file in the place of a system."""
    path = instead(ready, "sync", "echo error syncing: Input/output error >&2; exit 1")
    failed(ready, "the step `unmount` failed", "Input/output error")
    path.unlink()
    for _ in range(2):
        failed(ready, "the kernel lost some of its writes", "Input/output error", "`--fresh`")
    done = ready.space.install(ready.rig, "--fresh")
    assert done.returncode == Exit.ok, done.stdout + done.stderr


def test_a_disk_that_is_pulled_and_comes_back(ready: Ready) -> None:
    device = ready.disk.device
    # The kernel takes away no loop device of which a partition is open, as the installer keeps them: it goes when the
    # installer has ended. In tests/vm/test_trials_matrix.py a real one goes at once.
    path = instead(ready, "mkfs.ext4", f"losetup --detach {device}; echo Input/output error >&2; exit 1")
    failed(ready, "the step `format-root` failed")
    path.unlink()
    assert not Path(f"/sys/block/{Path(device).name}/loop").exists()
    for number in ("1", "2"):
        run("delpart", device, number)
    failed(ready, "`partition-main` was done and verified, and is not so any more")
    run("losetup", device, ready.disk.file)
    run("partx", "--add", device)
    goes_on(ready)


@pytest.mark.parametrize("moment", ["done", "verified"])
def test_what_a_disk_lost_of_the_system_while_it_was_away_is_noticed(ready: Ready, moment: str) -> None:
    """Nix's database says that a path is there, and a file of it is empty: what was cached never came to the disk."""
    killed = ready.space.install(ready.rig, "--die-event", "realise", moment)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    ready.space.run("umount", "--recursive", "/mnt")
    ready.space.run("mount", f"{ready.disk.link}-part2", "/mnt")
    ready.space.run("truncate", "--size", "0", f"/mnt{ready.toplevel}/sw/bin/shell")
    ready.space.run("umount", "/mnt")
    failed(ready, "realise", ready.toplevel, "was modified", "`--fresh`")
    failed(ready, "realise", ready.toplevel, "was modified", "`--fresh`")
    done = ready.space.install(ready.rig, "--fresh")
    assert done.returncode == Exit.ok, done.stdout + done.stderr


def test_errors_of_the_medium_itself(tmp_path: Path) -> None:
    """A sparse disk on a file system that runs full: writes fail with I/O errors, wherever they come to lie."""
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small)
    try:
        with ready_rig(tmp_path, place=small) as ready:
            said = failed(ready, "failed")
            assert "the step `" in said
            run("mount", "-o", "remount,size=1g", small)
            goes_on(ready)
    finally:
        subprocess.run(["umount", small], check=False)
