"""ISO images with the layout of NixOS's, made in a second from Debian's packages: boot loaders, tables and file system are
real, made by the same programs with the same options; kernel and store are stand-ins (tests/media/kernel.py).
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from installer import embed
from tests.media.kernel import kernel

EPOCH = "315532800"
"""nixpkgs' SOURCE_DATE_EPOCH: 1 January 1980."""
SYSLINUX = Path("/usr/lib/syslinux/modules/bios")
STORE = "/nix/store/00000000000000000000000000000000"
MODULES = (
    "fat iso9660 part_gpt part_msdos normal boot linux configfile loopback chain halt efifwsetup efi_gop ls search "
    "search_label search_fs_uuid search_fs_file echo serial gfxmenu gfxterm test loadenv all_video videoinfo"
)
INITRD = b"stands for an initial RAM disk" * 100


@dataclass(frozen=True)
class Style:
    """One way in which NixOS's ISO images are laid out."""

    name: str
    label: str
    """Volume identifier."""
    processor: str = "x86_64"
    """Or aarch64."""
    marker: str = "nixos-installer-marker"
    """The file that GRUB looks for; the older ones have no configuration in GRUB's own image."""
    scripted: bool = False
    """Whether stage 1 is the script of old, which finds the medium by an argument."""
    flat: bool = False
    """Whether kernel and initial RAM disk lie in /boot itself."""
    ours: bool = False
    """Whether it has the embed area and the argument to be filled."""

    @property
    def old_grub(self) -> bool:
        """Whether GRUB reads the configuration beside itself, wherever it was started from."""
        return self.marker.startswith("EFI/")

    @property
    def kernel(self) -> str:
        """Where the kernel is."""
        name = "bzImage" if self.processor == "x86_64" else "Image"
        return f"/boot/{name}" if self.flat else f"/boot/{STORE}-linux-6.12/{name}"

    @property
    def initrd(self) -> str:
        """Where the initial RAM disk is."""
        return "/boot/initrd" if self.flat else f"/boot/{STORE}-initrd-linux-6.12/initrd"

    @property
    def arguments(self) -> str:
        """The kernel's."""
        words = [f"init={STORE}-nixos-system-{self.name}/init"]
        words += [f"root=LABEL={self.label}", "boot.shell_on_fail"] if self.scripted else []
        words += ["loglevel=4", "lsm=landlock,yama,bpf", "console=ttyS0,115200"]
        words += [embed.kernel_argument()] if self.ours else []
        return " ".join(words)


STYLES = {
    style.name: style
    for style in (
        Style("ours", "HYPER_NIXOS", ours=True),
        Style("ours-aarch64", "HYPER_NIXOS", processor="aarch64", ours=True),
        Style(
            "24.11",
            "nixos-minimal-24.11-x86_64",
            marker="EFI/nixos-installer-image",
            scripted=True,
            flat=True,
        ),
        Style("25.05", "nixos-minimal-25.05-x86_64", marker="EFI/nixos-installer-image", scripted=True),
        Style("25.11", "nixos-minimal-25.11-x86_64", scripted=True),
        Style("26.05", "nixos-minimal-26.05-x86_64"),
        Style("26.05-aarch64", "nixos-minimal-26.05-aarch64", processor="aarch64"),
    )
}


def run(*argv: str | Path, **more: str) -> str:
    """Run a program; what it said."""
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        check=False,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "SOURCE_DATE_EPOCH": EPOCH,
            "TZ": "UTC",
            "LC_ALL": "C.UTF-8",
            **more,
        },
    )
    assert done.returncode == 0, f"{argv}: {done.stdout!r}{done.stderr!r}"
    return done.stdout.decode(errors="replace")


def grub_configuration(style: Style) -> str:
    """GRUB's: the entry, and two more of the many in submenus."""
    entries = "\n".join(
        f"menuentry 'NixOS {name}' --class installer {{\n  linux {style.kernel} ${{isoboot}} {style.arguments} {more}\n"
        f"  initrd {style.initrd}\n}}"
        for name, more in (
            ("Installer", ""),
            ("(copytoram)", "copytoram"),
            ("(serial)", "console=ttyS0,115200n8"),
        )
    )
    search = f"search --set=root --file /{style.marker}\n" if style.old_grub else ""
    found = 'if [ ${iso_path} ] ; then\n  set isoboot="findiso=${iso_path}"\nfi\n' if style.scripted else ""
    return f"set timeout=0\n{search}{found}{entries}\n"


def isolinux_configuration(style: Style) -> str:
    """isolinux's."""
    return "SERIAL 0 115200\nTIMEOUT 10\nDEFAULT boot\n" + "\n".join(
        f"LABEL boot{name}\nMENU LABEL NixOS{name}\nLINUX {style.kernel}\nAPPEND {style.arguments} {more}\n"
        f"INITRD {style.initrd}\n"
        for name, more in (("", ""), ("-copytoram", "copytoram"), ("-serial", "console=ttyS0,115200n8"))
    )


