"""`hv security recovery-key`: a new key for a host's encrypted disks, in real LUKS2 headers, cut off at every program."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hv.firstrun import keyslots
from hv.firstrun.world import Journal, World
from hv.history import FILE
from hv.security.recovery_key import disks, renew
from installer.errors import HyperError
from installer.execute.log import NoLog
from installer.execute.recovery import new_key, put_recovery_key
from installer.execute.runner import Finished, Runner
from tests.terminal import Terminal

PASSPHRASE = b"yz\xc3\x9f correct horse"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
CHEAP = ("--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
FORMAT = ("cryptsetup", "luksFormat", "--type", "luks2", *CHEAP, "--key-file", "-")
WRITES = {"luksAddKey", "import", "remove", "luksKillSlot"}


class CutError(BaseException):
    """The power goes."""


class Cut(Runner):
    """Runs programs until the power goes, before one of those that write."""

    left = -1

    def run(self, argv: Any, **options: Any) -> Finished:
        """One program."""
        if WRITES.intersection(argv):
            self.left -= 1
            if self.left < 0:
                raise CutError
        return super().run(argv, **options)


@pytest.fixture
def runner() -> Runner:
    return Runner(NoLog(), PATH)


@pytest.fixture
def host(tmp_path: Path, runner: Runner) -> World:
    """Two encrypted disks with one recovery key, and a random swap; device-mapper's part of sysfs stands in for it."""
    for number, name in enumerate(("one", "two")):
        file = tmp_path / name
        with file.open("wb") as blank:
            blank.truncate(20 << 20)
        runner.run((*FORMAT, str(file)), stdin=PASSPHRASE)
        uuid = runner.run(("cryptsetup", "luksUUID", str(file))).text.strip()
        mapped(tmp_path, number, f"CRYPT-LUKS2-{uuid.replace('-', '')}-crypt{name}")
        link = tmp_path / "dev/disk/by-uuid" / uuid
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    mapped(tmp_path, 2, "CRYPT-PLAIN-swap0")
    mapped(tmp_path, 3, "LVM-0123456789")
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/hostname").write_text("hv1\n")
    return World(programs=runner, root=tmp_path, journal=Journal())


@pytest.fixture
def old(host: World, runner: Runner) -> str:
    """The recovery key from before."""
    key = new_key()
    for disk in disks(host):
        put_recovery_key(runner, disk.device, 1, PASSPHRASE, key)
    return key


def mapped(root: Path, number: int, name: str) -> None:
    file = root / f"sys/block/dm-{number}/dm/uuid"
    file.parent.mkdir(parents=True)
    file.write_text(f"{name}\n")


def opened(host: World, key: str | bytes) -> list[bool]:
    """Which disks a key opens."""
    secret = key.encode() if isinstance(key, str) else key
    argv = ("cryptsetup", "open", "--test-passphrase", "--key-file", "-")
    return [
        subprocess.run((*argv, disk.device), input=secret, capture_output=True, check=False).returncode == 0
        for disk in disks(host)
    ]


def headers(host: World) -> list[str]:
    """The disks' bytes."""
    return [hashlib.sha256(Path(disk.device).read_bytes()).hexdigest() for disk in disks(host)]


def taken(keys: list[str]) -> Callable[[str, str], bool]:
    """Somebody who writes the key down."""

    def show(name: str, key: str) -> bool:
        assert name == "hv1"
        keys.append(key)
        return True

    return show


@pytest.mark.parametrize("by", ["passphrase", "recovery key"])
def test_the_new_key_takes_the_place_of_the_one_before(
    host: World, runner: Runner, old: str, by: str
) -> None:
    keys: list[str] = []
    (host.root / "boot").mkdir()
    (host.root / "boot/recovery-key-hv1.age").write_text("sealed")
    secret = PASSPHRASE if by == "passphrase" else old.encode()
    assert renew(host, runner, secret, taken(keys)) == ("/boot/recovery-key-hv1.age",)
    assert opened(host, keys[0]) == [True, True] and opened(host, old) == [False, False]
    assert opened(host, PASSPHRASE) == [True, True]
    for disk in disks(host):
        said = runner.run(("systemd-cryptenroll", disk.device)).text
        assert len(re.findall(r"recovery", said)) == 1, said
    history = (host.root / FILE.lstrip("/")).read_text()
    assert '"recovery-key"' in history and keys[0] not in history


def test_a_host_that_never_had_one_gets_one(host: World, runner: Runner) -> None:
    keys: list[str] = []
    assert renew(host, runner, PASSPHRASE, taken(keys)) == ()
    assert opened(host, keys[0]) == [True, True]


def test_what_does_not_open_every_disk_changes_none(host: World, runner: Runner, old: str) -> None:
    """Of the second disk the passphrase is another."""
    second = disks(host)[1].device
    runner.run(
        ("cryptsetup", "luksChangeKey", "--key-slot", "0", *CHEAP, second),
        stdin=PASSPHRASE + b"\nanother\n",
    )
    before = headers(host)
    with pytest.raises(HyperError, match="does not open the disk") as caught:
        renew(host, runner, PASSPHRASE, taken([]))
    assert disks(host)[1].uuid in caught.value.what
    assert headers(host) == before and opened(host, old) == [True, True]


