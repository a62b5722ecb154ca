"""`hv media try`: images boot in every way that firmware has, with what was embedded."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from hv.cli import INTERRUPTED, dispatch
from installer import embed
from installer.errors import Exit, HyperError
from iso import qemu
from iso.carrier import examine
from iso.embedding import embedded
from iso.image import opened
from iso.qemu import Attached, Firmware, Machine
from tests.media import fixture
from tests.nixeval.nix import REPOSITORY

MARKER = "HV-FIXTURE end"
FIRST = [("ours", "--bios", "--cd"), ("ours", "--bios", "--usb"), ("ours", "--uefi", "--usb")]
"""What the fast tests boot."""
EVERY = [
    (name, firmware, attached)
    for name in ("ours", "24.11", "25.05", "25.11", "26.05")
    for firmware in ("--bios", "--uefi")
    for attached in ("--cd", "--usb")
    if (name, firmware, attached) not in FIRST
]


ARGUMENT = "hv.answers=https://192.0.2.1:8443/v1/answers#cert:0a1b"
"""With a `#`, which boot loaders take for a comment at the beginning of a word alone."""


def hv(*words: str | Path) -> int:
    """Run `hv media`."""
    return dispatch(["media", *map(str, words)])


def medium(name: str, folder: Path) -> tuple[Path, str]:
    """An image, ours with something embedded; and the last argument that its kernel should have."""
    path = Path(shutil.copy(fixture.image(name), folder / "medium.iso"))
    if name != "ours":
        return path, "console=ttyS0,115200"
    assert hv("embed", path, "--folder", _folder(folder), "--kernel-argument", ARGUMENT) == Exit.ok
    return path, ARGUMENT


def _folder(folder: Path) -> Path:
    (folder / "content/secrets").mkdir(parents=True)
    (folder / "content/secrets/a").write_text("embedded")
    return folder / "content"


def boots(name: str, firmware: str, attached: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, argument = medium(name, folder)
    before = path.read_bytes()
    words = ("try", path, firmware, attached, "--expect", MARKER, "--serial", folder / "serial", "--json")
    capsys.readouterr()
    assert hv(*words, "--memory", "512") == Exit.ok
    told = json.loads(capsys.readouterr().out)
    assert (told["found"], told["firmware"], told["attached"]) == ([MARKER], firmware[2:], attached[2:])
    said = (folder / "serial").read_text(errors="replace")
    line = next(line for line in said.splitlines() if line.startswith("HV-FIXTURE cmdline="))
    # isolinux adds where the RAM disk was.
    assert [word for word in line.split() if not word.startswith("initrd=")][-1] == argument
    # What the live system takes for embedded, it reads here.
    assert embed.arguments_in(line) == ((ARGUMENT,) if name == "ours" else ())
    assert f"HV-FIXTURE firmware={firmware[2:]}" in said
    checksum = f"{zlib.crc32(fixture.INITRD):x}"
    assert f"HV-FIXTURE initrd={len(fixture.INITRD)} crc={checksum}" in said
    assert path.read_bytes() == before


@pytest.mark.parametrize(("name", "firmware", "attached"), FIRST)
def test_it_boots(
    name: str, firmware: str, attached: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boots(name, firmware, attached, tmp_path, capsys)


@pytest.mark.vm
@pytest.mark.parametrize(("name", "firmware", "attached"), EVERY)
def test_every_style_boots_in_every_way(
    name: str, firmware: str, attached: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boots(name, firmware, attached, tmp_path, capsys)


@pytest.mark.vm
@pytest.mark.parametrize("name", ["ours", "24.11", "26.05"])
def test_a_stick_boots_from_its_partition(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """QEMU's UEFI starts sticks through El Torito, as no real one does; hidden, it has to use the partition."""
    path, argument = medium(name, tmp_path)
    with path.open("r+b") as image:
        image.seek(17 * 2048 + 7)
        image.write(b"XX")
    capsys.readouterr()
    words = ("try", path, "--uefi", "--usb", "--expect", argument, "--expect", MARKER, "--json")
    assert hv(*words, "--memory", "512") == Exit.ok
    assert json.loads(capsys.readouterr().out)["missed"] == []


@pytest.mark.vm
def test_secure_boot_refuses_what_nobody_signed(tmp_path: Path) -> None:
    words = ("--secure-boot", "--expect", "Access Denied", "--serial", tmp_path / "log", "--memory", "512")
    assert hv("try", fixture.image("26.05"), *words) == Exit.ok
    assert MARKER not in (tmp_path / "log").read_text(errors="replace")


