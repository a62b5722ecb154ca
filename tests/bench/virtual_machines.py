"""VMs: what a person waits for, against what libvirt's own programs take for the same on the same host."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from hv.vm.domain import console_log
from installer.errors import HyperError
from tests.bench.contest import Contest, Result, hold, timed
from tests.broker import BrokerHost, broker_host, wait_for
from tests.lab.bootsector import boot_disk

DOMAINS = 1000
LIST_GOAL, QUICK_GOAL, CREATE_GOAL = 1.5, 6.0, 1.1
STUCK_GOAL = 0.3
"""Seconds for a list while one guest's QEMU is stopped."""
ROUNDS = 5
HV = str(Path(sys.executable).with_name("hv"))
MARKER = "MARK-bench"


@dataclass(frozen=True)
class Measured:
    """All of it."""

    results: tuple[Result, ...]
    stuck: tuple[float, ...]
    """Seconds of each list while a QEMU is stopped."""


def measure() -> Measured:
    """Everything. Raises HyperError when something is missing or does not do what it should."""
    if os.geteuid() != 0 or not shutil.which("virt-install") or not shutil.which("virsh"):
        raise HyperError(
            "bench: VMs cannot be measured",
            why="it needs root, virsh and virt-install",
            remedy="as root: make bench (./setup.sh bench libvirt installs them)",
        )
    results = [*_thousand()]
    with broker_host() as host:
        _image(host)
        results.append(_creating(host))
        stuck = _stuck(host)
    return Measured(tuple(results), stuck)


@contextmanager
def _made_up() -> Iterator[tuple[str, str]]:
    """A broker of libvirt's test driver with many guests: its socket, and the URI."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "host.xml")
        domains = "".join(
            f"<domain type='test'><name>guest-{number:04}</name><memory>65536</memory><vcpu>1</vcpu>"
            "<os><type>hvm</type></os></domain>"
            for number in range(DOMAINS)
        )
        file.write_text(f"<node>{domains}</node>")
        uri, path = f"test://{file}", Path(folder, "hvd.sock")
        command = [
            sys.executable,
            "-m",
            "hv.daemon",
            "--socket",
            str(path),
            "--group",
            "root",
            "--state",
            folder,
            "--connect",
            uri,
        ]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
            try:
                wait_for("hvd", lambda: path.exists() or daemon.poll() is not None)
                os.environ["HV_SOCKET"] = str(path)
                wait_for(
                    "its answer",
                    lambda: (
                        subprocess.run((HV, "vm", "list"), capture_output=True, check=False).returncode == 0
                    ),
                )
                yield str(path), uri
            finally:
                del os.environ["HV_SOCKET"]
                daemon.terminate()


def _thousand() -> Iterator[Result]:
    """Lists, and the quickest of commands."""
    with _made_up() as (_, uri):
        yield hold(
            Contest(
                f"hv vm list, {DOMAINS} VMs",
                (HV, "vm", "list"),
                ("virsh", "--connect", uri, "list", "--all"),
                LIST_GOAL,
                lambda out: out.count("guest-") == DOMAINS,
                rounds=15,
            )
        )
        bare = (sys.executable, "-c", "pass")
        yield hold(
            Contest(
                "hv auth whoami",
                (HV, "auth", "whoami"),
                bare,
                QUICK_GOAL,
                lambda out: "admin" in out,
                rounds=21,
            )
        )
        yield hold(
            Contest(
                "hv vm start --help",
                (HV, "vm", "start", "--help"),
                bare,
                QUICK_GOAL,
                lambda out: "usage" in out,
                rounds=21,
            )
        )


def _image(host: BrokerHost) -> None:
    raw, made = host.folder / "bench.raw", host.folder / "bench.qcow2"
    raw.write_bytes(boot_disk(MARKER))
    subprocess.run(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, made), check=True)
    host.hv("root", "image", "import", str(made), "--name", "bench")


def _creating(host: BrokerHost) -> Result:
    """From the command to the guest's marker; virt-install gets a disk on the same image, which is part of its time."""
    ours, theirs = [], []
    image = next(host.path("/var/lib/libvirt/images").glob("*-image.qcow2")).name
    for number in range(ROUNDS + 1):
        log = f"/var/log/libvirt/qemu/theirs{number}-serial.log"
        start = time.perf_counter()
        script = (
            f"qemu-img create -q -f qcow2 -F qcow2 -b /var/lib/libvirt/images/{image} /var/lib/libvirt/images/t{number}.qcow2; "
            f"virt-install --connect qemu:///system --name theirs{number} --memory 32 --vcpus 1 --import --noautoconsole "
            f"--osinfo detect=off,require=off --virt-type qemu --network none --graphics vnc,listen=socket --machine q35 "
            f"--disk path=/var/lib/libvirt/images/t{number}.qcow2,bus=virtio --serial pty,log.file={log}"
        )
        done = host.run_as("root", "sh", "-ec", script)
        if done.status:
            raise HyperError("bench: virt-install failed", why=done.err[-2000:], remedy="mend that first")
        wait_for("its marker", partial(_says, host.path(log)))
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        made = host.hv(
            "root",
            "vm",
            "create",
            f"ours{number}",
            "--image",
            "bench",
            "--memory",
            "32M",
            "--firmware",
            "bios",
            "--network",
            "none",
            "--start",
            "--json",
        )
        wait_for("our marker", partial(_says, host.path(console_log(made.json["uuid"]))))
        mine = time.perf_counter() - start
        host.run_as("root", "sh", "-c", f"virsh destroy theirs{number}; virsh undefine theirs{number}")
        host.hv("root", "vm", "delete", f"ours{number}", "--disks", "--force")
        if number:
            ours.append(mine)
            theirs.append(seconds)
    return Result("hv vm create to marker", tuple(ours), tuple(theirs), CREATE_GOAL)


def _says(file: Path) -> bool:
    return file.exists() and MARKER in file.read_text(errors="replace")


def _stuck(host: BrokerHost) -> tuple[float, ...]:
    """Lists while one guest's QEMU is stopped and a command already waits for it."""
    host.hv(
        "root",
        "vm",
        "create",
        "stuck",
        "--image",
        "bench",
        "--memory",
        "32M",
        "--firmware",
        "bios",
        "--network",
        "none",
        "--start",
    )
    process = host.qemu("stuck")
    os.kill(process, signal.SIGSTOP)
    os.environ["HV_SOCKET"] = str(host.path("/run/hvd/hvd.sock"))
    try:
        host.hv("root", "vm", "pause", "stuck", "--no-wait")
        timed((HV, "vm", "list"))
        return tuple(timed((HV, "vm", "list"))[0] for _ in range(11))
    finally:
        del os.environ["HV_SOCKET"]
        os.kill(process, signal.SIGCONT)


def missed(measured: Measured) -> list[str]:
    """What is not good enough."""
    names = [result.name for result in measured.results if not result.met]
    return names + (["hv vm list, one QEMU stopped"] if median(measured.stuck) > STUCK_GOAL else [])