def _efi_image(folder: Path, files: Iterable[Path]) -> Path:
    image = folder / "efi.img"
    size = (sum(file.stat().st_size for file in files) * 11 // 10 // (1 << 20) + 1) << 20
    with image.open("wb") as made:
        made.truncate(size)
    run("mkfs.vfat", "--invariant", "-i", "12345678", "-n", "EFIBOOT", image)
    tree = folder / "contents/EFI/BOOT"
    tree.mkdir(parents=True)
    for file in files:
        shutil.copy(file, tree)
    _touch(folder / "contents")
    run("mcopy", "-s", "-m", "-i", image, tree.parent, "::/")
    return image


def _touch(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (int(EPOCH), int(EPOCH)), follow_symlinks=False)


def _grub(folder: Path, style: Style) -> Path:
    if style.processor != "x86_64":  # Debian has it for arm64 machines alone; nothing here starts it
        program = folder / "BOOTAA64.EFI"
        program.write_bytes(b"MZ" + b"stands for GRUB on aarch64 " * 1000)
        return program
    program = folder / "BOOTX64.EFI"
    found = folder / "embedded.cfg"
    found.write_text(f"search --set=root --file /{style.marker}\nconfigfile ($root)/EFI/BOOT/grub.cfg\n")
    own = () if style.old_grub else ("-c", found)
    run(
        *("grub-mkimage", "-d", "/usr/lib/grub/x86_64-efi", "-O", "x86_64-efi", "-p", "/EFI/BOOT"),
        *("-o", program, *own, *MODULES.split()),
    )
    return program


def _store(folder: Path, style: Style) -> Path:
    tree = folder / "store"
    system = tree / f"{STORE.rpartition('/')[2]}-nixos-system-{style.name}"
    system.mkdir(parents=True)
    (system / "init").write_text("#!/bin/sh\n")
    (tree / "nix-path-registration").write_text(f"/nix/store/{system.name}\n{'0' * 64}\n120\n\n0\n")
    squashfs = folder / "nix-store.squashfs"
    run(
        "mksquashfs",
        tree,
        squashfs,
        "-no-hardlinks",
        "-all-root",
        "-no-xattrs",
        "-quiet",
        "-no-progress",
        "-processors",
        "1",
    )
    return squashfs


def build(style: Style, output: Path, *, padding: int = 0) -> Path:
    """Write an image; `padding` bytes of zeros make it as large as real ones."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        files = dict(_contents(folder, style, padding))
        _touch(folder)
        x86 = style.processor == "x86_64"
        bios: tuple[str | Path, ...] = (
            *("-eltorito-boot", "isolinux/isolinux.bin", "-eltorito-catalog", ".boot.cat", "-no-emul-boot"),
            *("-boot-load-size", "4", "-boot-info-table", "--sort-weight", "1", "/isolinux"),
            *("-isohybrid-mbr", "/usr/lib/ISOLINUX/isohdpfx.bin"),
        )
        own_partition = style.ours and not x86  # iso/media/iso.nix
        uefi: tuple[str | Path, ...] = (
            (
                *(
                    "-partition_offset",
                    "16",
                    "-append_partition",
                    "2",
                    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
                ),
                *(files["boot/efi.img"], "-appended_part_as_gpt", "-eltorito-catalog", ".boot.cat"),
                *("-e", "--interval:appended_partition_2:all::", "-no-emul-boot"),
            )
            if own_partition
            else ("-eltorito-alt-boot", "-e", "boot/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat")
        )
        output.unlink(missing_ok=True)
        run(
            *("xorriso", "-boot_image", "any", f"gpt_disk_guid={'1234567890abcdef' * 2}"),
            *("-volume_date", "all_file_dates", f"={EPOCH}", "-as", "mkisofs", "-iso-level", "3"),
            *("-volid", style.label, "-appid", "nixos", "-publisher", "nixos", "-graft-points"),
            *("-full-iso9660-filenames", "-joliet", *(bios if x86 else ()), *uefi, "-r"),
            *("--sort-weight", "0", "/", "-output", output),
            *(f"{target}={source}" for target, source in files.items()),
        )
    return output


def _contents(folder: Path, style: Style, padding: int) -> Iterable[tuple[str, Path]]:
    def write(name: str, content: bytes | str) -> Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    grub = _grub(folder, style)
    configuration = write("grub.cfg", grub_configuration(style))
    yield f"EFI/BOOT/{grub.name}", grub
    yield "EFI/BOOT/grub.cfg", configuration
    yield "boot/efi.img", _efi_image(folder, (configuration, grub))
    yield style.kernel.lstrip("/"), write("kernel", kernel())
    yield style.initrd.lstrip("/"), write("initrd", INITRD)
    yield style.marker, write("marker", b"")
    yield "version.txt", write("version.txt", style.name)
    yield "nix-store.squashfs", _store(folder, style)
    if style.processor == "x86_64":
        yield "isolinux/isolinux.cfg", write("isolinux.cfg", isolinux_configuration(style))
        yield "isolinux/isolinux.bin", Path("/usr/lib/ISOLINUX/isolinux.bin")
        yield "isolinux/ldlinux.c32", SYSLINUX / "ldlinux.c32"
    if style.ours:
        yield embed.PATH, write("embed.bin", embed.pack({}))
    if padding:
        with (folder / "padding").open("wb") as made:
            made.truncate(padding)
        yield "padding.bin", folder / "padding"


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="hv-media-")


def forget() -> None:
    """Remove them: a worker of pytest-xdist ends without what Python does at its end."""
    if _folder.cache_info().currsize:
        _folder().cleanup()
        _folder.cache_clear()
        image.cache_clear()


@cache
def image(name: str) -> Path:
    """An image of a style, made once in a run of the tests; who changes it takes a copy."""
    return build(STYLES[name], Path(_folder().name, f"{name}.iso"))
