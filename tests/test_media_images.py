"""Image readers: they find what xorriso and mtools put there, and survive whatever else is in an image."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from installer import embed
from installer.errors import Exit, HyperError
from installer.initrd import appended
from iso import fat, iso9660
from iso.carrier import examine, file_systems
from iso.doctor import diagnose
from iso.el_torito import read_catalog
from iso.embedding import embedded
from iso.image import Image, opened
from iso.initrd import LENGTH, area_in, size_without
from iso.partition_tables import read_gpt, read_mbr
from tests.media import fixture
from tests.media.fixture import STYLES, run

CATALOGS = (".boot.cat", "boot.catalog")
EVERY = pytest.mark.parametrize("name", STYLES)


def test_two_builds_are_the_same(tmp_path: Path) -> None:
    first, second = (fixture.build(STYLES["ours"], tmp_path / name) for name in ("a", "b"))
    os.utime(first)
    assert first.read_bytes() == second.read_bytes()


@EVERY
def test_the_walker_finds_what_xorriso_lists(name: str) -> None:
    path = fixture.image(name)
    listed = run("xorriso", "-indev", path, "-find", "/", "-type", "f", "-exec", "report_lba").splitlines()
    expected = {}
    for line in listed:
        if line.startswith("File data lba:"):
            _, block, _, size, file = line.removeprefix("File data lba:").split(",")
            expected[file.strip().strip("'").lstrip("/")] = (int(block) * 2048, int(size))
    with opened(path) as image:
        volume = iso9660.read_volume(image)
        found = {path: entry for path, entry in iso9660.walk(image, volume) if not entry.is_directory}
        assert volume.label == STYLES[name].label
        filled = {path: (entry.extents[0].offset, entry.size) for path, entry in found.items() if entry.size}
        filled = {path: place for path, place in filled.items() if not path.startswith(CATALOGS)}
        assert filled == {
            path: place for path, place in expected.items() if place[1] and not path.startswith(CATALOGS)
        }
        assert len(filled) >= 6
        for file, entry in found.items():
            assert iso9660.find(image, volume, file) == entry


@EVERY
def test_files_of_the_efi_image_are_found(name: str, tmp_path: Path) -> None:
    with opened(fixture.image(name)) as image:
        carrier = examine(image)
        systems = list(file_systems(image, carrier.catalog))
        assert systems
        for title, offset, length in systems:
            part = image.part(offset, length, title)
            system = fat.read_fat(part)
            assert system is not None
            assert (system.label, system.serial) == ("EFIBOOT", 0x12345678)
            entry = fat.find(part, system, "efi/boot/GRUB.CFG")
            assert entry is not None
            assert fat.content(part, entry).decode() == fixture.grub_configuration(STYLES[name])
            program = "BOOTX64.EFI" if STYLES[name].processor == "x86_64" else "BOOTAA64.EFI"
            (tmp_path / "part").write_bytes(image.read(offset, length))
            run("mcopy", "-n", "-i", tmp_path / "part", f"::/EFI/BOOT/{program}", tmp_path / program)
            found = fat.find(part, system, f"EFI/BOOT/{program}")
            assert found is not None
            assert fat.content(part, found) == (tmp_path / program).read_bytes()


@pytest.mark.parametrize("kind", ["12", "16", "32"])
def test_each_kind_of_fat_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "fat"
    with path.open("wb") as made:
        made.truncate({"12": 2 << 20, "16": 32 << 20, "32": 300 << 20}[kind])
    run("mkfs.vfat", "-F", kind, "-s", "1", path)
    contents = {f"a long name {number}.conf": os.urandom(number * 700) for number in range(40)}
    for file, data in contents.items():
        (tmp_path / file).write_bytes(data)
        run("mcopy", "-i", path, tmp_path / file, "::/")
    # Leave holes, so that the next file is in pieces.
    for number in range(10, 40, 2):
        run("mdel", "-i", path, f"::/a long name {number}.conf")
        del contents[f"a long name {number}.conf"]
    if kind == "12":
        free = run("mdir", "-b", "-i", path)
        assert free
    (tmp_path / "pieces").write_bytes(data := os.urandom(90_000))
    run("mcopy", "-i", path, tmp_path / "pieces", "::/pieces")
    contents["pieces"] = data
    with opened(path) as image:
        system = fat.read_fat(image)
        assert system is not None
        assert system.bits == int(kind)
        listed = {entry.name: entry for entry in fat.entries(image, system, system.root)}
        assert {name: fat.content(image, entry) for name, entry in listed.items()} == contents


def test_a_file_in_several_extents_is_one() -> None:
    """The record of the kernel says that more follows, and the next one, its folder's neighbour, does."""
    content = bytearray(fixture.image("24.11").read_bytes())
    with opened(fixture.image("24.11")) as image:
        volume = iso9660.read_volume(image)
        boot = iso9660.find(image, volume, "boot")
        assert boot is not None
        before = list(iso9660.entries(image, volume, boot))
        content[before[0].record + 25] |= 0x80
    changed = Image.of(bytes(content))
    after = list(iso9660.entries(changed, volume, boot))
    assert after[0].extents == before[0].extents + before[1].extents
    assert (after[0].name, len(after)) == (before[0].name, len(before) - 1)


