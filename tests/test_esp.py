"""Mirrored EFI system partitions: on real FAT, with the power cut at every write, and with the real efibootmgr.

The kernel's vfat is used where there is one, else fusefat: a FAT in an image file either way, which fsck.vfat judges.
"""

import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hv.commands import esp
from hv.esp import firmware, notice, partition, writing
from hv.esp.difference import difference
from hv.esp.firmware import Place, ensure_entry, has_entry, place_of, put_first
from hv.esp.inventory import PARTIAL, take
from hv.esp.partition import Mount, Partition, mounts, opened
from hv.esp.settings import read_settings
from hv.esp.status import Report, State, status
from hv.esp.sync import sync
from hv.esp.writing import Disk
from installer.errors import Exit, HyperError
from installer.execute.log import Log, NoLog, Redactor
from installer.execute.runner import Finished, Runner

MIB = 2**20
SIZE = 6 * 1024
"""Of kernels and initrds: two pieces."""
Files = dict[str, bytes]

KERNEL = {name: f"EFI/nixos/{name}-linux-6.18-bzImage.efi" for name in "abc"}
INITRD = {name: f"EFI/nixos/{name}-initrd-linux-6.18-initrd.efi" for name in "abc"}


def generation(name: str, size: int = SIZE) -> Files:
    """Kernel, initrd and entry of one generation."""
    text = (
        f"title NixOS\nlinux /{KERNEL[name]}\ninitrd /{INITRD[name]}\noptions init=/nix/store/{name}/init\n"
    )
    return {
        KERNEL[name]: name.encode() * size,
        INITRD[name]: name.upper().encode() * size,
        f"loader/entries/nixos-{name * 8}.conf": text.encode(),
    }


def loader(default: str, manager: bytes = b"MZ manager 1") -> Files:
    """The boot manager, with its default."""
    return {
        "EFI/systemd/systemd-bootx64.efi": manager * 100,
        "EFI/BOOT/BOOTX64.EFI": manager * 100,
        "loader/loader.conf": f"timeout 5\ndefault nixos-{default * 8}.conf\neditor 0\n".encode(),
        "loader/entries.srel": b"type1\n",
    }


SEED: Files = {"loader/random-seed": b"never copied"}
BEFORE: Files = generation("a") | generation("b") | loader("b")
AFTER: Files = generation("b") | generation("c") | loader("c", b"MZ manager 2")
FOREIGN: Files = {
    "EFI/Microsoft/Boot/bootmgfw.efi": b"windows",
    "loader/entries/arch.conf": b"title Arch\nlinux /vmlinuz-linux\n",
    "vmlinuz-linux": b"arch",
}


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def read(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def boots(files: Files, good: Sequence[Files]) -> list[str]:
    """What would not boot of an ESP with these files, found without our own code.

    Whatever can be started must have, byte for byte, one of the contents that were ever meant.
    """
    meant: dict[str, set[bytes]] = {}
    for each in good:
        for path, content in each.items():
            meant.setdefault(path, set()).add(content)
    wrong = []
    entries = {path for path in files if path.startswith("loader/entries/") and path.endswith(".conf")}
    for entry in entries:
        for line in files[entry].decode().splitlines():
            if line.split()[:1] in (["linux"], ["initrd"]):
                path = line.split()[1].lstrip("/")
                if files.get(path) not in meant.get(path, set()):
                    wrong.append(f"{entry}: {path}")
    default = files.get("loader/loader.conf", b"").decode().partition("default ")[2].split("\n")[0]
    if f"loader/entries/{default}" not in entries:
        wrong.append(f"default {default!r}")
    for path in ("EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"):
        if files.get(path) not in meant[path]:
            wrong.append(path)
    return wrong


# FAT, mounted.


def has_vfat() -> bool:
    return "vfat" in Path("/proc/filesystems").read_text().split()


def mount_fat(image: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if has_vfat():
        subprocess.run(("mount", "-t", "vfat", "-o", "loop", image, folder), check=True)
        return
    subprocess.run(("fusefat", "-o", "rw+", image, folder), check=True, capture_output=True)
    end = time.monotonic() + 20
    while not folder.is_mount():
        assert time.monotonic() < end
        time.sleep(0.01)


def unmount(folder: Path) -> None:
    command = ("umount", folder) if has_vfat() else ("fusermount", "-u", folder)
    subprocess.run(command, check=True, capture_output=True)


def make_fat(image: Path, size: int = 40 * MIB) -> None:
    with image.open("wb") as stream:
        stream.truncate(size)
    subprocess.run(("mkfs.vfat", "-F", "32", "-s", "1", image), check=True, capture_output=True)


@dataclass(frozen=True)
class Esps:
    """A source and a mirror, both mounted."""

    source: Path
    mirror: Path
    images: tuple[Path, Path]
    said: list[str] = field(default_factory=list)

    def sync(self, disk: Disk | None = None) -> HyperError | None:
        (done,) = sync(self.source, (self.mirror,), disk or Disk(), self.said.append)
        return done.error

    def status(self) -> tuple[State, State]:
        source, mirror = status(self.source, (self.mirror,)).states
        return source, mirror


@pytest.fixture
def esps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Esps]:
    monkeypatch.setattr(partition, "FILE_SYSTEMS", {*partition.FILE_SYSTEMS, "fusefat"})
    monkeypatch.setattr(writing, "CHUNK", 4 * 1024)
    # In memory: what is slow on a busy disk is each fsync of the image, which proves nothing here.
    memory = tmp_path / "memory"
    memory.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "tmpfs", memory), check=True)
    images = (memory / "a.img", memory / "b.img")
    folders = (tmp_path / "boot", tmp_path / "boot2")
    mounted = []
    try:
        for image, folder in zip(images, folders, strict=True):
            make_fat(image)
            mount_fat(image, folder)
            mounted.append(folder)
        yield Esps(*folders, images)
    finally:
        for folder in mounted:
            if folder.is_mount():
                unmount(folder)
        # fusefat lets go of its image a moment after its mount is gone.
        subprocess.run(("umount", "--lazy", memory), check=True)