def test_another_disk_under_the_name_is_not_written_to(host: World, runner: Runner, old: str) -> None:
    """Its link leads elsewhere since."""
    one, two = (Path(disk.device) for disk in disks(host))
    file = two.resolve()
    two.unlink()
    two.symlink_to(one.resolve())
    before = hashlib.sha256(file.read_bytes()).digest()
    with pytest.raises(HyperError, match="is another disk"):
        renew(host, runner, PASSPHRASE, taken([]))
    assert hashlib.sha256(file.read_bytes()).digest() == before and opened(host, old)[0]


def test_a_key_that_nobody_took_down_is_taken_away(host: World, runner: Runner, old: str) -> None:
    keys: list[str] = []

    def gone(name: str, key: str) -> bool:
        keys.append(key)
        return False

    with pytest.raises(HyperError, match="taken away again"):
        renew(host, runner, PASSPHRASE, gone)
    assert opened(host, keys[0]) == [False, False] and opened(host, old) == [True, True]


def test_no_encrypted_disk(tmp_path: Path, runner: Runner) -> None:
    with pytest.raises(HyperError, match="no encrypted disk"):
        disks(World(programs=runner, root=tmp_path, journal=Journal()))


def test_cut_off_before_every_write(host: World, runner: Runner, old: str) -> None:
    """Which is after the one before, too: the key from before opens all disks, or the one that was shown. The next run leaves
    the passphrase and one key, and none that nobody knows.
    """
    files = [Path(disk.device).resolve() for disk in disks(host)]
    whole = [file.read_bytes() for file in files]
    writes, went_through, unknown = 0, False, 0
    while not went_through:
        for file, content in zip(files, whole, strict=True):
            file.write_bytes(content)
        keys: list[str] = []
        cut = Cut(NoLog(), PATH)
        cut.left = writes
        try:
            renew(host, cut, PASSPHRASE, taken(keys))
            went_through = True
        except CutError:
            writes += 1
        assert [True, True] in [opened(host, key) for key in (*keys, old)], f"cut before write {writes}"
        assert opened(host, PASSPHRASE) == [True, True]
        said: list[str] = []
        again = replace(host, journal=Journal(emit=said.append))
        renew(again, runner, PASSPHRASE, taken(keys))
        unknown += len(said)
        for disk in disks(host):
            header = keyslots.header(runner, disk.device)
            assert len(header["keyslots"]) == 2 and len(header["tokens"]) == 1, f"cut before write {writes}"
        assert opened(host, keys[-1]) == [True, True]
    assert writes == 12, (
        "on two disks: announced, the key, its mark, no longer announced; the old one's mark, and key"
    )
    assert unknown == 2, "each disk's new key before its mark"


def test_what_somebody_put_into_an_announced_slot_stays(host: World, runner: Runner, old: str) -> None:
    """Cut off right after it was announced; then an administrator adds a passphrase, and on the other disk a token."""
    one, two = (disk.device for disk in disks(host))
    theirs = b"an administrator's own"
    for device in (one, two):
        keyslots.announce(runner, device, 2)
    stretched = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "2000")
    runner.run(
        ("cryptsetup", "luksAddKey", "--batch-mode", *stretched, one),
        stdin=PASSPHRASE + b"\n" + theirs + b"\n",
    )
    put_recovery_key(runner, two, 2, PASSPHRASE, theirs.decode())
    assert [keyslots.settle(runner, device) for device in (one, two)] == [(), ()]
    assert opened(host, theirs) == [True, True]
    assert "announced" not in str([keyslots.header(runner, device) for device in (one, two)])


def test_after_a_cut_the_next_run_leaves_one_key(host: World, runner: Runner, old: str) -> None:
    shown: list[str] = []
    for left in (6, 10):  # the second disk's key not yet marked; the second disk's old key still there
        cut = Cut(NoLog(), PATH)
        cut.left = left
        with pytest.raises(CutError):
            renew(host, cut, PASSPHRASE, taken(shown))
    keys: list[str] = []
    renew(host, runner, PASSPHRASE, taken(keys))
    assert opened(host, keys[0]) == [True, True]
    assert [opened(host, key) for key in (old, *shown)] == [[False, False]] * (1 + len(shown)) and shown
    for disk in disks(host):
        assert len(re.findall("recovery", runner.run(("systemd-cryptenroll", disk.device)).text)) == 1


@pytest.mark.root
def test_on_a_terminal(host: World, old: str) -> None:
    """As an administrator does it: the passphrase is not shown, the key once, and gone from the screen afterwards."""
    command = [sys.executable, "-m", "hv", "security", "--root", str(host.root), "recovery-key"]
    piped = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert piped.returncode == 2 and "no terminal" in piped.stderr, piped.stderr
    with Terminal(command, {"PATH": PATH}) as screen:
        screen.until("of 2 encrypted disks:")
        screen.send(f"{PASSPHRASE.decode()}\n")
        screen.until("last 8 letters")
        key = next(found[0] for found in [re.search(r"[a-z]{8}(-[a-z]{8}){7}", screen.text())] if found)
        assert "correct horse" not in screen.text()
        screen.send("nonsense\n")
        screen.until("not its last letters")
        screen.send(f"{key[-8:]}\n")
        screen.until("opens nothing any more")
        assert key not in screen.text()
        assert screen.end() == 0
    assert opened(host, key) == [True, True] and opened(host, old) == [False, False]
