"""Boots exactly this image in QEMU: what `hv media try` runs. Command lines are built here and run by it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from installer.errors import Exit, HyperError
from installer.fetch.source import FW_CFG
from iso.netboot import OURS

PROBE_ANSWER = 0x21
"""What the probe's program writes to the port that ends QEMU."""
PROBE_PATIENCE = 5.0
"""Seconds; with KVM it takes a tenth of one."""
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r|\0")
_KEPT = 1 << 20
"""Bytes of the serial line in which texts are looked for."""


class Firmware(StrEnum):
    """What the machine starts with."""

    bios = "bios"
    uefi = "uefi"
    secure_boot = "secure-boot"


class Attached(StrEnum):
    """How the image hangs on the machine."""

    cd = "cd"
    usb = "usb"
    pxe = "pxe"
    """Not at all: the image is a folder that the network card's iPXE boots from."""


@dataclass(frozen=True)
class Machine:
    """A machine to be tried."""

    image: Path
    firmware: Firmware
    attached: Attached
    processor: str = "x86_64"
    """Or aarch64."""
    memory: int = 2048
    """MiB."""
    disks: tuple[str, ...] = ()
    """Sizes of blank disks, as qemu-img takes them; or files, which keep what is written to them."""
    tpm: bool = False
    answers: Path | None = None
    """Handed in by fw_cfg, where the installer looks for them (installer/fetch)."""
    network: bool = True
    kernel: Path | None = None
    initrds: tuple[Path, ...] = ()
    arguments: str = ""


@dataclass(frozen=True)
class Tools:
    """What this computer has."""

    qemu: str
    accelerator: str
    """`kvm`, `hvf` or `tcg`."""
    code: Path | None = None
    """UEFI's program."""
    variables: Path | None = None
    """Its variables, as they leave the factory."""
    swtpm: str | None = None