@pytest.fixture
def sized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Esps]:
    """On a file system that tells how much room there is, which fusefat does not: the kernel's vfat, or tmpfs."""
    kind = "vfat" if has_vfat() else "tmpfs"
    monkeypatch.setattr(partition, "FILE_SYSTEMS", {kind})
    images = (tmp_path / "a.img", tmp_path / "b.img")
    folders = (tmp_path / "boot", tmp_path / "boot2")
    for image, folder in zip(images, folders, strict=True):
        folder.mkdir()
        make_fat(image)
        options = "loop" if has_vfat() else "size=40M"
        what = image if has_vfat() else "tmpfs"
        subprocess.run(("mount", "-t", kind, "-o", options, what, folder), check=True)
    try:
        yield Esps(*folders, images)
    finally:
        for folder in folders:
            subprocess.run(("umount", folder), check=True)


def fsck(image: Path) -> str:
    done = subprocess.run(("fsck.vfat", "-n", image), capture_output=True, text=True, check=False)
    # fusefat sets the mark of a mounted FAT and never takes it away.
    harmless = ("fsck.fat", "Dirty bit", "Automatically removing dirty", "Leaving filesystem", str(image))
    said = [line.strip() for line in done.stdout.splitlines()]
    return "\n".join(line for line in said if line and not line.startswith(harmless))


@pytest.mark.root
def test_a_mirror_becomes_what_the_source_is(esps: Esps) -> None:
    write(esps.source, BEFORE | SEED)
    assert esps.sync() is None
    assert read(esps.mirror) == BEFORE
    first = esps.said.pop()
    assert f"{len(BEFORE)} files written, 0 removed" in first
    assert esps.sync() is None
    assert "0 files written, 0 removed" in esps.said.pop()

    empty(esps.source)
    write(esps.source, AFTER | SEED)
    write(esps.mirror, FOREIGN)
    assert esps.sync() is None
    assert read(esps.mirror) == AFTER | FOREIGN, "other systems' files stay, stale generations go"
    good, mirrored = esps.status()
    assert (good.trouble, mirrored.trouble, mirrored.entries) == ((), (), 2)
    assert mirrored.default == "nixos-cccccccc"
    for folder, image in zip((esps.source, esps.mirror), esps.images, strict=True):
        unmount(folder)
        assert fsck(image) == ""


