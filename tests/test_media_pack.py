"""`hv media pack`: systems behind a finished image; it boots, verifies and is given back as before, and the live system finds
them. A real Nix makes the binary cache, and installs from it.
"""

import hashlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hv.cli import dispatch
from installer.commands.medium import with_packs
from installer.errors import Exit, HyperError
from installer.medium import PACKS_PATH, ReadyClosure
from iso import pack_mounts, packs, patches
from iso.commands import media_pack
from iso.doctor import diagnose
from iso.image import Image, opened
from iso.partition_tables import read_gpt
from tests.execute.rig import STORE_CONFIGURATION
from tests.media import fixture
from tests.media.fixture import STYLES, run
from tests.nixeval import nix as nixeval
from tests.plan_cases import medium

TOPLEVEL = f"{fixture.STORE}-nixos-system-kvm1"
BASE = f"/nix/store/{'1' * 32}-base"


def hv(*words: str | Path) -> int:
    """Run `hv media`."""
    return dispatch(["media", *map(str, words)])


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def narinfo(cache: Path, path: str, *references: str) -> None:
    """One store path in a cache; the archive's content is nobody's business here."""
    name = path.rpartition("/")[2][:32]
    (cache / f"nar/{name}.nar").write_bytes(path.encode() * 40)
    (cache / f"{name}.narinfo").write_text(
        f"StorePath: {path}\nURL: nar/{name}.nar\nCompression: none\nFileSize: {len(path) * 40}\n"
        f"NarSize: {len(path) * 40}\nReferences: {' '.join(each.rpartition('/')[2] for each in references)}\n"
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A binary cache with a system that refers to itself and to something else."""
    folder = tmp_path / "cache"
    (folder / "nar").mkdir(parents=True)
    (folder / "nix-cache-info").write_text("StoreDir: /nix/store\n")
    narinfo(folder, TOPLEVEL, TOPLEVEL, BASE)
    narinfo(folder, BASE)
    narinfo(folder, f"/nix/store/{'2' * 32}-nobody-wants-this")
    return folder


def image(folder: Path, name: str = "ours") -> Path:
    """A copy of an image."""
    return Path(shutil.copy(fixture.image(name), folder / "medium.iso"))


@pytest.mark.parametrize("name", list(STYLES))
def test_added_and_taken_out(
    name: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image(tmp_path, name)
    before, original = digest(path), path.read_bytes()
    with opened(path) as old:
        was = diagnose(old)
    assert hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache) == Exit.ok
    content = path.read_bytes()
    differing = [
        at for at in range(0, len(original), 512) if content[at : at + 512] != original[at : at + 512]
    ]
    with opened(path) as new:
        gpt = read_gpt(new)
        # Nothing but the header of the partition table; where there is none, nothing.
        assert differing == ([512] if gpt else [])
        assert gpt is None or (not gpt.problems and gpt.other == new.size // 512 - 1)
        assert diagnose(new) == was
        (found,) = packs.of_image(new)
        packs.check(new, found)
    assert [(each.name, each.toplevel) for each in found.closures] == [("kvm1", TOPLEVEL)]
    assert found.closures[0].nar_size == 40 * (len(TOPLEVEL) + len(BASE))
    listed = run("unsquashfs", "-offset", str(found.content), "-lls", path)
    assert "nobody" not in listed
    assert "2" * 32 not in listed
    # A second one, and the same again is the same.
    assert hv("pack", path, f"other={BASE}", "--cache", cache) == Exit.ok
    capsys.readouterr()
    assert hv("pack", path) == Exit.ok
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["kvm1:", "other:"]
    both = digest(path)
    assert hv("pack", path, "--remove") == Exit.ok
    assert digest(path) == before
    assert hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache) == Exit.ok
    assert hv("pack", path, f"other={BASE}", "--cache", cache) == Exit.ok
    assert digest(path) == both
    assert hv("pack", path, "--remove") == Exit.ok
    assert digest(path) == before
    assert hv("pack", path, "--remove") == Exit.nothing
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cache", "medium.iso"]


def test_it_verifies_as_before(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = image(tmp_path)
    assert hv("manifest", path) == Exit.ok
    manifest = ("--manifest", tmp_path / "medium.iso.manifest.json")
    before = digest(path)
    assert hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache) == Exit.ok
    assert hv("embed", path, "--kernel-argument", "hv.tried=yes") == Exit.ok
    capsys.readouterr()
    assert hv("verify", path, *manifest) == Exit.ok
    told = capsys.readouterr().out
    assert "the rest is as in the manifest" in told
    assert "system kvm1" in told
    assert "added later" in told
    assert hv("verify", path, *manifest, "--json") == Exit.ok
    assert json.loads(capsys.readouterr().out)["packs"][0]["systems"] == ["kvm1"]
    # Answers and packs do not know of each other.
    assert hv("pack", path, "--remove") == Exit.ok
    assert hv("reset", path) == Exit.ok
    assert digest(path) == before
    # One bit of what was added.
    assert hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache) == Exit.ok
    with opened(path) as new:
        (found,) = packs.of_image(new)
    with path.open("r+b") as file:
        file.seek(found.content + 200)
        byte = file.read(1)[0]
        file.seek(found.content + 200)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(HyperError) as error:
        hv("verify", path, *manifest)
    assert "kvm1 was altered" in error.value.why


def test_a_header_of_a_pack_that_was_altered(cache: Path, tmp_path: Path) -> None:
    path = image(tmp_path)
    assert hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache) == Exit.ok
    with opened(path) as new:
        (found,) = packs.of_image(new)
    with path.open("r+b") as file:
        file.seek(found.offset + 60)
        file.write(b"\xff")
    with pytest.raises(HyperError, match="cannot be read") as error:
        hv("verify", path)
    assert "header of the pack" in error.value.why


def test_what_was_cut_off_is_told_and_can_be_taken_out(cache: Path, tmp_path: Path) -> None:
    path = image(tmp_path)
    before = digest(path)
    assert hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache) == Exit.ok
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4096)
    with pytest.raises(HyperError) as error:
        hv("pack", path, f"other={BASE}", "--cache", cache)
    assert "cut off" in error.value.why
    assert hv("pack", path, "--remove") == Exit.ok
    assert digest(path) == before


@pytest.mark.parametrize("step", range(4))
def test_killed_in_the_middle_it_is_taken_away_the_next_time(
    step: int, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As power cuts leave it: whatever was written stays, and nothing tidies up."""
    path = image(tmp_path)
    before = digest(path)
    left = iter(range(step))

    def until(function: Callable[..., None]) -> Callable[..., None]:
        def stopped(*words: Any, **more: Any) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return function(*words, **more)

        return stopped

    with monkeypatch.context() as patched:
        patched.setattr(packs, "_cut", lambda *_: None)
        patched.setattr("iso.packs.apply", until(patches.apply))
        patched.setattr(packs, "_append", until(packs._append))
        with pytest.raises(KeyboardInterrupt):
            hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache)
    if step:
        with pytest.raises(HyperError) as error:
            hv("verify", path)
        assert "interrupted" in error.value.why
    assert hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache) == Exit.ok
    assert hv("verify", path) == Exit.ok
    assert hv("pack", path, "--remove") == Exit.ok
    assert digest(path) == before