@pytest.mark.vm
def test_with_a_tpm_and_disks_and_answers(tmp_path: Path) -> None:
    answers = REPOSITORY / "examples/home-lab.toml"
    machine = ("--uefi", "--tpm", "--disk", "1G", "--disk", "2G", "--answers", answers)
    words = ("--no-network", "--expect", MARKER, "--serial", tmp_path / "log", "--memory", "512")
    assert hv("try", fixture.image("26.05"), *machine, *words) == Exit.ok


def test_what_does_not_come_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fixture.image("26.05")
    words = ("try", path, "--bios", "--expect", MARKER, "--expect", "no such text", "--json")
    with pytest.raises(HyperError, match="no such text") as error:
        hv(*words, "--memory", "512")
    assert "switched itself off" in error.value.why
    assert json.loads(capsys.readouterr().out)["missed"] == ["no such text"]


def test_a_picture_of_the_screen(tmp_path: Path) -> None:
    picture = tmp_path / "screen.png"
    path = fixture.image("26.05")
    words = ("try", path, "--bios", "--expect", "HV-FIXTURE firmware", "--screenshot", picture)
    assert hv(*words, "--serial", tmp_path / "log", "--memory", "512") == Exit.ok
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_kvm_is_believed_when_it_runs_something() -> None:
    program = shutil.which("qemu-system-x86_64")
    assert program
    assert qemu.runs(program, "tcg")
    assert not qemu.runs(program, "no-such-accelerator")
    assert not qemu.runs("/nonexistent", "tcg")


def test_a_program_that_hangs_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which("qemu-system-x86_64")
    assert program
    monkeypatch.setattr(qemu, "probe_program", lambda: bytes(0xFFF0) + b"\xf4" * 16)
    monkeypatch.setattr(qemu, "PROBE_PATIENCE", 1.0)
    assert not qemu.runs(program, "tcg")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whoever_ends_it_finds_nothing_left(number: signal.Signals, tmp_path: Path) -> None:
    """Neither files nor a QEMU; so it is with every `hv media` command, whose main ends in order."""
    argv = [sys.executable, "-m", "hv", "media", "try", fixture.image("ours"), "--expect", "never said"]
    process = subprocess.Popen(
        [*map(str, argv), "--timeout", "600"],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        begun = time.monotonic()
        # Its monitor is there once QEMU is at work.
        while not [*tmp_path.glob("hv-try-*/qmp")]:
            assert time.monotonic() - begun < 60, "it does not start"
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED, said
    assert [*tmp_path.iterdir()] == []
    assert b"interrupted" in said
    left = subprocess.run(["pgrep", "--full", str(tmp_path)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_command_lines(tmp_path: Path) -> None:
    image = tmp_path / "a,b.iso"
    tools = qemu.Tools("qemu", "tcg", Path("/code"), Path("/variables"))
    made = Machine(
        image, Firmware.secure_boot, Attached.usb, disks=("1G",), tpm=True, answers=image, network=False
    )
    words = " ".join(qemu.arguments(made, tools, tmp_path))
    assert "a,,b.iso" in words
    assert "q35,smm=on" in words
    assert "property=secure,value=on" in words
    assert "-netdev" not in words
    assert "opt/hyper-nixos/answers" in words
    assert "usb-storage,drive=medium,removable=on,bootindex=1" in words
    arm = Machine(image, Firmware.uefi, Attached.cd, processor="aarch64")
    words = " ".join(qemu.arguments(arm, tools, tmp_path))
    assert "-machine virt" in words
    assert "scsi-cd,drive=medium" in words


def test_disks_that_stay(tmp_path: Path) -> None:
    tools = qemu.Tools("qemu", "tcg")
    for name, head, kind in (("a,b.qcow2", b"QFI\xfb", "qcow2"), ("disk", bytes(512), "raw")):
        disk = tmp_path / name
        disk.write_bytes(head)
        made = Machine(tmp_path / "x.iso", Firmware.bios, Attached.cd, disks=("1.5G", str(disk)))
        words = " ".join(qemu.arguments(made, tools, tmp_path))
        assert f"id=disk0,format=qcow2,file={tmp_path}/disk0," in words
        assert f"id=disk1,format={kind},file={str(disk).replace(',', ',,')}," in words
    absent = Machine(tmp_path / "x.iso", Firmware.bios, Attached.cd, disks=("absent.qcow2",))
    with pytest.raises(HyperError, match=r"disk absent\.qcow2 cannot be used") as error:
        qemu.prepare(absent, tools, tmp_path)
    assert "qemu-img create" in error.value.remedy


def test_the_image_has_what_it_should(tmp_path: Path) -> None:
    path, argument = medium("ours", tmp_path)
    with opened(path) as image:
        assert embedded(image, examine(image)).arguments == (argument,)