@pytest.mark.root
def test_extra_files_are_mirrored_and_taken_away_again(esps: Esps) -> None:
    extra = {
        "EFI/memtest86/memtest.efi": b"memtest",
        "EFI/nixos/.extra-files/EFI/memtest86/memtest.efi": b"",
        "loader/entries/memtest86.conf": b"title Memtest\nefi /EFI/memtest86/memtest.efi\n",
        "EFI/nixos/.extra-files/loader/entries/memtest86.conf": b"",
    }
    write(esps.source, BEFORE | extra)
    assert esps.sync() is None
    assert read(esps.mirror) == BEFORE | extra
    for path in extra:
        (esps.source / path).unlink()
    assert [line for line in esps.status()[1].trouble if "is not on the source" in line]
    assert esps.sync() is None
    assert read(esps.mirror) == BEFORE


@pytest.mark.root
def test_fallback_is_the_manager_also_where_the_source_lost_its_own(esps: Esps) -> None:
    write(esps.source, BEFORE)
    (esps.source / "EFI/BOOT/BOOTX64.EFI").unlink()
    assert "firmware starts when its menu lost the disk" in esps.status()[0].trouble[0]
    assert esps.sync() is None
    assert read(esps.mirror) == BEFORE


# Power cuts.


class Cut(Disk):
    """Kills its process before the n-th step; without a number it counts."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps = 0

    def _step(self) -> None:
        if self.steps == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += 1

    def make_folder(self, path: Path) -> None:
        self._step()
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write(self, handle: int, data: bytes) -> None:
        # Cut in the middle of the data too.
        self._step()
        super().write(handle, data[: len(data) // 2])
        self._step()
        super().write(handle, data[len(data) // 2 :])

    def flush(self, handle: int) -> None:
        self._step()
        super().flush(handle)

    def replace(self, old: Path, new: Path) -> None:
        self._step()
        super().replace(old, new)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)


def _sync_until(esps: Esps, at: int) -> None:
    os._exit(0 if esps.sync(Cut(at)) is None else 1)


@pytest.mark.root
def test_killed_at_every_write_the_mirror_boots_and_the_next_run_completes(esps: Esps) -> None:
    """From nothing (the installer's first copy has nothing to lose) and from an older generation."""
    write(esps.source, AFTER)
    write(esps.mirror, BEFORE)
    counter = Cut()
    assert esps.sync(counter) is None
    assert counter.steps > 5 * (len(AFTER) - len(BEFORE.keys() & AFTER.keys())), "each file has its steps"
    fork = multiprocessing.get_context("fork")
    seen = set()
    for at in range(counter.steps):
        for path in AFTER.keys() | BEFORE.keys():
            if AFTER.get(path) != BEFORE.get(path):
                (esps.mirror / path).unlink(missing_ok=True)
        write(esps.mirror, {path: text for path, text in BEFORE.items() if AFTER.get(path) != text})
        child = fork.Process(target=_sync_until, args=(esps, at))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL, at
        left = read(esps.mirror)
        assert boots(left, (BEFORE, AFTER)) == [], f"step {at} of {counter.steps}"
        seen.add(hashlib.sha256(repr(sorted(left)).encode()).hexdigest())
        assert esps.sync() is None
        assert read(esps.mirror) == AFTER, f"after step {at}"
    assert len(seen) > 10, "the cuts left different states"
    print(f"{counter.steps} of {counter.steps} cuts")


@dataclass
class Recorder(Disk):
    """Does it, and writes down each step."""

    top: Path
    steps: list[tuple[str, str, bytes | str]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)

    def _path(self, path: Path) -> str:
        # /proc/self/fd/N/…: everything after the number.
        return "/".join(path.parts[5:])

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)

    def create(self, path: Path) -> int:
        handle = super().create(path)
        self.names[handle] = self._path(path)
        self.steps.append(("create", self._path(path), b""))
        return handle

    def write(self, handle: int, data: bytes) -> None:
        super().write(handle, data)
        self.steps.append(("write", self.names[handle], data))

    def flush(self, handle: int) -> None:
        super().flush(handle)
        self.steps.append(("flush", self.names[handle], b""))

    def replace(self, old: Path, new: Path) -> None:
        super().replace(old, new)
        self.steps.append(("replace", self._path(old), self._path(new)))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.steps.append(("remove", self._path(path), b""))

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        self.steps.append(("sync", self._path(path), b""))