@pytest.mark.root
def test_a_disk_without_room_leaves_the_image_as_it_was(cache: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    size = -(-fixture.image("ours").stat().st_size // 4096) * 4096 + (1 << 20)
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", small)
    try:
        path = image(small)
        before = digest(path)
        with pytest.raises(HyperError) as error:
            hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache)
        assert "free" in error.value.why
        assert digest(path) == before
    finally:
        run("umount", small)


def _without_archive(cache: Path) -> None:
    (cache / f"nar/{'1' * 32}.nar").write_bytes(b"")


def _without_reference(cache: Path) -> None:
    (cache / f"{'1' * 32}.narinfo").unlink()


def _leading_out(cache: Path) -> None:
    file = cache / f"{'1' * 32}.narinfo"
    file.write_text(file.read_text().replace("URL: nar/", "URL: ../cache/nar/"))


def _not_a_number(cache: Path) -> None:
    file = cache / f"{'1' * 32}.narinfo"
    file.write_text(file.read_text().replace("NarSize: ", "NarSize: x"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_without_archive, "not whole"),
        (_without_reference, "there is no 1111"),
        (_leading_out, "something else"),
        (_not_a_number, "is damaged"),
    ],
)
def test_a_cache_that_is_not_whole(
    spoil: Callable[[Path], None], why: str, cache: Path, tmp_path: Path
) -> None:
    path = image(tmp_path)
    before = digest(path)
    spoil(cache)
    with pytest.raises(HyperError) as error:
        hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache)
    assert why in error.value.why
    assert digest(path) == before


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("kvm1=/bin/sh",), "names no system"),
        (("kvm1",), "nothing says what kvm1 is"),
        ((f"kvm1={TOPLEVEL}", f"kvm1={BASE}"), "one name"),
        ((f"kvm1={TOPLEVEL}", "--remove"), "takes out every pack"),
    ],
)
def test_wrong_words(words: tuple[str, ...], what: str, tmp_path: Path) -> None:
    path = image(tmp_path)
    before = digest(path)
    with pytest.raises(HyperError, match=what) as error:
        hv("pack", path, *words)
    assert error.value.code is Exit.usage
    assert digest(path) == before


