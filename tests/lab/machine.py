"""A machine in QEMU: firmware, processors, disks with serial numbers, IOMMU, GPUs, TPM, network, and channels to it."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal

from installer.errors import HyperError
from tests.lab import userland
from tests.lab.channels import Agent, Monitor, Serial, connect
from tests.lab.command import run
from tests.lab.patience import patience
from tests.lab.tools import entered
from tests.lab.trunk import Trunk

OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_SECURE_CODE = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
OVMF_VARIABLES = "usr/share/OVMF/OVMF_VARS_4M.fd"
SECOND_MAC, THIRD_MAC = "52:54:00:48:56:98", "52:54:00:48:56:99"
"""Of the card's two functions, which a guest gets."""
_CACHE = "cache=unsafe,discard=unmap,detect-zeroes=unmap"
"""Speed before safety, and no room on this host for what holds nothing."""
_CPU = "max,-erms,-fsrm"
"""All that QEMU can emulate, except what makes Linux copy and clear byte by byte (`rep movsb`, `rep stosb`): real ones
are fast at it; an emulated one took five times as long to read a cached file as with whole words.
"""


@dataclass(frozen=True)
class Disk:
    """A disk of the machine."""

    serial: str
    """Serial number, by which it is selected."""
    size: str = "6G"
    """As qemu-img understands it."""
    bus: Literal["nvme", "virtio"] = "nvme"
    """What it hangs on."""
    sector: Literal[512, 4096] = 512
    """Bytes of its sectors; with 4096 it takes no request for less (4Kn)."""


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of."""

    firmware: Literal["uefi", "bios"]
    """OVMF or SeaBIOS."""
    disks: tuple[Disk, ...]
    """In order of their slots; the first is booted from."""
    memory: int = 3072
    """MiB."""
    processors: int = 1
    """Two machines run side by side on two of ours, and emulated ones that wait for each other cost more than they give."""
    tpm: bool = False
    """TPM 2 (swtpm)."""
    second_gpu: bool = False
    """A Radeon with its audio function behind a root port, for passthrough."""
    second_card: bool = False
    """A network card of two functions (e1000e) and a USB controller, each behind a root port, for passthrough."""
    medium: Literal["cd", "stick"] = "cd"
    """How the ISO image is attached."""
    mac: str = "52:54:00:48:56:01"
    """Of its one network interface."""
    network: bool = True
    """Whether it has that interface."""
    secure_boot: bool = False
    """Whether its firmware can enforce Secure Boot: it is in setup mode, without keys."""
    vlan: int | None = None
    """The VLAN that its network interface is on, with tagged frames; none: no tags."""
    address: str | None = None
    """What it calls itself, with the first address of that /24 as its gateway; none: what QEMU hands out."""


STALLED = "Possible timer handling issue on cpu"
"""What Linux says when an emulated processor gets no timer interrupts any more, which it does once in many boots: nothing
goes on after that."""


@dataclass
class Machine:
    """Firmware variables, disks and TPM state in a folder; started any number of times, with or without medium."""

    hardware: Hardware
    folder: Path
    port: int = 0
    """On this host, forwarded to the machine's SSH; chosen when it starts."""
    services: dict[str, int] = field(default_factory=dict)
    """What the machine reaches: an address and port of its network, `10.0.2.100:80`, to a port on this host."""
    sticks: tuple[Path, ...] = ()
    """Images that are plugged in as further USB sticks."""
    unlock: int = 0
    """Port of the SSH server in its stage 1, which is forwarded too; 0: it has none."""
    unlock_port: int = 0
    """On this host; chosen when it starts."""
    further: tuple[str, ...] = ()
    """Words at the end of QEMU's command line: a kernel that it starts without a boot loader."""
    reached_inside: bool = False
    """Whether it has the live system's channel and the slot for a payload without a medium too."""
    _started: "Running | None" = field(default=None, repr=False)

    def create(self) -> None:
        """Blank disks, factory-fresh firmware."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for disk in self.hardware.disks:
            self.blank(disk)
        if self.hardware.firmware == "uefi":
            shutil.copyfile(userland.build() / "root" / OVMF_VARIABLES, self.folder / "variables.fd")

    def blank(self, disk: Disk) -> None:
        """Make it anew, with nothing on it."""
        image = self.folder / f"{disk.serial}.qcow2"
        run(entered(userland.build() / "root", _create(image, disk.size), keep_user=True))

    def start(
        self,
        name: str,
        *,
        iso: Path | None = None,
        without: str | None = None,
        forget: bool = True,
        base: "Base | None" = None,
    ) -> "Running":
        """Switch it on. `iso` is the medium it boots from; without one it boots its first disk.

        `without` is the serial number of a disk that is pulled; what is written to the others then is forgotten, unless
        `forget` is false.
        With `base` the disks are left out, to be plugged in later; where it was kept, it goes on from there.
        """
        with socket.socket() as free, socket.socket() as other:
            free.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            self.port, self.unlock_port = int(free.getsockname()[1]), int(other.getsockname()[1])
        return Running(self, name, iso, (without, forget), base)


@dataclass(frozen=True)
class Base:
    """A live system without disks that is kept as it runs, to be gone on with any number of times."""

    state: Path
    """Memory and devices, once it was kept."""
    payload: Path
    """A read-only disk that is there from the beginning."""


@dataclass(frozen=True)
class DiskError:
    """A place of a disk that answers with an input/output error (QEMU's blkdebug)."""

    what: Literal["read", "write"]
    """Which requests fail."""
    sector: int
    """Every one that covers this one, of 512 bytes."""


def _create(image: Path, size: str) -> list[str]:
    return ["qemu-img", "create", "-q", "-f", "qcow2", str(image), size]


class Running:
    """A machine that is switched on; leaving the `with` block pulls the plug."""

    def __init__(
        self,
        machine: Machine,
        name: str,
        iso: Path | None,
        without: tuple[str | None, bool] = (None, False),
        base: Base | None = None,
    ) -> None:
        self.machine, self.name = machine, name
        (self._without, self._forget), self._base = without, base
        self._nodes: set[int] = set()
        restored = base is not None and base.state.exists()
        # Socket paths are limited to 107 bytes.
        self._sockets = Path(tempfile.mkdtemp(prefix="hv-lab-"))
        self._output = machine.folder / f"{name}.qemu.log"
        self._tpm: subprocess.Popen[bytes] | None = None
        self._trunk: Trunk | None = None
        arguments = self._arguments(iso)
        if base is not None and restored:
            arguments += ["-incoming", f"file:{base.state}"]
        if machine.hardware.tpm:
            self._start_tpm()
        root = userland.build() / "root"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                entered(root, ["qemu-system-x86_64", *arguments], keep_user=True, process=False),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self.monitor = Monitor(self._connect("monitor"))
            log = machine.folder / f"{name}.serial.log"
            self.serial = Serial(self._connect("serial"), log, self.dead)
            self.agent = Agent(self._connect("agent")) if iso else None
            if restored:
                self._wait_for("query-status", "inmigrate", 10)
            self.monitor.run("cont")
        except BaseException:
            self.kill()
            raise

    def _connect(self, name: str) -> socket.socket:
        return connect(self._sockets / name, self.dead, patience(5))

    def dead(self) -> str | None:
        """Why the machine is not running, or nothing."""
        code = self._process.poll()
        if code is None:
            return None
        return f"QEMU exited with {code}: {self._output.read_text(errors='replace')[-800:]}"

    def work(self) -> float:
        """Seconds that processors have worked for this machine (proc_pid_stat(5), utime and stime)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _arguments(self, iso: Path | None) -> list[str]:
        hardware, folder, sockets = self.machine.hardware, self.machine.folder, self._sockets
        words = ["-S", "-nodefaults", "-no-user-config", "-display", "none", "-name", self.name]
        words += [
            "-machine",
            f"q35,kernel-irqchip=split{',smm=on' if hardware.secure_boot else ''}",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            _CPU,
            "-smp",
            str(hardware.processors),
        ]
        words += ["-m", str(hardware.memory), "-no-reboot"]
        words += [
            "-device",
            "intel-iommu,intremap=on,caching-mode=on",
            "-device",
            "VGA",
            "-device",
            "virtio-rng-pci",
        ]
        words += ["-qmp", f"unix:{sockets}/monitor,server=on,wait=off"]
        words += [
            "-chardev",
            f"socket,id=serial,path={sockets}/serial,server=on,wait=off",
            "-serial",
            "chardev:serial",
        ]
        if hardware.network:
            reached = "".join(
                f",guestfwd=tcp:{there}-cmd:busybox nc 127.0.0.1 {port}"
                for there, port in self.machine.services.items()
            )
            own = hardware.address or ""
            forwarded = f"hostfwd=tcp:127.0.0.1:{self.machine.port}-{own}:22{reached}"
            if unlock := self.machine.unlock:
                forwarded += f",hostfwd=tcp:127.0.0.1:{self.machine.unlock_port}-{own}:{unlock}"
            if own:
                network = own.rpartition(".")[0]
                forwarded += f",net={network}.0/24,host={network}.1"
            if hardware.vlan is None:
                words += ["-netdev", f"user,id=lan,restrict=on,{forwarded}"]
            else:
                self._trunk = Trunk(sockets, hardware.vlan)
                words += self._trunk.words("lan", f"restrict=on,{forwarded}")
            words += ["-device", f"virtio-net-pci,netdev=lan,mac={hardware.mac},romfile="]
        if hardware.firmware == "uefi":
            # System management mode alone may write to the variables then.
            if hardware.secure_boot:
                words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
            code = OVMF_SECURE_CODE if hardware.secure_boot else OVMF_CODE
            words += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
            words += ["-drive", f"if=pflash,format=raw,file={folder}/variables.fd"]
        forget = ",snapshot=on" if self._without and self._forget else ""
        for number, disk in enumerate(hardware.disks):
            if self._base is not None:
                words += [
                    "-device",
                    f"pcie-root-port,id=port{number},chassis={number + 1},slot={number + 1}",
                ]
                continue
            if disk.serial == self._without:
                continue
            words += [
                "-drive",
                f"if=none,id=disk{number},file={folder}/{disk.serial}.qcow2,{_CACHE}{forget}",
            ]
            sector = f"logical_block_size={disk.sector},physical_block_size={disk.sector}"
            order = f"bootindex={number + 2}" + (f",{sector}" if disk.sector != 512 else "")
            if disk.bus == "nvme":
                words += [
                    "-device",
                    f"pcie-root-port,id=port{number},chassis={number + 1},slot={number + 1}",
                ]
                words += [
                    "-device",
                    f"nvme,drive=disk{number},id=device{number},serial={disk.serial},bus=port{number},{order}",
                ]
            else:
                words += ["-device", f"virtio-blk-pci,drive=disk{number},serial={disk.serial},{order}"]
        if hardware.second_gpu:
            words += ["-device", "pcie-root-port,id=gpu,chassis=20,slot=20"]
            words += ["-device", "ati-vga,bus=gpu,addr=0.0,multifunction=on,romfile="]
            words += ["-device", "intel-hda,bus=gpu,addr=0.1"]
        if hardware.second_card:
            words += ["-device", "pcie-root-port,id=card,chassis=21,slot=21"]
            for number, mac in enumerate((SECOND_MAC, THIRD_MAC)):
                words += ["-netdev", f"user,id=second{number},restrict=on"]
                place = f"bus=card,addr=0.{number},multifunction=on"
                words += ["-device", f"e1000e,{place},netdev=second{number},mac={mac},romfile="]
            words += ["-device", "pcie-root-port,id=usb,chassis=22,slot=22"]
            words += ["-device", "qemu-xhci,bus=usb,id=given", "-device", "usb-wacom-tablet,bus=given.0"]
        if hardware.tpm:
            words += [
                "-chardev",
                f"socket,id=tpm,path={sockets}/tpm",
                "-tpmdev",
                "emulator,id=tpm0,chardev=tpm",
            ]
            words += ["-device", "tpm-crb,tpmdev=tpm0"]
        if iso or self.machine.reached_inside:
            words += ["-device", "virtio-serial-pci"]
            words += ["-chardev", f"socket,id=agent,path={sockets}/agent,server=on,wait=off"]
            words += ["-device", "virtserialport,chardev=agent,name=lab"]
            words += ["-device", "pcie-root-port,id=spare,chassis=30,slot=30"]
        if iso:
            words += ["-drive", f"if=none,id=medium,format=raw,readonly=on,file={iso}"]
            if hardware.medium == "cd":
                words += ["-device", "ide-cd,drive=medium,bootindex=1"]
            else:
                words += ["-device", "qemu-xhci", "-device", "usb-storage,drive=medium,bootindex=1"]
        if self.machine.sticks:
            words += ["-device", "qemu-xhci,id=more"]
        for number, image in enumerate(self.machine.sticks):
            words += ["-drive", f"if=none,id=stick{number},format=raw,readonly=on,file={image}"]
            words += ["-device", f"usb-storage,drive=stick{number},bus=more.0"]
        if self._base is not None:
            words += ["-drive", f"if=none,id=payload,format=raw,readonly=on,file={self._base.payload}"]
            words += ["-device", "virtio-blk-pci,drive=payload,serial=HYPERNIXOS-CACHE,bus=spare,id=payload"]
        return [*words, *self.machine.further]

    def _start_tpm(self) -> None:
        state = self.machine.folder / "tpm"
        state.mkdir(exist_ok=True)
        control = f"type=unixio,path={self._sockets}/tpm"
        argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", control, "--terminate"]
        root = userland.build() / "root"
        self._tpm = subprocess.Popen(
            entered(root, argv, keep_user=True, process=False),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        pause = threading.Event()
        for _ in range(int(patience(5) / 0.02)):
            if (self._sockets / "tpm").exists():
                return
            pause.wait(0.02)
        raise HyperError("swtpm did not start", why="its socket never appeared", remedy="run swtpm by hand")

    def taken_over(self) -> Agent:
        """The agent of a live system that another one started in its own place."""
        self.agent = Agent(self._connect("agent"))
        return self.live(90)

    def live(self, measured: float = 25) -> Agent:
        """Wait for the live system and return its agent."""
        assert self.agent is not None, "only a machine with a medium has an agent"
        deadline, stalls = time.monotonic() + patience(measured), 0
        while not self.agent.ready.wait(2):
            if (seen := self.serial.text().count(STALLED)) > stalls:
                stalls = seen
                self.reset()
            if time.monotonic() < deadline and self.dead() is None:
                continue
            raise HyperError(
                "the live medium did not come up",
                why=f"its agent did not answer; the serial line says:\n{self.serial.text()[-1500:]}",
                remedy=f"read {self.machine.folder}",
            )
        return self.agent

    def reset(self) -> None:
        """Press the reset button; only where nothing was written yet."""
        self.monitor.run("set-action", reboot="reset")
        self.monitor.run("system_reset")
        self.monitor.run("set-action", reboot="shutdown")

    def plug(self, image: Path) -> None:
        """Plug in a read-only disk while the machine runs."""
        file = {"driver": "file", "filename": str(image), "read-only": True}
        self.monitor.run(
            "blockdev-add", **{"node-name": "payload", "driver": "raw", "read-only": True, "file": file}
        )
        self.monitor.run(
            "device_add",
            driver="virtio-blk-pci",
            drive="payload",
            serial="HYPERNIXOS-CACHE",
            bus="spare",
            id="payload",
        )

    def keep(self) -> None:
        """Stop the base, and keep it as it is now."""
        assert self._base is not None
        self.monitor.run("stop")
        unfinished = self._base.state.with_suffix(".unfinished")
        self.monitor.run("migrate", uri=f"file:{unfinished}")
        self._wait_for("query-migrate", "active", 20)
        unfinished.rename(self._base.state)

    def _wait_for(self, query: str, busy: str, measured: float) -> None:
        """Wait until QEMU says something else than that it is busy so, and no failure."""
        deadline, pause = time.monotonic() + patience(measured), threading.Event()
        while (status := self.monitor.run(query).get("status")) in (busy, "setup", "device"):
            if time.monotonic() > deadline:
                raise HyperError(f"{query} does not end", why=f"it is {status}", remedy="look at QEMU")
            pause.wait(0.1)
        if status not in ("completed", "paused", "prelaunch", "running", "postmigrate"):
            raise HyperError(
                f"{query}: {status}",
                why=self._output.read_text(errors="replace")[-800:],
                remedy="look at QEMU",
            )

    def plug_disks(self, errors: "Mapping[str, DiskError]" = MappingProxyType({})) -> None:
        """Plug in the machine's disks while it runs, each with the error that it is to have, by serial number."""
        for disk in self.machine.hardware.disks:
            self.plug_disk(disk.serial, errors.get(disk.serial))

    def plug_disk(self, serial: str, error: "DiskError | None" = None) -> None:
        """Plug in one disk, also one that was unplugged before."""
        number = self._number(serial)
        disk = self.machine.hardware.disks[number]
        node = f"disk{number}"
        if number not in self._nodes:
            file = {"driver": "file", "filename": str(self.machine.folder / f"{serial}.qcow2")}
            cache = {"no-flush": True}
            self.monitor.run(
                "blockdev-add",
                **{"node-name": node, "driver": "qcow2", "file": file, "cache": cache},
                discard="unmap",
            )
            self._nodes.add(number)
        if error is not None:
            rule = {"event": "none", "iotype": error.what, "sector": error.sector, "errno": 5, "once": False}
            self.monitor.run(
                "blockdev-add",
                **{"node-name": f"errors{number}", "driver": "blkdebug", "inject-error": [rule]},
                image=node,
            )
            node = f"errors{number}"
        self.monitor.run(
            "device_add",
            driver="nvme" if disk.bus == "nvme" else "virtio-blk-pci",
            drive=node,
            serial=serial,
            bus=f"port{number}",
            id=f"device{number}",
        )

    def unplug_disk(self, serial: str) -> None:
        """Pull a disk and wait until it is gone; what was written to it stays."""
        number = self._number(serial)
        self.pull(serial)
        deadline, pause = time.monotonic() + patience(20), threading.Event()
        while any(
            each["name"] == f"device{number}"
            for each in self.monitor.run("qom-list", path="/machine/peripheral")
        ):
            if time.monotonic() > deadline:
                raise HyperError(f"{serial} stays plugged in", why="the guest holds it", remedy="look at it")
            pause.wait(0.2)
        if any(
            each["node-name"] == f"errors{number}" for each in self.monitor.run("query-named-block-nodes")
        ):
            self.monitor.run("blockdev-del", **{"node-name": f"errors{number}"})

    def _number(self, serial: str) -> int:
        return [disk.serial for disk in self.machine.hardware.disks].index(serial)

    def copy(self, serial: str, name: str) -> Path:
        """What is on a disk at this moment, as an image beside it."""
        number = self._number(serial)
        target = self.machine.folder / f"{serial}-{name}.qcow2"
        self.monitor.run(
            "drive-backup",
            **{
                "device": f"disk{number}",
                "target": str(target),
                "format": "qcow2",
                "sync": "full",
                "job-id": "copy",
            },
        )
        deadline, pause = time.monotonic() + patience(20), threading.Event()
        while jobs := self.monitor.run("query-block-jobs"):
            if time.monotonic() > deadline:
                raise HyperError(f"{serial} is not copied", why=str(jobs), remedy="look at QEMU")
            pause.wait(0.1)
        return target

    def pull(self, serial: str) -> None:
        """Pull a disk out of the running machine."""
        self.monitor.run("device_del", id=f"device{self._number(serial)}")

    def press(self, *keys: str) -> None:
        """Press keys of its keyboard one after the other, by where they are on one of the United States (QEMU's names)."""
        for key in keys:
            pressed = [{"type": "qcode", "data": each} for each in key.split("+")]
            self.monitor.run("send-key", keys=pressed, **{"hold-time": 20})
            threading.Event().wait(0.1)  # the next one waits in QEMU for this one to be let go

    def screenshot(self, name: str) -> Path:
        """The screen as a PNG in the run's folder."""
        picture = self.machine.folder / f"{name}.png"
        self.monitor.run("screendump", filename=str(picture), format="png")
        return picture

    def wait_off(self, measured: float) -> None:
        """Wait until the machine switches itself off or asks to be reset."""
        try:
            self._process.wait(patience(measured))
        except subprocess.TimeoutExpired as error:
            raise HyperError(
                f"{self.name} did not switch off", why=str(error), remedy=f"read {self.machine.folder}"
            ) from error

    def kill(self) -> None:
        """Pull the plug; what QEMU has not handed to the host is lost, as with real machines."""
        if self._process.poll() is None:
            with contextlib.suppress(Exception):
                self.monitor.run("quit")
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._tpm is not None:
            self._tpm.terminate()
            self._tpm.wait()
        if self._trunk is not None:
            self._trunk.close()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with contextlib.suppress(HyperError):
                self.screenshot(f"{self.name}-failed")
        self.kill()