FIRMWARE: dict[tuple[str, Firmware], tuple[tuple[str, str], ...]] = {
    ("x86_64", Firmware.uefi): (
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
        ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
        ("{share}/edk2-x86_64-code.fd", "{share}/edk2-i386-vars.fd"),
    ),
    ("x86_64", Firmware.secure_boot): (
        ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
    ),
    ("aarch64", Firmware.uefi): (
        ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
        ("/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
        ("{share}/edk2-aarch64-code.fd", "{share}/edk2-arm-vars.fd"),
    ),
}
"""Where Debian, Fedora, Arch, and QEMU itself (nixpkgs, Homebrew) have it."""


def missing(what: str, why: str, remedy: str) -> HyperError:
    """The error for a computer that lacks something."""
    return HyperError(what, why=why, remedy=remedy, code=Exit.unsuitable)


def find_tools(machine: Machine) -> Tools:
    """What is needed for it here. Raises HyperError (Exit.unsuitable)."""
    name = f"qemu-system-{machine.processor}"
    qemu = shutil.which(name)
    if qemu is None:
        raise missing(
            "the image cannot be tried here",
            f"{name} is not installed",
            "install QEMU: the package qemu-system (Debian), or `nix shell nixpkgs#qemu`",
        )
    code = variables = None
    if machine.firmware is not Firmware.bios:
        share = str(Path(qemu).resolve().parents[1] / "share/qemu")
        pairs = FIRMWARE.get((machine.processor, machine.firmware), ())
        found = (tuple(Path(name.format(share=share)) for name in pair) for pair in pairs)
        code, variables = next(
            ((one, two) for one, two in found if one.is_file() and two.is_file()), (None, None)
        )
        if code is None:
            raise missing(
                f"there is no firmware for {machine.firmware} here",
                f"none of these is a file: {', '.join(pair[0] for pair in pairs) or 'no place is known'}",
                "install it: the package ovmf (Debian), edk2-ovmf (Fedora, Arch), or try with --bios",
            )
    elif machine.processor != "x86_64":
        raise missing("the image cannot be tried so", "aarch64 has no BIOS", "use --uefi")
    swtpm = shutil.which("swtpm")
    if machine.tpm and swtpm is None:
        raise missing("there is no TPM here", "swtpm is not installed", "install it: the package swtpm")
    native = os.uname().machine in (machine.processor, {"aarch64": "arm64"}.get(machine.processor))
    accelerator = "kvm" if native and kvm_works(qemu, machine.processor) else "tcg"
    return Tools(qemu, accelerator, code, variables, swtpm)


def probe_program() -> bytes:
    """A firmware of 64 KiB that does nothing but end QEMU from its first instructions."""
    start = bytes((0xB0, PROBE_ANSWER, 0xE6, 0xF4, 0xF4))  # mov al; out 0xf4, al; hlt
    return bytes(0xFFF0) + start.ljust(16, b"\x90")


def runs(qemu: str, accelerator: str, processor: str = "x86_64") -> bool:
    """Whether a machine really executes something: some computers have /dev/kvm and yet no guest runs on it."""
    if processor != "x86_64":
        return accelerator == "tcg" or os.access("/dev/kvm", os.R_OK | os.W_OK)
    with TemporaryDirectory(prefix="hv-try-") as folder:
        program = Path(folder, "program")
        program.write_bytes(probe_program())
        cpu = "host" if accelerator == "kvm" else "max"
        argv = [qemu, "-accel", accelerator, "-cpu", cpu, "-M", "q35", "-nodefaults", "-display", "none"]
        argv += ["-no-reboot", "-bios", str(program), "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=PROBE_PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == PROBE_ANSWER << 1 | 1


def kvm_works(qemu: str, processor: str) -> bool:
    """Whether KVM runs a guest here."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and runs(qemu, "kvm", processor)


def arguments(machine: Machine, tools: Tools, folder: Path) -> list[str]:
    """QEMU's command line; `folder` has variables, disks and sockets of this run."""
    x86 = machine.processor == "x86_64"
    secure = machine.firmware is Firmware.secure_boot
    board = ("q35,smm=on" if secure else "q35") if x86 else "virt"
    words = [tools.qemu, "-nodefaults", "-no-user-config", "-name", machine.image.name.replace(",", ",,")]
    words += ["-machine", board, "-accel", tools.accelerator, "-smp", "2", "-m", str(machine.memory)]
    words += ["-cpu", "host" if tools.accelerator == "kvm" else "max", "-no-reboot"]
    words += ["-device", "VGA" if x86 else "virtio-gpu-pci", "-device", "virtio-rng-pci"]
    words += ["-device", "qemu-xhci,id=usb", "-device", "usb-kbd"]
    words += ["-qmp", f"unix:{folder}/qmp,server=on,wait=off"]
    if secure:
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    if tools.code:
        words += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_escaped(tools.code)}"]
        words += ["-drive", f"if=pflash,format=raw,unit=1,file={folder}/variables"]
    # The image itself is never written to; what a stick's system writes is forgotten.
    kind = "qcow2" if is_qcow2(machine.image) else "raw"
    shared = f"if=none,id=medium,format={kind},file={_escaped(machine.image)}"
    if machine.kernel is not None:
        words += ["-kernel", str(machine.kernel), "-append", machine.arguments]
        words += ["-initrd", str(folder / "initrd")] if machine.initrds else []
    elif machine.attached is Attached.pxe:
        pass
    elif machine.attached is Attached.cd:
        bus = "ide-cd,drive=medium,bootindex=1" if x86 else "scsi-cd,drive=medium,bootindex=1"
        words += [] if x86 else ["-device", "virtio-scsi-pci"]
        words += ["-drive", f"{shared},readonly=on,media=cdrom", "-device", bus]
    else:
        words += ["-drive", f"{shared},snapshot=on"]
        words += ["-device", "usb-storage,drive=medium,removable=on,bootindex=1,serial=HV-TRY"]
    for number, disk in enumerate(machine.disks):
        file, kind = (
            (Path(disk), _format(Path(disk))) if _is_file(disk) else (folder / f"disk{number}", "qcow2")
        )
        words += ["-drive", f"if=none,id=disk{number},format={kind},file={_escaped(file)},discard=unmap"]
        words += [
            "-device",
            f"virtio-blk-pci,drive=disk{number},serial=TRY-{number + 1},bootindex={number + 2}",
        ]
    if machine.answers:
        words += ["-fw_cfg", f"name={FW_CFG},file={_escaped(machine.answers)}"]
    if machine.tpm:
        words += ["-chardev", f"socket,id=tpm,path={folder}/tpm", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
        words += ["-device", "tpm-crb,tpmdev=tpm0" if x86 else "tpm-tis-device,tpmdev=tpm0"]
    if machine.attached is Attached.pxe:
        words += ["-netdev", f"user,id=lan,tftp={_escaped(machine.image)},bootfile={OURS}"]
        words += ["-device", "virtio-net-pci,netdev=lan,bootindex=1"]
    elif machine.network:
        words += ["-netdev", "user,id=lan", "-device", "virtio-net-pci,netdev=lan,romfile="]
    return words


def _is_file(disk: str) -> bool:
    """Whether a disk is a file, and no size."""
    return re.fullmatch(r"[0-9.]+[A-Za-z]{0,3}", disk) is None


def is_qcow2(path: Path) -> bool:
    """Whether an image is one of QEMU's own format (QEMU, docs/interop/qcow2.txt)."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"QFI\xfb"
    except OSError:
        return False


def _format(path: Path) -> str:
    """What is in a disk's file. Raises HyperError (Exit.usage) when there is none."""
    try:
        with path.open("r+b") as file:
            return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
    except OSError as error:
        raise HyperError(
            f"the disk {path} cannot be used",
            why=error.strerror or str(error),
            remedy=f"make it (`qemu-img create -f qcow2 {path} 40G`), or write a size for one that is forgotten: 20G",
            code=Exit.usage,
        ) from error


def _escaped(path: Path) -> str:
    """A path in an option of QEMU: commas are doubled."""
    return str(path.absolute()).replace(",", ",,")


@dataclass
class Trial:
    """How it went."""

    found: list[str] = field(default_factory=list)
    """Expected texts that came, in their order."""
    seconds: float = 0.0
    ended: bool = False
    """Whether the machine switched itself off."""
    serial: bytes = b""
    """The end of what it said, without control sequences."""


def run(
    machine: Machine,
    tools: Tools,
    *,
    expect: Sequence[str],
    patience: float,
    hear: Callable[[bytes], object],
    screenshot: Path | None = None,
) -> Trial:
    """Switch it on, listen to its serial line, and pull the plug when everything expected came, or time is up.

    Args:
        machine: Which.
        tools: With what.
        expect: Texts, in this order. None: until it switches itself off.
        patience: Seconds.
        hear: Is handed everything that comes over the serial line.
        screenshot: Where a picture of the screen goes, at the end.

    Raises:
        HyperError: QEMU does not start.
    """
    trial = Trial()
    started = time.monotonic()
    with TemporaryDirectory(prefix="hv-try-") as made:
        folder = Path(made)
        prepare(machine, tools, folder)
        tpm = start_tpm(tools, folder) if machine.tpm else None
        log = folder / "qemu"
        words = [*arguments(machine, tools, folder), "-display", "none", "-serial", "stdio"]
        # Switched off, there would be no screen any more.
        words += ["-no-shutdown"] if screenshot else []
        with log.open("wb") as output:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        try:
            _listen(process, trial, expect, started + patience, hear)
            if screenshot and process.poll() is None:
                with suppress(OSError, ValueError):
                    _qmp(folder / "qmp", "screendump", filename=str(screenshot.absolute()), format="png")
            if process.poll() not in (None, 0):
                raise HyperError(
                    "QEMU failed",
                    why=log.read_text(errors="replace").strip() or f"exit status {process.returncode}",
                    remedy="mend what it names; `hv media doctor` looks at the image without QEMU",
                )
        finally:
            for each in (process, tpm):
                if each and each.poll() is None:
                    os.killpg(each.pid, signal.SIGKILL)
                    each.wait()
            if process.stdout:
                process.stdout.close()
    trial.seconds = time.monotonic() - started
    return trial


def prepare(machine: Machine, tools: Tools, folder: Path) -> None:
    """Make variables, disks and joined initial RAM disks in a folder."""
    if tools.variables:
        shutil.copyfile(tools.variables, folder / "variables")
        (folder / "variables").chmod(0o600)
    for number, size in enumerate(machine.disks):
        if _is_file(size):
            _format(Path(size))
            continue
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(folder / f"disk{number}"), size]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HyperError(
                f"there is no disk of {size}",
                why=done.stderr.strip(),
                remedy="write a size like 20G",
                code=Exit.usage,
            )
    if machine.initrds:
        with (folder / "initrd").open("wb") as joined:
            for each in machine.initrds:
                joined.write(each.read_bytes())
                joined.write(bytes(-joined.tell() % 4))


def _listen(
    process: subprocess.Popen[bytes],
    trial: Trial,
    expect: Sequence[str],
    deadline: float,
    hear: Callable[[bytes], object],
) -> None:
    assert process.stdout
    waiting = [text.encode() for text in expect]
    os.set_blocking(process.stdout.fileno(), False)
    import select

    raw = b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select(
            [process.stdout], [], [], min(1.0, max(0.0, deadline - time.monotonic()))
        )
        if not ready:
            continue
        data = process.stdout.read(65536)
        if data == b"":
            process.wait()
            trial.ended = True
        hear(data or b"")
        raw = (raw + (data or b""))[-_KEPT:]
        trial.serial = _CONTROL.sub(b"", raw)
        at = 0
        trial.found = []
        for text in waiting:
            place = trial.serial.find(text, at)
            if place < 0:
                break
            trial.found.append(text.decode())
            at = place + len(text)
        if trial.ended or (waiting and len(trial.found) == len(waiting)):
            return


def start_tpm(tools: Tools, folder: Path) -> subprocess.Popen[bytes]:
    assert tools.swtpm
    (folder / "tpm-state").mkdir()
    argv = [tools.swtpm, "socket", "--tpm2", "--tpmstate", f"dir={folder}/tpm-state"]
    argv += ["--ctrl", f"type=unixio,path={folder}/tpm", "--terminate"]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 10
    while not (folder / "tpm").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise missing("the TPM does not start", "swtpm made no socket", "run swtpm by hand to see why")
        time.sleep(0.02)
    return process


def _qmp(path: Path, command: str, **values: str) -> None:
    """Run one command of QEMU's monitor (docs/interop/qmp-spec)."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect(str(path))
        lines = line.makefile("rw")
        lines.readline()
        for words in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": values}):
            lines.write(json.dumps(words) + "\n")
            lines.flush()
            while True:
                answer = json.loads(lines.readline())
                if "error" in answer:
                    raise ValueError(answer["error"]["desc"])
                if "return" in answer:
                    break
