"""The guest that is given devices in the lab, on QEMU's own devices."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.channels import Monitor, Serial, connect
from tests.lab.devices_guest import BLOCK, MARKER, WRITTEN, image

MAC = "52:54:00:48:56:98"
MARK = "WRITTEN-BY-THE-HOST"


class Guest:
    """It runs, with an NVMe disk, a USB controller and three free ports."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "nvme.raw"
        self.disk.write_bytes(f"{MARK}\n".encode().ljust(BLOCK, b"\0"))
        with self.disk.open("r+b") as stream:
            stream.truncate(1 << 20)
        sockets = {name: folder / name for name in ("serial", "monitor")}
        ports = [
            word
            for number in range(4)
            for word in ("-device", f"pcie-root-port,id=p{number},chassis={number}")
        ]
        argv = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-snapshot"),
            *("-machine", "q35,accel=tcg", "-m", "64", *ports, "-netdev", "user,id=lan,restrict=on"),
            *(
                "-drive",
                f"if=none,id=boot,format=raw,file={image()}",
                "-device",
                "virtio-blk-pci,drive=boot",
            ),
            *("-blockdev", f"raw,node-name=nvme,file.driver=file,file.filename={self.disk}"),
            *("-device", "nvme,drive=nvme,serial=HV,bus=p0", "-device", "qemu-xhci,id=usb,bus=p1"),
            *(
                "-chardev",
                f"socket,id=serial,path={sockets['serial']},server=on,wait=off",
                "-serial",
                "chardev:serial",
            ),
            *("-qmp", f"unix:{sockets['monitor']},server=on,wait=off", "-S"),
        ]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        self.monitor = Monitor(connect(sockets["monitor"], self._dead, 60))
        self.serial = Serial(connect(sockets["serial"], self._dead, 60), folder / "serial.log", self._dead)
        self.monitor.run("cont")

    def _dead(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"QEMU ended with {code}"

    def says(self, pattern: str) -> str:
        """Wait for a line with this."""
        return self.serial.expect(rf"(?m)^({MARKER}|NOW)[^\n]*{pattern}[^\n]*\n", 5)[0]


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    """Ended when the test is."""
    it = Guest(tmp_path)
    yield it
    it.process.kill()
    it.process.wait()


def test_it_drives_what_it_has_and_what_comes_later(guest: Guest) -> None:
    """Its disk is read and written; what is plugged in is told, what is unplugged it lets go."""
    assert f"1b36:000d usb=0 1b36:0010 disk={MARK} disk-written" in guest.says(MARK)
    with guest.disk.open("rb") as stream:
        stream.seek(BLOCK)
        assert stream.read(BLOCK).rstrip(b"\0") == f"{WRITTEN}\n".encode()
    guest.monitor.run("device_add", driver="usb-tablet", bus="usb.0", id="tablet")
    guest.says("usb=1")
    guest.monitor.run("device_add", driver="e1000e", bus="p2", id="card", netdev="lan", mac=MAC, romfile="")
    guest.says(f"8086:10d3 mac={MAC}")
    guest.monitor.run("device_del", id="card")
    assert MAC not in guest.says("disk-written")
    gone = time.monotonic() + 60
    while any(each["name"] == "card" for each in guest.monitor.run("qom-list", path="/machine/peripheral")):
        assert time.monotonic() < gone, "it does not let go"


def test_only_what_it_was_compiled_from_is_used(tmp_path: Path) -> None:
    """The image is a boot sector, and everything behind it is loaded."""
    data = Path(shutil.copy(image(), tmp_path)).read_bytes()
    assert data[510:512] == b"\x55\xaa"
    assert MARKER.encode() in data[: 33 * 512]
