"""A whole guided installation, typed over the serial line of a machine; then the host that it made, and the login."""

from datetime import datetime

import pytest

from tests.lab.channels import Serial
from tests.lab.machine import Disk, Hardware, Machine, Running
from tests.lab.paths import RUNS
from tests.lab.patience import patience
from tests.lab.play import build
from tests.lab.recorder import Recorder
from tests.lab.session import Ssh, make_key, serial_login
from tests.terminal import ENTER, Display

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("guided")]

HARDWARE = Hardware(firmware="bios", disks=(Disk("HVMAIN01", bus="virtio"),), mac="52:54:00:48:56:09")
PASSWORD = "typed-password"
START = (
    "stty -F /dev/ttyS0 sane rows 24 cols 80; "
    "TERM=vt220 exec setsid --ctty --wait hv install </dev/ttyS0 >/dev/ttyS0 2>&1"
)
"""What a login on the serial line would start; the lab's medium has none."""


class SerialDisplay(Display):
    """The far end of a serial line."""

    def __init__(self, serial: Serial) -> None:
        super().__init__(24, 80, patience(10), quiet=1.5)
        self._serial = serial
        _, self._position = serial.since(0, 0)

    def take(self, seconds: float) -> bytes:
        text, self._position = self._serial.since(self._position, seconds)
        return text.encode()

    def send(self, keys: str) -> None:
        self._serial.type(keys)


def test_a_host_is_installed_by_typing() -> None:
    folder = RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-guided"
    recorder = Recorder("guided", "BIOS, one disk; everything is typed over the serial line.", folder)
    try:
        iso = build(recorder)
        machine = Machine(HARDWARE, folder)
        machine.create()
        key = make_key(folder)
        with machine.start("live", iso=iso) as running:
            _install(recorder, running, key)
        with machine.start("host") as running:
            running.serial.expect(r"kvm9 login:", 120)
            seen = serial_login(running.serial, "alice", PASSWORD)
            recorder.prove("the password that was typed opens the console", "wheel" in seen, seen)
            code, text = Ssh("alice", machine.port, folder).run("id && hostname", measured=15)
            recorder.prove("the key that was pasted opens SSH", code == 0 and "kvm9" in text, text)
        for image in folder.glob("*.qcow2"):
            image.unlink()
    finally:
        recorder.write()


def _install(recorder: Recorder, running: Running, key: str) -> None:
    with recorder.phase("boot the live medium", "firmware"):
        agent = running.live()
    display = SerialDisplay(running.serial)
    with recorder.phase("ask and be answered", "installer"):
        job = agent.start(["bash", "-c", START])
        _answer(display, key)
    with recorder.phase("install", "installer"):
        display.until("The installation runs apart", patience(20))
        job.wait(200)
    text = running.serial.text()
    said = agent.run("tail", "-n", "3", "/run/hyper-nixos/install/said.jsonl", measured=5).text
    recorder.prove("the installation came to its end", '"event": "ended", "code": 0' in said, said)
    recorder.prove("the serial line showed that end", "kvm9 is installed" in text, text[-2000:])
    kept = agent.run("cat", "/run/hyper-nixos/answers.toml", measured=5).text
    recorder.prove(
        "no password is in the answers that are kept", PASSWORD not in kept and "alice" in kept, kept
    )
    agent.start(["bash", "-c", "sync; reboot -f"])
    running.wait_off(5)


def _answer(display: Display, key: str) -> None:
    display.until("Sprache")
    display.choose("English")
    display.until("How much shall be explained")
    display.choose("Little")
    while "Which keyboard" not in display.until("Which keyboard|Noted"):
        display.choose("Go on")  # KVM is not there under emulation: a page of its own says so
        display.until("Which keyboard|Noted")
    display.choose("(us)")
    # The lab's live system has no driver for the network card; the host will have one.
    display.until("No wired network")
    display.choose("Go on")
    display.until("disks be used")
    display.choose("one disk")
    display.until("Which disk")
    display.choose("HVMAIN01")
    display.until("Which file system")
    display.choose("ext4")
    display.until("Shall LVM divide the space")
    display.choose("no")
    display.until("Where may memory go")
    display.choose("zram")
    display.until("Is this right")
    display.choose("Yes")
    display.until("Encrypt the disks")
    display.choose("No:")
    display.until("Name:")
    display.type(*["\x08"] * 4, "kvm9", ENTER)
    display.until("Time zone:")
    display.type(ENTER)
    display.until("on a serial line")
    display.choose("Yes, on ttyS0")
    display.until("Login name:")
    display.type("alice", ENTER)
    display.until("Password of alice")
    display.type(PASSWORD, ENTER)
    display.until("The same again")
    display.type(PASSWORD, ENTER)
    display.until("Where is a key")
    display.choose("paste")
    display.until("Key:")
    display.type(key, ENTER)
    display.until("Another key")
    display.choose("no more")
    display.until("somebody else")
    display.choose("No, that is all")
    display.until("How much host")
    display.choose("minimal")
    display.until("host be able to do")
    display.choose("Go on with this")
    display.until("host leave to guests|can be handed")
    display.choose("Go on")
    display.until("Which guests")
    display.choose("Go on with this")
    display.until("first boot end")
    display.choose("setup:")
    display.until("How far")
    display.choose("balanced")
    display.until("fields by their names")
    display.choose("no more")
    display.until("Change something")
    display.choose("Install")
    display.until("serial number:")
    display.type("IN01", ENTER)
