"""Secure Boot with the host's own keys, under OVMF: its firmware takes them, starts what the host signed, and nothing else.

The keys go in from inside the machine, by the bytes that `hv secure-boot enrol` writes into Linux's folder of variables.
"""

import gzip
import os
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from hv.firstrun.world import Journal, World
from hv.secure_boot import firmware, keys
from hv.secure_boot.host import sign
from hv.unified_image import FOLDER as IMAGES
from hv.unified_image import read
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from tests.boot_files import SETTINGS, SYSTEMD, Host
from tests.linux_guest import cpio, initramfs, kernel

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("secure-boot")]
OVMF = Path("/usr/share/OVMF")
PATIENCE = 300.0
REFUSED = "Access Denied"
"""What OVMF says of a program that nobody signed whom it knows."""
INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys
for module in $(cat /modules/order); do insmod /modules/$module; done 2>/dev/null
mount -t efivarfs efivarfs {firmware.VARIABLES}
value() {{ tail -c 1 {firmware.VARIABLES}/$1-{firmware.GLOBAL} | hexdump -v -e '1/1 "%d"'; }}
echo "BOOTED $(tr ' ' '\\n' </proc/cmdline | grep ^generation) secure=$(value SecureBoot) setup=$(value SetupMode)"
if [ "$(value SetupMode)" = 1 ] && [ -d /enrol ]; then
    for each in db-{firmware.DATABASE} KEK-{firmware.GLOBAL} PK-{firmware.GLOBAL}; do
        cat /enrol/$each >{firmware.VARIABLES}/$each && echo "TAKEN ${{each%%-*}}" || echo "REFUSED ${{each%%-*}}"
    done
    echo "NOW setup=$(value SetupMode)"
    reboot -f
fi
poweroff -f
"""


@dataclass
class Machine:
    """A machine whose firmware can enforce Secure Boot, with a boot partition made of a host's."""

    folder: Path
    image: Path
    variables: Path

    def run(self, unless: str = "") -> str:
        """Start it; what its firmware and systems said until it was off, or `unless` was said."""
        serial = self.folder / "serial"
        serial.unlink(missing_ok=True)
        flash = "if=pflash,format=raw"
        words = [
            *(
                "qemu-system-x86_64",
                "-machine",
                "q35,smm=on",
                "-m",
                "512",
                "-display",
                "none",
                "-nodefaults",
            ),
            *("-global", "driver=cfi.pflash01,property=secure,value=on", "-serial", f"file:{serial}"),
            *("-drive", f"{flash},unit=0,readonly=on,file={OVMF}/OVMF_CODE_4M.secboot.fd"),
            *("-drive", f"{flash},unit=1,file={self.variables}"),
            *("-drive", f"if=virtio,format=raw,file={self.image}"),
        ]
        with subprocess.Popen(words) as process:
            try:
                end = time.monotonic() + PATIENCE
                while time.monotonic() < end and process.poll() is None:
                    time.sleep(0.2)
                    if unless and unless in _text(serial):
                        break
            finally:
                process.kill()
        return _text(serial)


def _text(serial: Path) -> str:
    return serial.read_bytes().replace(b"\0", b"").decode(errors="replace") if serial.exists() else ""


def fat(folder: Path, image: Path) -> None:
    """A FAT that holds the folder."""
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.fat", "-F", "32", image], check=True, capture_output=True)
    subprocess.run(["mcopy", "-i", image, "-s", *folder.iterdir(), "::/"], check=True)


def archive(files: dict[str, bytes]) -> bytes:
    """More files for a RAM disk, which the kernel unpacks behind the first archive."""
    return gzip.compress(cpio(files), 1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Host, Machine]:
    """A host whose keys its machine has taken, with one generation."""
    folder = tmp_path_factory.mktemp("secure-boot")
    host = Host(folder / "host", kernel=next((kernel() / "boot").glob("vmlinuz-*")).read_bytes())
    world = world_of(host)
    own = keys.make(world.path(keys.FOLDER), "kvm1")
    taken = {
        f"enrol/{each.name}-{firmware.VENDORS[each.name]}": struct.pack("<I", firmware.ATTRIBUTES)
        + each.written
        for each in firmware.Enroller(folder, own, SETTINGS, world.programs).changes(only_own=True)
    }
    host.initrd = initramfs(INIT, ("efivarfs",)) + archive(taken)
    host.add(1)
    host.install(1)
    sign(world, SETTINGS, default=None, hostname=None)
    machine = Machine(folder, folder / "disk", folder / "variables")
    shutil.copy(OVMF / "OVMF_VARS_4M.fd", machine.variables)
    fat(host.boot, machine.image)
    said = machine.run()
    assert "BOOTED generation=1 secure=0 setup=1" in said
    assert [name for name in firmware.VENDORS if f"TAKEN {name}" in said] == ["PK", "KEK", "db"]
    assert "NOW setup=0" in said
    # It started anew with them.
    assert "BOOTED generation=1 secure=1 setup=0" in said
    return host, machine


def world_of(host: Host) -> World:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return World(programs=Runner(NoLog(), path), root=host.root, journal=Journal())


def started(host: Host, machine: Machine, unless: str) -> str:
    """What is started from the host's boot partition as it is."""
    fat(host.boot, machine.image)
    return machine.run(unless=unless)


def test_a_new_generation_starts_and_nothing_that_was_changed(parts: tuple[Host, Machine]) -> None:
    host, machine = parts
    host.add(2)
    host.install(2)
    said = started(host, machine, REFUSED)
    assert "BOOTED" not in said, "NixOS's own entry, which nobody signed"
    assert REFUSED in said
    sign(world_of(host), SETTINGS, default=host.toplevel(2), hostname=None)
    assert "BOOTED generation=2 secure=1 setup=0" in started(host, machine, REFUSED)
    image = host.boot / IMAGES / "nixos-generation-2.efi"
    whole = image.read_bytes()
    at = next(each for each in read(image).sections if each.name == ".initrd")
    image.write_bytes(
        whole[: at.offset + 100] + bytes([whole[at.offset + 100] ^ 1]) + whole[at.offset + 101 :]
    )
    said = started(host, machine, REFUSED)
    assert "BOOTED" not in said
    assert REFUSED in said


def test_a_loader_that_nobody_signed_is_not_started(parts: tuple[Host, Machine], tmp_path: Path) -> None:
    host, machine = parts
    changed = tmp_path / "boot"
    shutil.copytree(host.boot, changed)
    for place in ("EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"):
        shutil.copy(SYSTEMD / "systemd-bootx64.efi", changed / place)
    fat(changed, machine.image)
    said = machine.run(unless=REFUSED)
    assert "BOOTED" not in said
    assert REFUSED in said
