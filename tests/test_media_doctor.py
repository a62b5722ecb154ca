"""`hv media doctor`: healthy images are healthy, and each way of spoiling one is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hv.cli import dispatch
from installer import embed
from installer.errors import Exit
from iso import iso9660
from iso.carrier import examine, file_systems
from iso.doctor import Diagnosis, Firmware, Medium, diagnose
from iso.image import Image, opened
from iso.partition_tables import both, read_gpt
from tests.media import fixture
from tests.media.fixture import STYLES, run


def look(path: Path) -> Diagnosis:
    """The diagnosis of a file."""
    with opened(path) as image:
        return diagnose(image)


@pytest.mark.parametrize("name", [name for name in STYLES if name != "26.05-aarch64"])
def test_what_boots_everywhere_is_healthy(name: str) -> None:
    found = look(fixture.image(name))
    assert found.healthy, found
    assert found.processors == (STYLES[name].processor,)
    assert {(way.firmware, way.medium) for way in found.expected if way.boots} == {
        (firmware, medium)
        for firmware in Firmware
        for medium in Medium
        if firmware is Firmware.uefi or found.processors == ("x86_64",)
    }


def test_the_stock_image_for_aarch64_starts_from_no_stick(capsys: pytest.CaptureFixture[str]) -> None:
    path = fixture.image("26.05-aarch64")
    assert dispatch(["media", "doctor", str(path)]) == Exit.medium
    told = capsys.readouterr().out
    assert "UEFI  stick  DOES NOT BOOT\n    there is no partition table" in told
    assert "UEFI  CD     boots through El Torito" in told


def spoiled(name: str, change: Callable[[bytearray, Image], None]) -> Diagnosis:
    """The diagnosis of an image after a change."""
    content = bytearray(fixture.image(name).read_bytes())
    change(content, Image.of(bytes(content)))
    return diagnose(Image.of(bytes(content)))


def _everything_wrong(found: Diagnosis) -> str:
    return "; ".join([*found.problems, *(problem for way in found.expected for problem in way.problems)])


def _hide_el_torito(content: bytearray, _: Image) -> None:
    content[17 * 2048 + 7 : 17 * 2048 + 9] = b"XX"


def _break_catalog(content: bytearray, image: Image) -> None:
    at = int.from_bytes(image.read(17 * 2048 + 0x47, 4), "little") * 2048
    content[at + 4] ^= 1


def _no_mbr(content: bytearray, _: Image) -> None:
    content[510:512] = b"\0\0"


def _no_mbr_program(content: bytearray, _: Image) -> None:
    content[:440] = bytes(440)


def _none_active(content: bytearray, _: Image) -> None:
    content[446] = 0


def _short_partition(content: bytearray, _: Image) -> None:
    content[446 + 12 : 446 + 16] = (2048).to_bytes(4, "little")


def _gpt_checksum(content: bytearray, _: Image) -> None:
    content[512 + 40] ^= 1


def _no_copy(content: bytearray, _: Image) -> None:
    content[-512:] = bytes(512)


def _other_copy(content: bytearray, image: Image) -> None:
    gpt = read_gpt(image)
    assert gpt is not None
    copy = read_gpt(image, gpt.other)
    assert copy is not None
    content[copy.entries_sector * 512 + 60] ^= 1


def _esp(content: bytearray, image: Image) -> None:
    _, offset, _ = next(file_systems(image, examine(image).catalog))
    content[offset : offset + 512] = bytes(512)


def _esp_program(content: bytearray, image: Image) -> None:
    _, offset, length = next(file_systems(image, examine(image).catalog))
    inside = content[offset : offset + length].replace(b"BOOTX64 EFI", b"BOOTZZZ EFI")
    content[offset : offset + length] = inside.replace(b"B\0O\0O\0T\0X", b"B\0O\0O\0T\0Z")


def _esp_configuration(content: bytearray, image: Image) -> None:
    _, offset, length = next(file_systems(image, examine(image).catalog))
    content[offset : offset + length] = content[offset : offset + length].replace(
        b"loglevel=4", b"loglevel=7"
    )


def _kernel_moved(content: bytearray, _: Image) -> None:
    content[:] = content.replace(b"bzImage\n", b"bzXmage\n").replace(b"bzImage init", b"bzXmage init")


def _label(content: bytearray, _: Image) -> None:
    content[16 * 2048 + 40 : 16 * 2048 + 46] = b"NIXOS2"


def _area(content: bytearray, image: Image) -> None:
    volume = iso9660.read_volume(image)
    entry = iso9660.find(image, volume, embed.PATH)
    assert entry is not None
    content[entry.extents[0].offset + 24] = 9


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("26.05", _hide_el_torito, "another specification"),
        ("26.05", _break_catalog, "checksum of the boot catalog"),
        ("26.05", _no_mbr, "there is no MBR"),
        ("26.05", _no_mbr_program, "MBR has no program"),
        ("26.05", _none_active, "marked active"),
        ("26.05", _short_partition, "ends at sector 2048"),
        ("26.05", _gpt_checksum, "GPT: the checksum of its header"),
        ("26.05", _no_copy, "copy of the GPT should be in sector"),
        ("26.05", _other_copy, "copy of the GPT: the checksum of its entries"),
        ("26.05", _esp, "holds no FAT"),
        ("26.05", _esp_program, "no EFI/BOOT/BOOT"),
        ("26.05", _esp_configuration, "GRUB's configuration in the EFI image"),
        ("24.11", _kernel_moved, "names /boot/bzXmage"),
        ("24.11", _label, "looks for a medium called nixos-minimal-24.11-x86_64"),
        ("ours", _area, "embed area is not taken"),
    ],
)
def test_what_is_spoiled_is_named(name: str, change: Callable[[bytearray, Image], None], words: str) -> None:
    found = spoiled(name, change)
    assert not found.healthy
    assert words in _everything_wrong(found)


def test_the_growing_that_breaks_sticks_is_noticed(tmp_path: Path) -> None:
    """xorriso's `keep` leaves the partition as long as it was, and the new directories lie behind it."""
    path = Path(shutil.copy(fixture.image("25.05"), tmp_path / "grown.iso"))
    (tmp_path / "more").write_bytes(b"x" * (3 << 20))
    run(
        "xorriso", "-boot_image", "any", "keep", "-dev", path, "-map", tmp_path / "more", "/hyper-nixos/more"
    )
    found = look(path)
    assert not found.healthy
    stick = next(way for way in found.ways if (way.firmware, way.medium) == (Firmware.bios, Medium.stick))
    assert "mounting it fails" in stick.problems[0]


def test_tables_that_were_written_anew_are_what_sgdisk_takes(tmp_path: Path) -> None:
    """On a larger medium the copy belongs at its end."""
    path = Path(shutil.copy(fixture.image("ours-aarch64"), tmp_path / "stick"))
    with path.open("r+b") as stick:
        stick.truncate(32 << 20)
    with opened(path) as image:
        gpt = read_gpt(image)
        assert gpt is not None
        pieces = both(gpt, image.size // 512)
    with path.open("r+b") as stick:
        for offset, content in pieces:
            stick.seek(offset)
            stick.write(content)
    told = run("sgdisk", "--verify", path)
    assert "No problems found" in told
    assert look(path).healthy


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["media", "doctor", "--json", str(fixture.image("ours"))]) == Exit.ok
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["healthy"], told["label"]) == (1, True, "HYPER_NIXOS")
    assert [way["boots"] for way in told["ways"]] == [True] * 4