def test_a_name_that_is_there_already(cache: Path, tmp_path: Path) -> None:
    path = image(tmp_path)
    assert hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache) == Exit.ok
    before = digest(path)
    with pytest.raises(HyperError, match="has kvm1 already"):
        hv("pack", path, f"kvm1={BASE}", "--cache", cache)
    assert digest(path) == before


def test_what_is_no_iso_image(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(b"070701" + bytes(1 << 20))
    before = digest(path)
    with pytest.raises(HyperError, match="nothing is added"):
        hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache)
    assert digest(path) == before


def test_a_tier_is_described(cache: Path, tmp_path: Path) -> None:
    ready = ReadyClosure(name="standard", toplevel=TOPLEVEL, nar_size=1, tier="standard", modules=("nvme",))
    (tmp_path / "closures.json").write_text(json.dumps([ready.model_dump(mode="json")]))
    path = image(tmp_path)
    assert (
        hv("pack", path, "standard", "--described", tmp_path / "closures.json", "--cache", cache) == Exit.ok
    )
    with opened(path) as new:
        (found,) = packs.of_image(new)
    assert found.closures == (
        ready.model_copy(update={"cache": "cache", "nar_size": 40 * len(TOPLEVEL + BASE)}),
    )


def test_headers_are_read_as_they_are_written() -> None:
    pack = packs.Pack(
        offset=3 << 20,
        before=(3 << 20) - 512,
        after=5 << 20,
        length=4096,
        sha256=bytes(32),
        volume=b"v" * 32,
        closures=(ReadyClosure(name="a", toplevel=TOPLEVEL, nar_size=1),),
        table=bytes(512),
    )
    content = bytes(3 << 20) + packs.header(pack) + bytes(2 << 20)
    assert packs.read(Image.of(content), 3 << 20) == pack
    many = tuple(pack.closures[0].model_copy(update={"name": f"system{each}"}) for each in range(1000))
    with pytest.raises(HyperError, match="no room"):
        packs.header(replace(pack, closures=many))
    assert packs.read(Image.of(content[: -(3 << 20)]), 3 << 20) is None


def test_the_medium_tells_of_them() -> None:
    added = ReadyClosure(name="kvm1", toplevel=TOPLEVEL, cache="file:///x", nar_size=1)
    text = json.dumps([added.model_dump(mode="json")]).encode()
    made = with_packs(medium(), text)
    assert added in made.closures
    assert with_packs(made, text) == made


@pytest.fixture
def nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Nix with a store of its own on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "nix"
    script.write_text(
        "#!/bin/sh\n"
        f"export NIX_CONFIG={shlex.quote(STORE_CONFIGURATION)} NIX_REMOTE={tmp_path / 'store'} XDG_CACHE_HOME={tmp_path}\n"
        f'exec {shlex.join(nixeval.require().command("nix"))} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    expression = 'builtins.toFile "nixos-system-kvm1" "runs ${builtins.toFile "base" "the base"}"'
    return str(json.loads(run(script, "eval", "--json", "--expr", expression)))


@pytest.fixture
def stick(nix: str, tmp_path: Path) -> Iterator[Path]:
    """A packed image on a larger disk."""
    path = image(tmp_path)
    assert hv("pack", path, f"kvm1={nix}") == Exit.ok
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + (32 << 20))
    disk = run("losetup", "--find", "--show", path).strip()
    yield Path(disk)
    run("losetup", "--detach", disk)


