"""GRUB for BIOS on a disk image, without the kernel's view of a disk, which grub-install asks for: the same core image by
GRUB's own grub-mkimage, put where grub-bios-setup puts it.

Places in the two first sectors are those of GRUB's include/grub/i386/pc/boot.h and grub-core/boot/i386/pc/diskboot.S.
"""

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.partition_table import read_table
from installer.execute.runner import Runner
from iso.host_filesystems import search_path
from iso.partition_tables import SECTOR

TOOLS = {"grub-mkimage"}
TARGET = "i386-pc"
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
MODULES = ("biosdisk", "part_gpt", "ext2", "search_fs_uuid", "normal")
"""In the core image: what finds the boot file system, and the menu; everything else is loaded from there."""
_CODE = 440
"""Bytes of the first sector before the signature of the disk and the table."""
_KERNEL_SECTOR, _BOOT_DRIVE, _DRIVE_CHECK = 0x5C, 0x64, 0x66
_LIST = SECTOR - 12
"""Where the core image's first sector names the others: their first, how many, and the segment that they are loaded to."""
_SEGMENT = 0x820


@dataclass(frozen=True)
class Core:
    """What goes to the disk besides files."""

    code: bytes
    """For the first sector."""
    image: bytes
    """For the BIOS boot partition."""


def modules_folder() -> Path:
    """Where GRUB's modules for BIOS are. Raises HyperError (Exit.unsuitable)."""
    found = shutil.which("grub-mkimage", path=search_path())
    places = [Path("/usr/lib/grub", TARGET)]
    if found:
        places.insert(0, Path(found).resolve().parents[1] / "lib/grub" / TARGET)
    for place in places:
        if all((place / name).is_file() for name in ("boot.img", "diskboot.img", "kernel.img")):
            return place
    raise HyperError(
        "GRUB for BIOS is not here",
        why=f"boot.img is in none of these: {', '.join(map(str, places))}",
        remedy="install it: the package grub-pc-bin (Debian), grub2 (nixpkgs), or make an image for UEFI, without --bios",
        code=Exit.unsuitable,
    )


def install_files(boot: Path) -> None:
    """Modules beside the menu, as grub-install does."""
    target = boot / "grub" / TARGET
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(modules_folder().iterdir()):
        if file.suffix in (".mod", ".lst", ".img"):
            shutil.copyfile(file, target / file.name)
            (target / file.name).chmod(0o644)


def require_found(boot: Path, *, apart: bool) -> None:
    """HyperError unless the menu names kernels and RAM disks from the top of the file system that GRUB starts from: the
    program that writes it looks at what is mounted here, and on a btrfs or ZFS it writes that one's names.

    Args:
        boot: The folder that is /boot.
        apart: It is a file system of its own.
    """
    menu = (boot / "grub/grub.cfg").read_text(errors="replace")
    tops = ("/kernels/",) if apart else ("/nix/store/", "/boot/kernels/")
    named = [line.split() for line in menu.splitlines() if line.split()[:1] in (["linux"], ["initrd"])]
    files = [word for words in named for word in (words[1:2] if words[0] == "linux" else words[1:])]
    if wrong := [each for each in files if not each.startswith(tops)]:
        raise HyperError(
            "GRUB would not find the kernel",
            why=f"its menu names {wrong[0]}: a place on the file system of this computer",
            remedy="write the image to an ext4, xfs or tmpfs; or take xfs for the host's root, whose kernels are apart",
            code=Exit.unsuitable,
        )


def make_core(runner: Runner, work: Path, uuid: str, prefix: str, partition: tuple[int, int]) -> Core:
    """Boot code and core image.

    Args:
        runner: Runs grub-mkimage.
        work: A folder for files in between.
        uuid: Of the file system with the menu.
        prefix: Where GRUB's folder is in it.
        partition: First byte and length of the BIOS boot partition.

    Raises:
        HyperError: it has no room there.
    """
    start, length = partition
    folder, early, made = modules_folder(), work / "grub-early.cfg", work / "grub-core.img"
    early.write_text(f"search.fs_uuid {uuid} root\nset prefix=($root){prefix}\n")
    argv = ["grub-mkimage", "--directory", str(folder), "--format", TARGET, "--prefix", prefix]
    runner.run([*argv, "--config", str(early), "--output", str(made), *MODULES])
    image = bytearray(made.read_bytes())
    made.unlink()
    early.unlink()
    rest = -(-len(image) // SECTOR) - 1
    if (rest + 1) * SECTOR > length:
        raise HyperError(
            "GRUB's core image is too large",
            why=f"it has {len(image)} bytes, and its partition {length}",
            remedy="report it, with the version of grub-mkimage",
            code=Exit.step,
        )
    first = start // SECTOR
    struct.pack_into("<QHH", image, _LIST, first + 1, rest, _SEGMENT)
    code = bytearray((folder / "boot.img").read_bytes()[:_CODE])
    struct.pack_into("<Q", code, _KERNEL_SECTOR, first)
    code[_BOOT_DRIVE] = 0xFF  # the disk that the BIOS says
    # For firmware that names a floppy where it starts a hard disk, as grub-bios-setup has it: no jump over the correction.
    code[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    return Core(bytes(code), bytes(image))


def put(runner: Runner, core: Core, image: Path) -> None:
    """Write it to the image, and prove that it is there. Raises HyperError."""
    place = next(each for each in read_table(runner, str(image)) if each.type_uuid == BIOS_BOOT)
    with image.open("r+b") as disk:
        disk.write(core.code)
        disk.seek(place.start)
        disk.write(core.image)
        disk.seek(0)
        there = disk.read(SECTOR)
    if there[:_CODE] != core.code or there[-2:] != b"\x55\xaa":
        raise HyperError(
            "the image's first sector is not what it should be",
            why="it has no signature of a boot sector, or other code",
            remedy="report it, with the answers",
            code=Exit.step,
        )