Step = tuple[str, str, bytes | str]


@dataclass
class PessimisticDisk:
    """What a power cut may leave: of everything that was not flushed, any part.

    A name is on the disk once its folder was flushed, content once the file was. Until then each change of a folder may
    have happened or not, whatever others did; a rename may also have left both names, as FAT's does; content may be
    nothing, half, or all.
    """

    files: Files
    pending: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=dict)
    flushed: dict[str, bool] = field(default_factory=dict)

    def apply(self, step: Step) -> None:
        kind, path, more = step
        match kind:
            case "create":
                self.content[path], self.flushed[path] = b"", False
                self.pending.append(("create", path, path, b""))
            case "write":
                assert isinstance(more, bytes)
                self.content[path] += more
                self.flushed[path] = False
            case "flush":
                self.flushed[path] = True
            case "replace":
                assert isinstance(more, str)
                self.pending.append(("replace", path, more, b""))
            case "remove":
                self.pending.append(("remove", path, path, b""))
            case "sync":
                done = [each for each in self.pending if str(Path(each[2]).parent) == path]
                self.files = self._with(self.files, [(each, "yes") for each in done], "all")
                self.pending = [each for each in self.pending if each not in done]

    def states(self) -> Iterator[Files]:
        for chosen in itertools.product(("no", "both", "yes"), repeat=len(self.pending)):
            choice = [(each, how) for each, how in zip(self.pending, chosen, strict=True) if how != "no"]
            for amount in ("none", "half", "all"):
                yield self._with(self.files, choice, amount)

    def _with(
        self, files: Files, choice: Sequence[tuple[tuple[str, str, str, bytes], str]], amount: str
    ) -> Files:
        made = dict(files)
        for (kind, path, target, _), how in choice:
            if kind == "remove":
                made.pop(path, None)
                continue
            content = self.content[path]
            if not self.flushed[path]:
                content = content[: {"none": 0, "half": len(content) // 2, "all": len(content)}[amount]]
            if kind == "replace" and how == "yes":
                made.pop(path, None)
            made[target] = content
        return made


def crash_states(steps: Sequence[Step], before: Files, first: int = 0) -> Iterator[tuple[int, Files]]:
    disk = PessimisticDisk(before)
    for number, step in enumerate(steps):
        disk.apply(step)
        if number < first:
            continue
        for state in disk.states():
            yield number, state


@pytest.fixture
def recorded(esps: Esps) -> list[Step]:
    """What a sync does to a mirror with an older generation and a torn file of an earlier cut."""
    write(esps.source, AFTER)
    write(esps.mirror, BEFORE | {KERNEL["c"] + PARTIAL: b"torn"})
    recorder = Recorder(esps.mirror)
    assert esps.sync(recorder) is None
    return list(recorder.steps)


@pytest.mark.root
def test_whatever_the_cache_lost_the_mirror_boots(recorded: list[Step]) -> None:
    before = BEFORE | {KERNEL["c"] + PARTIAL: b"torn"}
    count = 0
    for number, state in crash_states(recorded, before):
        count += 1
        assert boots(state, (BEFORE, AFTER)) == [], f"step {number}: {recorded[number][:2]}"
    assert count > 3 * len(recorded)
    print(f"{count} states after {len(recorded)} steps")


@pytest.mark.root
@pytest.mark.parametrize("careless", ["flush", "sync", "order"])
def test_the_proof_would_notice_carelessness(recorded: list[Step], careless: str) -> None:
    if careless == "order":  # the default before what it names
        at = next(i for i, step in enumerate(recorded) if step[1] == "loader/loader.conf" + PARTIAL)
        steps = [*recorded[at:], *recorded[:at]]
    else:
        # Of the folders' flushes one kind is enough, and keeps the states few.
        steps = [
            step
            for step in recorded
            if step[0] != careless or (careless == "sync" and step[1] != str(Path(KERNEL["c"]).parent))
        ]
    entries = next(i for i, step in enumerate(steps) if step[:2] == ("sync", "loader/entries"))
    first = entries if careless == "sync" else 0
    states = itertools.islice(crash_states(steps, BEFORE, first), 20000)
    assert any(boots(state, (BEFORE, AFTER)) for _, state in states)


# What is refused, and how it is said.


@pytest.mark.root
def test_no_room_is_refused_before_anything_changes(sized: Esps) -> None:
    ballast = {"ballast": b"\0" * (33 * MIB)}
    before = generation("a", 3 * MIB // 2) | generation("b", 3 * MIB // 2) | loader("b")
    after = generation("b", 3 * MIB // 2) | generation("c", 3 * MIB // 2) | loader("c")
    write(sized.mirror, before | ballast)
    write(sized.source, after)
    error = sized.sync()
    assert error is not None and error.code is Exit.unsuitable
    assert "not enough room" in error.what and "nothing on it was changed" in error.what
    assert "3.0 MiB are needed" in error.why and "are lacking" in error.why
    assert "3.0 MiB belong to old generations" in error.why
    assert read(sized.mirror) == before | ballast
    (sized.mirror / "ballast").unlink()
    assert sized.sync() is None


@pytest.mark.root
def test_room_is_counted_rather_too_high_than_too_low(sized: Esps) -> None:
    """Fills the mirror to exactly what is asked for: then it fits."""
    write(sized.source, AFTER)
    write(sized.mirror, BEFORE)
    with opened(sized.source) as source, opened(sized.mirror) as mirror:
        held = take(mirror.folder)
        plan = difference(take(source.folder), held, lambda *_: False)
        told = os.statvfs(mirror.folder)
        needed = plan.room(told.f_frsize)
    spare = told.f_bavail * told.f_frsize - needed
    (sized.mirror / "ballast").write_bytes(b"\0" * (spare // told.f_frsize * told.f_frsize))
    assert sized.sync() is None
    assert read(sized.mirror).keys() - {"ballast"} == AFTER.keys()


@pytest.mark.root
def test_an_unmounted_mirror_gets_nothing(esps: Esps, capsys: pytest.CaptureFixture[str]) -> None:
    write(esps.source, BEFORE)
    unmount(esps.mirror)
    error = esps.sync()
    assert error is not None and error.code is Exit.busy
    assert error.what == f"No EFI system partition is mounted at {esps.mirror}."
    assert list(esps.mirror.iterdir()) == []
    assert "No EFI system partition is mounted" in esps.status()[1].trouble[0]
    words = ["--source", str(esps.source), "--mirror", str(esps.mirror), "--no-variables"]
    assert esp.main([*words, "sync"]) == Exit.failed
    assert "No EFI system partition is mounted" in capsys.readouterr().err
    esps.mirror.rmdir()
    gone = esps.sync()
    assert gone is not None and "No such file or directory" in gone.why


@pytest.mark.root
def test_one_mirror_that_fails_keeps_no_other_from_being_written(esps: Esps, tmp_path: Path) -> None:
    write(esps.source, BEFORE)
    bad, good = sync(esps.source, (tmp_path / "none", esps.mirror), Disk(), print)
    assert bad.error is not None and good.error is None
    assert read(esps.mirror) == BEFORE


@pytest.mark.root
@pytest.mark.parametrize(
    "lost", ["loader/entries/nixos-bbbbbbbb.conf", KERNEL["b"], "loader", "EFI/systemd"]
)
def test_a_source_that_would_not_boot_spoils_no_mirror(esps: Esps, lost: str) -> None:
    write(esps.source, BEFORE)
    assert esps.sync() is None
    path = esps.source / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(HyperError, match="would not boot; its mirrors are left as they are"):
        esps.sync()
    assert read(esps.mirror) == BEFORE


@pytest.mark.root
def test_an_unmounted_source_spoils_no_mirror(esps: Esps) -> None:
    write(esps.mirror, BEFORE)
    unmount(esps.source)
    with pytest.raises(HyperError, match=f"No EFI system partition is mounted at {esps.source}"):
        esps.sync()
    assert read(esps.mirror) == BEFORE
    source, mirror = esps.status()
    assert "No EFI system partition" in source.trouble[0]
    assert mirror.trouble == (), "it boots alone"


@pytest.mark.root
def test_an_older_entry_that_the_source_broke_stays_whole_on_the_mirror(esps: Esps) -> None:
    write(esps.source, BEFORE)
    assert esps.sync() is None
    (esps.source / INITRD["a"]).unlink()
    assert esps.sync() is None
    assert "nixos-aaaaaaaa.conf is left out" in "".join(esps.said)
    assert read(esps.mirror) == BEFORE


@pytest.mark.root
def test_the_same_partition_twice_is_no_mirror(esps: Esps, tmp_path: Path) -> None:
    write(esps.source, BEFORE)
    again = tmp_path / "again"
    again.mkdir()
    subprocess.run(("mount", "--bind", esps.source, again), check=True)
    try:
        (done,) = sync(esps.source, (again,), Disk(), print)
    finally:
        subprocess.run(("umount", again), check=True)
    assert done.error is not None and "is the same partition as" in done.error.what


@pytest.mark.root
def test_other_file_systems_are_no_esp(esps: Esps) -> None:
    write(esps.source, BEFORE)
    (done,) = sync(esps.source, (Path("/proc"),), Disk(), print)
    assert done.error is not None and "is no EFI system partition" in done.error.what
    (done,) = sync(esps.source, (Path("/usr"),), Disk(), print)
    assert done.error is not None and "No EFI system partition is mounted at /usr" in done.error.what


@pytest.mark.root
def test_a_read_only_mirror_is_named(esps: Esps) -> None:
    """What the kernel makes of a FAT with errors on it."""
    write(esps.source, BEFORE)
    subprocess.run(("mount", "-o", "remount,bind,ro", esps.mirror), check=True)
    error = esps.sync()
    subprocess.run(("mount", "-o", "remount,bind,rw", esps.mirror), check=True)
    assert error is not None and error.what == f"{esps.mirror} is mounted read-only."


class Failing(Disk):
    """A disk that is full, or reads back other than what was written."""

    def __init__(self, *, full: bool = False, lying: bool = False) -> None:
        self.full, self.lying = full, lying

    def write(self, handle: int, data: bytes) -> None:
        if self.full:
            raise OSError(errno.EIO, "Input/output error")
        super().write(handle, b"\xff" + data[1:] if self.lying else data)


@pytest.mark.root
@pytest.mark.parametrize("how", ["full", "lying"])
def test_a_failing_disk_keeps_what_it_had(esps: Esps, how: str) -> None:
    write(esps.source, AFTER)
    write(esps.mirror, BEFORE)
    error = esps.sync(Failing(**{how: True}))
    assert error is not None
    assert ("Input/output error" if how == "full" else "what was read back") in error.why
    left = {path: content for path, content in read(esps.mirror).items() if not path.endswith(PARTIAL)}
    assert left == BEFORE


# Status.


@pytest.mark.root
def test_each_kind_of_drift_is_seen(esps: Esps) -> None:
    write(esps.source, BEFORE)
    write(esps.mirror, BEFORE)
    assert esps.status()[1].trouble == ()
    changes: dict[str, tuple[str, bytes | None, str]] = {
        "a flipped bit": (KERNEL["b"], b"B" + BEFORE[KERNEL["b"]][1:], "differs"),
        "a lost initrd": (
            INITRD["a"],
            None,
            "loads EFI/nixos/a-initrd-linux-6.18-initrd.efi, which is not there",
        ),
        "an older default": ("loader/loader.conf", b"default nixos-aaaaaaaa.conf\n", "loader.conf differs"),
        "a default that is gone": (
            "loader/loader.conf",
            b"default nixos-x.conf\n",
            "is not there or not whole",
        ),
        "one entry more": (
            "loader/entries/nixos-z.conf",
            b"linux /EFI/nixos/z.efi\n",
            "is not on the source",
        ),
        "a torn file": (KERNEL["c"] + PARTIAL, b"torn", "was left half written"),
        "an empty kernel": (KERNEL["b"], b"", "which is not there"),
    }
    for name, (path, content, said) in changes.items():
        (esps.mirror / path).unlink(missing_ok=True)
        write(esps.mirror, {} if content is None else {path: content})
        trouble = esps.status()[1].trouble
        assert any(said in line for line in trouble), (name, trouble)
        assert esps.sync() is None
        assert esps.status()[1].trouble == (), name


@pytest.mark.root
def test_a_count_of_tries_is_no_drift(esps: Esps) -> None:
    write(esps.source, BEFORE)
    write(esps.mirror, BEFORE)
    entry = esps.mirror / "loader/entries/nixos-bbbbbbbb.conf"
    entry.rename(entry.with_name("nixos-bbbbbbbb+2-1.conf"))
    assert esps.status()[1].trouble == ()
    assert esps.status()[1].default == "nixos-bbbbbbbb"


@pytest.mark.root
def test_the_command(esps: Esps, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(esps.source, BEFORE)
    config = tmp_path / "esp.json"
    settings = {"source": str(esps.source), "mirrors": [str(esps.mirror)], "variables": False}
    config.write_text(json.dumps(settings))
    words = ["--config", str(config)]
    assert esp.main([*words, "status"]) == Exit.failed
    assert "mirror  FAILED  0 entries" in capsys.readouterr().out
    assert esp.main([*words, "sync"]) == Exit.ok
    assert esp.main([*words, "status", "--json"]) == Exit.ok
    told = json.loads(capsys.readouterr().out.partition("removed\n")[2])
    assert told["good"] is True
    assert [part["entries"] for part in told["partitions"]] == [2, 2]


def test_the_notice_comes_and_goes(tmp_path: Path) -> None:
    bad = Report((State("/boot"), State("/boot2", trouble=("x differs",))))
    notice.notify(bad, tmp_path)
    text = (tmp_path / notice.NOTICE_FILE).read_text()
    assert "Boot partitions do not agree: /boot2" in text
    notice.notify(Report((State("/boot"), State("/boot2"))), tmp_path)
    assert not (tmp_path / notice.NOTICE_FILE).exists()
    assert "FAILED" in bad.text() and "x differs" in bad.text()


@pytest.mark.parametrize("text", ["{", '{"source": "boot"}', '{"source": "/boot", "mirror": []}'])
def test_damaged_settings_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "esp.json"
    path.write_text(text)
    with pytest.raises(HyperError, match=r"esp\.json cannot be read"):
        read_settings(path)
    with pytest.raises(HyperError, match="no mirrored EFI"):
        read_settings(tmp_path / "none.json")


def test_mountinfo_is_read_as_the_kernel_writes_it() -> None:
    (mount,) = mounts(
        r"36 35 98:0 / /boot\0402 ro,noatime master:1 - vfat /dev/sda1 rw,errors=remount-ro" + "\n"
    )
    assert mount == Mount(36, "98:0", "/", "/boot 2", "vfat", True)
    (mount,) = mounts("36 35 98:0 /x /boot rw shared:1 master:2 - fuse.fusefat f rw\n")
    assert (mount.root, mount.kind, mount.read_only) == ("/x", "fusefat", False)


# The firmware's boot menu, by the real efibootmgr and variables in a folder.


@dataclass(frozen=True)
class Counted:
    """Programs, and how often each was run."""

    real: Runner
    ran: list[str] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,
        check: bool = True,
    ) -> Finished:
        self.ran.append(" ".join(argv[:2]))
        return self.real.run(argv, stdin=stdin, timeout=timeout, check=check)


@dataclass(frozen=True)
class Machine:
    """A disk with two ESPs' partitions, and a firmware."""

    disk: str
    sysfs: Path
    programs: Counted

    def place(self, part: int = 1) -> Place:
        mount = Mount(1, f"7:{part}", "/", "/boot2", "vfat", False)
        return place_of(Partition(Path("/boot2"), Path("/boot2"), mount), self.programs, self.sysfs)

    def menu(self) -> str:
        return self.programs.real.run(("efibootmgr", "--verbose"), timeout=20).text


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    image = tmp_path / "disk.img"
    with image.open("wb") as stream:
        stream.truncate(64 * MIB)
    table = b"label: gpt\nstart=2048,size=20480,type=U\nstart=24576,size=20480,type=U\n"
    subprocess.run(("sfdisk", "-q", image), input=table, check=True)
    disk = subprocess.run(
        ("losetup", "--find", "--show", image), check=True, capture_output=True, text=True
    ).stdout.strip()
    sysfs = tmp_path / "sys"
    for part in (1, 2):
        folder = sysfs / f"devices/{Path(disk).name}/part{part}"
        folder.mkdir(parents=True)
        (folder / "partition").write_text(f"{part}\n")
        (sysfs / "dev/block").mkdir(parents=True, exist_ok=True)
        (sysfs / f"dev/block/7:{part}").symlink_to(folder)
    variables = tmp_path / "efivars"
    variables.mkdir()
    environment = {"EFIVARFS_PATH": f"{variables}/", "LIBEFIVAR_OPS": "efivarfs"}
    runner = Runner(Log(tmp_path / "log", Redactor()), os.environ["PATH"], environment=environment)
    try:
        yield Machine(disk, sysfs, Counted(runner))
    finally:
        subprocess.run(("losetup", "--detach", disk), check=True)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    write(tmp_path / "esp", BEFORE)
    return tmp_path / "esp"


@pytest.mark.root
def test_each_disk_gets_one_entry_after_those_that_are_there(machine: Machine, held: Path) -> None:
    found = take(held)
    first = machine.programs.real.run(
        (
            "efibootmgr",
            "--create",
            "--disk",
            machine.disk,
            "--part",
            "2",
            "--label",
            "first",
            "--loader",
            r"\x.efi",
        )
    )
    assert "BootOrder: 0000" in first.text
    assert not has_entry(machine.place(), found, machine.programs)
    did = ensure_entry(machine.place(), found, machine.programs)
    assert did is not None and "new entry" in did
    menu = machine.menu()
    assert "BootOrder: 0000,0001" in menu
    assert machine.place().uuid in menu.split("Boot0001")[1]
    assert r"\EFI\systemd\systemd-bootx64.efi" in menu.split("Boot0001")[1]
    assert has_entry(machine.place(), found, machine.programs)
    assert ensure_entry(machine.place(), found, machine.programs) is None
    assert machine.menu() == menu

    # Firmware truncates a variable that is written anew, a folder does not.
    machine.programs.real.run(("efibootmgr", "--delete-bootorder"))
    machine.programs.real.run(("efibootmgr", "--bootorder", "0000"))
    assert not has_entry(machine.place(), found, machine.programs)
    did = ensure_entry(machine.place(), found, machine.programs)
    assert did is not None and "boot order again" in did
    assert machine.menu() == menu
    assert ensure_entry(machine.place(2), found, machine.programs)
    assert machine.menu().count("NixOS on") == 2


@pytest.mark.root
def test_the_signed_loader_is_put_first_and_stays_there(machine: Machine, held: Path) -> None:
    ensure_entry(machine.place(), take(held), machine.programs)
    own = "EFI/hyper-nixos/systemd-bootx64.efi"
    did = put_first(machine.place(), own, "Hyper-NixOS", machine.programs)
    assert did is not None and "new entry Hyper-NixOS" in did
    menu = machine.menu()
    assert "BootOrder: 0001,0000" in menu
    assert r"\EFI\hyper-nixos\systemd-bootx64.efi" in menu.split("Boot0001")[1]
    assert put_first(machine.place(), own, "Hyper-NixOS", machine.programs) is None
    assert machine.menu() == menu
    # As `bootctl install` does it.
    machine.programs.real.run(("efibootmgr", "--bootorder", "0000,0001"))
    did = put_first(machine.place(), own, "Hyper-NixOS", machine.programs)
    assert did is not None and "first" in did
    assert machine.menu() == menu


@pytest.mark.root
def test_what_is_no_partition_and_what_the_firmware_refuses_is_said(
    machine: Machine, held: Path, tmp_path: Path
) -> None:
    mount = Mount(1, "9:9", "/", "/boot2", "vfat", False)
    with pytest.raises(HyperError, match=r"firmware cannot be told of /boot2"):
        place_of(Partition(Path("/boot2"), Path("/boot2"), mount), machine.programs, machine.sysfs)
    place = machine.place()
    broken = Runner(NoLog(), os.environ["PATH"], environment={"EFIVARFS_PATH": str(tmp_path / "none/")})
    with pytest.raises(HyperError, match="boot menu could not be changed") as caught:
        ensure_entry(place, take(held), broken)
    assert "EFI variables are not supported" in caught.value.why
    assert firmware.VARIABLES == "/sys/firmware/efi/efivars"