@pytest.mark.nix
@pytest.mark.root
def test_the_live_system_installs_from_it(nix: str, stick: Path, tmp_path: Path) -> None:
    root = tmp_path / "live"
    (root / "run/hyper-nixos").mkdir(parents=True)
    place = root / pack_mounts.FOLDER / "1"
    try:
        for _ in range(2):
            assert pack_mounts.attach(root, stick, pack_mounts.run) == [
                "system kvm1: from a pack behind the medium"
            ]
        (told,) = json.loads((root / PACKS_PATH.lstrip("/")).read_text())
        assert told["toplevel"] == nix
        assert told["cache"] == "file:///run/hyper-nixos/packs/1/cache"
        # As the plan does it (plan/source.py).
        target = tmp_path / "target"
        run(
            *(
                tmp_path / "bin/nix",
                "copy",
                "--no-check-sigs",
                "--from",
                f"file://{place}/{media_pack.CACHE}?trusted=1",
            ),
            *("--to", str(target), nix),
        )
        text = (target / nix.lstrip("/")).read_text()
        assert text.startswith("runs /nix/store/")
        assert (target / text.removeprefix("runs ").lstrip("/")).read_text() == "the base"
    finally:
        subprocess.run(["umount", str(place)], check=False)


@pytest.mark.nix
def test_a_system_that_is_not_built_leaves_the_image_as_it_was(nix: str, tmp_path: Path) -> None:
    path = image(tmp_path)
    before = digest(path)
    with pytest.raises(HyperError, match="cannot be copied out of the store"):
        hv("pack", path, f"kvm1={TOPLEVEL}")
    assert digest(path) == before


def test_without_nix_or_squashfs_tools(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path)
    before = digest(path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HyperError, match="Nix"):
        hv("pack", path, f"kvm1={TOPLEVEL}")
    with pytest.raises(HyperError, match="made here") as error:
        hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache)
    assert error.value.code is Exit.unsuitable
    assert digest(path) == before


@pytest.mark.parametrize(
    ("source", "partition", "disk"), [("/dev/sr0", False, "sr0"), ("/dev/sdb1", True, "sdb")]
)
def test_the_whole_disk_is_looked_at(source: str, partition: bool, disk: str, tmp_path: Path) -> None:
    """A stand-in for sysfs and findmnt: partitions of sticks do not exist on this kernel's loop devices."""
    name = source.rpartition("/")[2]
    real = tmp_path / "sys/devices" / disk / name if partition else tmp_path / "sys/devices" / disk
    real.mkdir(parents=True)
    if partition:
        (real / "partition").write_text("1\n")
    (tmp_path / "sys/class/block").mkdir(parents=True)
    (tmp_path / "sys/class/block" / name).symlink_to(real)
    assert pack_mounts.device(tmp_path, lambda _: f"{source}\n") == tmp_path / "dev" / disk


@pytest.mark.vm
@pytest.mark.parametrize("firmware", ["--bios", "--uefi"])
@pytest.mark.parametrize("attached", ["--cd", "--usb", "partition"])
def test_packed_images_boot(firmware: str, attached: str, cache: Path, tmp_path: Path) -> None:
    path = image(tmp_path)
    assert hv("pack", path, f"kvm1={TOPLEVEL}", "--cache", cache) == Exit.ok
    if attached == "partition":
        if firmware == "--bios":
            return
        with path.open("r+b") as file:  # El Torito hidden, as firmware that does not know it on sticks
            file.seek(17 * 2048 + 7)
            file.write(b"XX")
        attached = "--usb"
    words = ("--expect", "HV-FIXTURE end", "--memory", "512", "--serial", tmp_path / "log")
    assert hv("try", path, firmware, attached, *words) == Exit.ok