@pytest.mark.matrix
def test_a_file_over_four_gigabytes(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as made:
        made.truncate((4 << 30) + 12345)
        made.seek(4 << 30)
        made.write(b"behind four gigabytes")
    (tmp_path / "small").write_bytes(embed.pack({}))
    path = tmp_path / "image.iso"
    run(
        *("xorriso", "-as", "mkisofs", "-quiet", "-iso-level", "3", "-r", "-graft-points", "-output", path),
        *(f"nix-store.squashfs={large}", f"{embed.PATH}={tmp_path / 'small'}"),
    )
    with opened(path) as image:
        volume = iso9660.read_volume(image)
        entry = iso9660.find(image, volume, "nix-store.squashfs")
        assert entry is not None
        assert len(entry.extents) == 2
        assert entry.size == (4 << 30) + 12345
        second = entry.extents[1]
        start = (4 << 30) - entry.extents[0].length
        assert image.read(second.offset + start, 21) == b"behind four gigabytes"
        assert examine(image).area is not None


def test_deep_directories_and_long_names(tmp_path: Path) -> None:
    deep = "/".join(f"directory-{number}" for number in range(12))
    names = [f"{deep}/file", f"{'n' * 240}", "ümläut"]
    (tmp_path / "file").write_bytes(b"content")
    path = tmp_path / "image.iso"
    grafts = [f"{name}={tmp_path / 'file'}" for name in names]
    # Without -D xorriso moves deep directories elsewhere, and Rock Ridge says where they belong.
    run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-graft-points", "-output", path, *grafts)
    with opened(path) as image:
        volume = iso9660.read_volume(image)
        found = {name for name, entry in iso9660.walk(image, volume) if not entry.is_directory}
        assert found == set(names)


def everything(image: Image) -> None:
    """All that looks at an image; HyperError is how it may refuse one."""
    looks: list[Callable[[], object]] = [
        lambda: diagnose(image),
        lambda: embedded(image, examine(image)),
        lambda: read_gpt(image),
        lambda: read_mbr(image),
        lambda: fat.read_fat(image),
        lambda: list(iso9660.walk(image, iso9660.read_volume(image))),
        lambda: read_catalog(image, iso9660.read_volume(image)),
        lambda: area_in(image),
    ]
    for look in looks:
        try:
            look()
        except HyperError as error:
            assert error.why


class Bounded:
    """An image in memory that fails the test when it is read beyond its end, or read for ever."""

    def __init__(self, content: bytes) -> None:
        self.content, self.left = content, 200_000
        self.image = Image("fuzzed", len(content), self.fetch)

    def fetch(self, offset: int, length: int) -> bytes:
        """Read."""
        assert 0 <= offset <= offset + length <= len(self.content)
        self.left -= 1
        assert self.left > 0, "it reads without end"
        return self.content[offset : offset + length]


@pytest.fixture(scope="module")
def small() -> bytes:
    """A whole image, without the middle that nobody looks into."""
    return fixture.image("24.11").read_bytes()


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_damaged_images_are_refused_or_read_never_worse(small: bytes, data: st.DataObject) -> None:
    spoiled = bytearray(small)
    # Where the tables are: MBR and GPT, volume descriptors, the catalog, directories, the FAT.
    where = st.one_of(
        st.integers(0, 0x5000),
        st.integers(0x8000, 0xA000),
        st.integers(0xA000, 0x20000),
        st.integers(0, len(small) - 1),
    )
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(where)
        piece = data.draw(st.binary(min_size=1, max_size=8))
        spoiled[at : at + len(piece)] = piece[: len(spoiled) - at]
    everything(Bounded(bytes(spoiled)).image)


@given(st.integers(0, 1 << 20))
@settings(max_examples=40, deadline=None)
def test_images_cut_off_anywhere(small: bytes, end: int) -> None:
    everything(Bounded(small[:end]).image)


@given(st.binary(max_size=5000))
@settings(max_examples=100, deadline=None)
def test_anything_at_all(content: bytes) -> None:
    everything(Bounded(content).image)


def test_a_directory_that_contains_itself_ends() -> None:
    content = bytearray(fixture.image("25.05").read_bytes())
    with opened(fixture.image("25.05")) as image:
        volume = iso9660.read_volume(image)
        below = iso9660.find(image, volume, "EFI/BOOT")
        assert below is not None
        # Its record says that it is its parent.
        above = iso9660.find(image, volume, "EFI")
        assert above is not None
        content[below.record + 2 : below.record + 6] = (above.extents[0].offset // 2048).to_bytes(
            4, "little"
        )
    looped = Image.of(bytes(content))
    with pytest.raises(HyperError, match="cannot be read") as error:
        list(iso9660.walk(looped, iso9660.read_volume(looped)))
    assert "contains itself" in error.value.why


@pytest.mark.parametrize("odd", range(4))
def test_the_area_behind_an_initial_ram_disk(odd: int, tmp_path: Path) -> None:
    """It is unpacked by the field's own program, and goes without a trace."""
    (tmp_path / "first").write_text("first")
    first = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        input=b"first\n",
        cwd=tmp_path,
        capture_output=True,
        check=True,
    ).stdout
    whole = first + bytes(odd)
    area = embed.pack({"answers.toml": b"x"})
    with_area = whole + appended(len(whole), area)
    image = Image.of(with_area)
    assert area_in(image) is not None
    assert size_without(image) == len(whole)
    archive = with_area[-LENGTH:]
    subprocess.run(["cpio", "-i", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / embed.PATH).read_bytes() == area
    assert hashlib.sha256(with_area[: size_without(image)]).digest() == hashlib.sha256(whole).digest()


def test_a_block_device_is_an_image_too(tmp_path: Path) -> None:
    with opened(Path("/dev/zero")) as image:
        assert image.size == 0
    with pytest.raises(HyperError) as error, opened(tmp_path / "nothing"):
        pass
    assert error.value.code is Exit.medium


def test_nothing_is_left_out_of_the_check() -> None:
    """The bounded image notices what it should."""
    with pytest.raises(AssertionError):
        Bounded(b"abc").fetch(2, 5)
    assert shutil.which("xorriso")
