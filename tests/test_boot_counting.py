"""systemd-boot goes back by itself: the real one under OVMF, with a boot menu as NixOS writes it where it counts boots.
What the entries start is a kernel with a program that says which generation it is, and starts the machine anew: a first
boot that fails, again and again.
"""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.nixeval.nix import LAB

pytestmark = pytest.mark.vm
PATIENCE = 300.0
OVMF = Path("/usr/share/OVMF")
PROGRAM = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>
int main(void) {
  char line[4096];
  mount("proc", "/proc", "proc", 0, 0);
  int n = read(open("/proc/cmdline", O_RDONLY), line, sizeof line - 1);
  line[n > 0 ? n : 0] = 0;
  printf("BOOTED %.12s\n", strstr(line, "generation="));
  fflush(stdout);
  sleep(1);
  reboot(RB_AUTOBOOT);
}
"""
ENTRY = """title NixOS
version Generation {number}
linux /EFI/nixos/kernel.efi
initrd /EFI/nixos/initrd.efi
options generation={number} console=ttyS0 quiet panic=5
sort-key nixos
"""
LOADER = "timeout 0\npreferred nixos-new.conf\ndefault nixos-*\n"
"""As NixOS writes it with `bootCounting`; before version 260 systemd-boot passes over the line that it does not know."""


def found(pattern: str) -> Path:
    """A file of the lab's own Debian."""
    files = sorted(LAB.glob(f"cache/userland-*/{pattern}"))
    assert files, f"the lab has no {pattern}: make setup-lab, python -m tests.lab build"
    return files[0]


def initrd(folder: Path) -> None:
    """An archive with the one program."""
    (folder / "program.c").write_text(PROGRAM)
    root = folder / "root"
    for name in ("proc", "dev"):
        (root / name).mkdir(parents=True)
    subprocess.run(["cc", "-static", "-O1", "-o", root / "init", folder / "program.c"], check=True)
    subprocess.run(["mknod", root / "dev/console", "c", "5", "1"], check=True)
    packed = "find . | cpio --quiet -o -H newc > ../initrd"
    subprocess.run(["sh", "-c", packed], cwd=root, check=True)


def disk(folder: Path) -> Path:
    """A FAT that holds the menu: an old generation that is good, a new one with two tries."""
    esp = folder / "esp"
    for name in ("EFI/BOOT", "EFI/nixos", "loader/entries"):
        (esp / name).mkdir(parents=True)
    shutil.copy(found("root/usr/lib/systemd/boot/efi/systemd-bootx64.efi"), esp / "EFI/BOOT/BOOTX64.EFI")
    shutil.copy(found("kernel/boot/vmlinuz-*"), esp / "EFI/nixos/kernel.efi")
    initrd(folder)
    shutil.copy(folder / "initrd", esp / "EFI/nixos/initrd.efi")
    (esp / "loader/loader.conf").write_text(LOADER)
    (esp / "loader/entries/nixos-old.conf").write_text(ENTRY.format(number=1))
    (esp / "loader/entries/nixos-new+2.conf").write_text(ENTRY.format(number=2))
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.fat", "-F", "32", image], check=True, capture_output=True)
    subprocess.run(["mcopy", "-i", image, "-s", *esp.iterdir(), "::/"], check=True)
    return image


@pytest.mark.root
def test_two_boots_that_fail_and_the_old_system_starts(tmp_path: Path) -> None:
    image, serial = disk(tmp_path), tmp_path / "serial"
    shutil.copy(OVMF / "OVMF_VARS_4M.fd", tmp_path / "variables")
    process = subprocess.Popen(
        [
            *("qemu-system-x86_64", "-machine", "q35", "-m", "512", "-display", "none", "-nodefaults"),
            *("-serial", f"file:{serial}"),
            *("-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd"),
            *("-drive", f"if=pflash,format=raw,file={tmp_path}/variables"),
            *("-drive", f"if=virtio,format=raw,file={image}"),
        ]
    )
    booted: list[str] = []
    try:
        deadline = time.monotonic() + PATIENCE
        while len(booted) < 3 and time.monotonic() < deadline:
            time.sleep(0.5)
            text = serial.read_text(errors="replace") if serial.exists() else ""
            booted = [line.split("=")[1] for line in text.splitlines() if line.startswith("BOOTED")]
    finally:
        process.kill()
        process.wait()
    assert booted[:3] == ["2", "2", "1"]
    listed = subprocess.run(
        ["mdir", "-i", image, "-b", "::/loader/entries"], check=True, capture_output=True, text=True
    ).stdout
    assert "nixos-new+0-2.conf" in listed
