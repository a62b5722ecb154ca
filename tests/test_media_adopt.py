"""`hv media adopt`: stock images of each layout get a place for answers, boot as before, and can be filled."""

import hashlib
import shutil
from base64 import b64decode
from pathlib import Path

import pytest

from hv.cli import dispatch
from installer import embed
from installer.errors import Exit, HyperError
from iso import adopt, iso9660
from iso.carrier import examine
from iso.doctor import diagnose
from iso.embedding import embedded
from iso.image import opened
from iso.partition_tables import read_gpt, read_mbr
from tests.media import fixture
from tests.media.fixture import STYLES, run

STOCK = [name for name in STYLES if not name.startswith("ours")]


def hv(*words: str | Path) -> int:
    """Run `hv media`."""
    return dispatch(["media", *map(str, words)])


def payload(folder: Path) -> Path:
    """A store."""
    tree = folder / "tree"
    (tree / f"{fixture.STORE[11:]}-hyper-nixos/bin").mkdir(parents=True)
    (tree / f"{fixture.STORE[11:]}-hyper-nixos/bin/start").write_text("#!/bin/sh\n")
    (tree / "nix-path-registration").write_text("")
    run("mksquashfs", tree, folder / "payload", "-all-root", "-quiet", "-no-progress")
    return folder / "payload"


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("with_payload", [False, True])
def test_adopted_and_filled(name: str, with_payload: bool, tmp_path: Path) -> None:
    source, target = fixture.image(name), tmp_path / "adopted.iso"
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    start = f"{fixture.STORE}-hyper-nixos/bin/start"
    words = ("--payload", payload(tmp_path), "--start", start) if with_payload else ()
    assert hv("adopt", source, "--output", target, *words) == Exit.ok
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before
    with opened(source) as old, opened(target) as new:
        found, was = examine(new), examine(old)
        assert found.volume is not None
        assert was.volume is not None
        assert (found.volume.label, found.volume.created) == (was.volume.label, was.volume.created)
        assert found.catalog == was.catalog
        assert diagnose(new).healthy, diagnose(new)
        # Every file is there, and only configurations were changed.
        for path, entry in iso9660.walk(old, was.volume):
            other = iso9660.find(new, found.volume, path)
            assert other is not None, path
            if not entry.is_directory and "cfg" not in path and path != "boot/efi.img" and "cat" not in path:
                assert iso9660.content(new, other) == iso9660.content(old, entry), path
        places = {pad.place.split(" ")[0] for pad in found.pads}
        assert places == (
            {"isolinux/isolinux.cfg", "EFI/BOOT/grub.cfg"}
            if STYLES[name].processor == "x86_64"
            else {"EFI/BOOT/grub.cfg"}
        )
        assert len(found.pads) == 3 * len(was.configurations)
        text = found.configurations[0].content.decode()
        assert ("systemd.extra-unit" in text) == with_payload
        # The one place where a partition begins at 0 still covers the whole.
        mbr, gpt = read_mbr(new), read_gpt(new)
        assert gpt is not None
        assert gpt.other == new.size // 512 - 1
        assert mbr
        assert any(each.end == new.size // 512 for each in mbr)
    adopted = hashlib.sha256(target.read_bytes()).hexdigest()
    assert hv("embed", target, "--kernel-argument", "hv.tried=yes") == Exit.ok
    with opened(target) as image:
        assert embedded(image, examine(image)).arguments == ("hv.tried=yes",)
    assert hv("reset", target) == Exit.ok
    assert hashlib.sha256(target.read_bytes()).hexdigest() == adopted
    # The same again is the same.
    assert hv("adopt", source, "--output", tmp_path / "again.iso", *words) == Exit.ok
    assert hashlib.sha256((tmp_path / "again.iso").read_bytes()).hexdigest() == adopted


def test_the_table_of_aarch64_is_made(tmp_path: Path) -> None:
    target = tmp_path / "adopted.iso"
    assert hv("adopt", fixture.image("26.05-aarch64"), "--output", target) == Exit.ok
    assert "No problems found" in run("sgdisk", "--verify", target)
    listed = run("sgdisk", "-p", target)
    assert "EF00" in listed
    start = int(next(line for line in listed.splitlines() if "EF00" in line).split()[1])
    assert "BOOTAA64" in run("mdir", "-i", f"{target}@@{start * 512}", "::/EFI/BOOT")


@pytest.mark.vm
@pytest.mark.parametrize("name", ["24.11", "25.11", "26.05"])
@pytest.mark.parametrize("firmware", ["--bios", "--uefi"])
@pytest.mark.parametrize("attached", ["--cd", "--usb", "partition"])
def test_adopted_images_boot(name: str, firmware: str, attached: str, tmp_path: Path) -> None:
    target = tmp_path / "adopted.iso"
    words = ("--payload", payload(tmp_path), "--start", f"{fixture.STORE}-hyper-nixos/bin/start")
    assert hv("adopt", fixture.image(name), "--output", target, *words) == Exit.ok
    assert hv("embed", target, "--kernel-argument", "hv.tried=yes") == Exit.ok
    if attached == "partition":
        if firmware == "--bios":
            return
        with target.open("r+b") as image:
            image.seek(17 * 2048 + 7)
            image.write(b"XX")
        attached = "--usb"
    expected = ("--expect", "systemd.extra-unit", "--expect", "hv.tried=yes", "--expect", "HV-FIXTURE end")
    assert (
        hv("try", target, firmware, attached, *expected, "--memory", "512", "--serial", tmp_path / "log")
        == Exit.ok
    )


def test_the_arguments_are_a_unit() -> None:
    binary, wants = adopt.credential()
    name, encoded = binary.partition("=")[2].split(":")
    assert name == f"systemd.extra-unit.{adopt.UNIT}"
    assert b64decode(encoded).decode() == adopt.unit()
    assert wants == f"systemd.wants={adopt.UNIT}"
    # With the argument to be filled, and what NixOS has, well below what the kernel takes.
    assert len(" ".join(adopt.credential())) + embed.ARGUMENT_LENGTH < 1200


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    (tmp_path / adopt.UNIT).write_text(adopt.unit())
    run("systemd-analyze", "verify", "--man=no", tmp_path / adopt.UNIT)


def test_the_script_is_shell(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hsqs")
    made = adopt.Payload(tmp_path / "x", f"{fixture.STORE}-x/bin/start")
    (tmp_path / "start").write_text("#!/bin/sh\n" + adopt.script(made))
    run("shellcheck", tmp_path / "start")


@pytest.mark.parametrize(
    ("name", "words", "why"),
    [
        ("ours", (), "hv media embed"),
        ("25.05", ("--payload", "x"), "only one"),
        ("25.05", ("--payload", "x", "--start", "/bin/sh; rm"), "no path in a Nix store"),
    ],
)
def test_what_is_not_adopted(name: str, words: tuple[str, ...], why: str, tmp_path: Path) -> None:
    with pytest.raises(HyperError) as error:
        hv("adopt", fixture.image(name), "--output", tmp_path / "out", *words)
    assert why in error.value.why
    assert not list(tmp_path.iterdir())


def test_an_image_of_another_kind_is_not_adopted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    path = tmp_path / "other.iso"
    run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-output", path, tmp_path / "file")
    with pytest.raises(HyperError, match="not adopted"):
        hv("adopt", path, "--output", tmp_path / "out")


def test_an_efi_image_without_room_is_told(tmp_path: Path) -> None:
    path = Path(shutil.copy(fixture.image("25.05"), tmp_path / "full.iso"))
    with opened(path) as image:
        catalog = examine(image).catalog
        assert catalog is not None
        offset = catalog.images[1].offset
    told = run("mdir", "-i", f"{path}@@{offset}", "::/").splitlines()
    free = int("".join(filter(str.isdigit, next(line for line in told if "bytes free" in line))))
    (tmp_path / "fill").write_bytes(b"x" * free)
    run("mcopy", "-i", f"{path}@@{offset}", tmp_path / "fill", "::/fill")
    with pytest.raises(HyperError, match="cannot be adopted") as error:
        hv("adopt", path, "--output", tmp_path / "out")
    assert "mcopy" in error.value.why
    assert not (tmp_path / "out").exists()
