"""libvirtd killed in the middle of every operation on VMs. It is stopped first, so that the operation stands in a call;
then it is killed, and comes back. Afterwards the operation is done, or it was said what happened and it can be done again.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.broker import PATIENCE, BrokerHost, broker_host, wait_for
from tests.lab.bootsector import boot_disk
from tests.test_vm_life import PLAIN, definition, put, state

pytestmark = pytest.mark.libvirt
NAME = "tïny 1"
BLOCKED = 2.0
"""Seconds for an operation to begin; those that ask libvirt before they begin stand in that call by then."""


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        small, raw = made.folder / "tiny.qcow2", made.folder / "tiny.raw"
        raw.write_bytes(boot_disk("MARK-tiny"))
        for kind in ("qcow2", "vmdk"):
            into = small.with_suffix(f".{kind}")
            subprocess.run(("qemu-img", "convert", "-f", "raw", "-O", kind, raw, into), check=True)
        put(made, "tiny", small)
        made.folder.chmod(0o777)
        yield made


@pytest.fixture(autouse=True)
def clean(host: BrokerHost) -> Iterator[None]:
    """Nothing of one operation is there for the next."""
    yield
    for name in host.hv("alma", "vm", "list", "--names").out.splitlines():
        host.hv("alma", "vm", "delete", name, "--disks", "--force")
    for disk in re.findall(r"default/\S+", host.hv("alma", "vm", "disks").out):
        host.hv("alma", "vm", "disk-delete", disk)
    for row in host.hv("alma", "image", "list", "--json").json["images"]:
        if row["name"] != "tiny":
            host.hv("alma", "image", "delete", row["name"])
    folder = host.path("/var/lib/libvirt/images")
    wait_for(
        "the pool to have nothing but the image",
        lambda: [path.name for path in folder.iterdir()] == images(host),
    )


def images(host: BrokerHost) -> list[str]:
    """The one volume that stays."""
    return [each["volume"] for each in host.hv("ada", "image", "list", "--json").json["images"]]


@dataclass(frozen=True)
class Operation:
    """One verb, in the middle of which libvirtd dies."""

    words: tuple[str, ...]
    """Of `hv vm`, or of `hv image`; `@` stands for the VM, `@…` for what is only known then."""
    done: Callable[[BrokerHost], Any]
    """Whether libvirt says that it is done."""
    before: tuple[tuple[str, ...], ...] = ()
    """Commands before."""
    who: str = "ada"
    """Devices are for administrators."""


def runs(host: BrokerHost) -> bool:
    return bool(state(host, NAME) == libvirt.VIR_DOMAIN_RUNNING)


def off(host: BrokerHost) -> bool:
    return bool(state(host, NAME) == libvirt.VIR_DOMAIN_SHUTOFF)


def there(host: BrokerHost, name: str) -> bool:
    with host.libvirt() as connection:
        return name in [domain.name() for domain in connection.listAllDomains(0)]


def snapshots(host: BrokerHost) -> list[str]:
    with host.libvirt() as connection:
        found: list[str] = connection.lookupByName(NAME).snapshotListNames(0)
        return found


def count(host: BrokerHost, what: str) -> int:
    return len(definition(host, NAME).findall(f"devices/{what}"))


def autostarts(host: BrokerHost) -> bool:
    with host.libvirt() as connection:
        return bool(connection.lookupByName(NAME).autostart())


def kept(host: BrokerHost) -> list[str]:
    """Disks that no VM uses."""
    used = [each.get("file") for each in definition(host, NAME).iterfind("devices/disk/source")]
    found = re.findall(r"default/(\S+)", host.hv("ada", "vm", "disks").out)
    return [name for name in found if not any(str(file).endswith(name) for file in used)]


def meant(host: BrokerHost, word: str) -> str:
    """What a word stands for: `@` the VM, others what is only known now."""
    match word:
        case "@":
            return NAME
        case "@mac":
            return str(definition(host, NAME).find("devices/interface/mac").get("address"))
        case "@kept":
            return f"default/{kept(host)[0]}"
        case "@out":
            return str(host.folder / OUT)
        case "@image":
            return str(host.folder / "tiny.qcow2")
        case "@vmx":
            file = host.folder / "foreign.vmx"
            file.write_text(VMX)
            return str(file)
        case "@declared":
            file = host.folder / "declared.toml"
            file.write_text(DECLARED)
            return str(file)
    return word


OUT = "out.qcow2"
DECLARED = """version = 1
[[vms]]
name = "declared"
memory = "48MiB"
firmware = "bios"
disks = [{ image = "tiny", size = "2MiB" }]
"""
VMX = """displayName = "foreign"
memsize = "48"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "tiny.vmdk"
"""
GPU = "0000:21:00.0"
"""With its sound, of the recorded machine."""
DEVICE = ("attach", "@", "--pci", GPU)
START, SNAPSHOT = ("start", "@"), ("snapshot", "@", "create", "s")
OPERATIONS = {
    "create": Operation(
        ("create", "new", "--image", "tiny", "--user", "ada", *PLAIN, "--start"),
        lambda host: there(host, "new"),
    ),
    "start": Operation(START, runs),
    "stop": Operation(("stop", "@", "--force"), off, (START,)),
    "stop, of a guest that does not follow": Operation(("stop", "@", "--wait", "5"), runs, (START,)),
    "restart": Operation(("restart", "@", "--force"), runs, (START,)),
    "pause": Operation(
        ("pause", "@"), lambda host: state(host, NAME) == libvirt.VIR_DOMAIN_PAUSED, (START,)
    ),
    "resume": Operation(("resume", "@"), runs, (START, ("pause", "@"))),
    "rename": Operation(
        ("rename", "@", "other"), lambda host: there(host, "other") and not there(host, NAME)
    ),
    "tag": Operation(
        ("tag", "@", "+x"), lambda host: "x" in host.hv("ada", "vm", "list", "--tag", "x", "--json").out
    ),
    "edit": Operation(
        ("edit", "@", "--description", "new"),
        lambda host: definition(host, NAME).findtext("description") == "new",
    ),
    "autostart": Operation(("autostart", "@", "on"), autostarts),
    "resize processors": Operation(
        ("resize", "@", "--cpus", "3"), lambda host: definition(host, NAME).findtext("vcpu") == "3"
    ),
    "resize disk": Operation(
        ("resize", "@", "--size", "9M"),
        lambda host: (
            host.hv("ada", "vm", "show", NAME, "--json").json["disks"][0]["volume"]["size"] == 9 << 20
        ),
        (START,),
    ),
    "attach disk": Operation(
        ("attach", "@", "--size", "2M"), lambda host: count(host, "disk") == 2, (START,)
    ),
    "attach card": Operation(
        ("attach", "@", "--network", "default"), lambda host: count(host, "interface") == 1
    ),
    "detach disk": Operation(
        ("detach", "@", "--disk", "vdb"),
        lambda host: count(host, "disk") == 1,
        (("attach", "@", "--size", "2M"),),
    ),
    "detach card": Operation(
        ("detach", "@", "--mac", "@mac"),
        lambda host: count(host, "interface") == 0,
        (("attach", "@", "--network", "default"),),
    ),
    "attach device": Operation(DEVICE, lambda host: count(host, "hostdev") == 2, who="alma"),
    "detach device": Operation(
        ("detach", "@", "--pci", GPU), lambda host: count(host, "hostdev") == 0, (DEVICE,), who="alma"
    ),
    "disk-delete": Operation(
        ("disk-delete", "@kept"),
        lambda host: not kept(host),
        (("attach", "@", "--size", "2M"), ("detach", "@", "--disk", "vdb")),
    ),
    "apply": Operation(("apply", "@declared", "--yes"), lambda host: there(host, "declared")),
    "export": Operation(
        ("export", "copy", "--output", "@out"),
        lambda host: (
            subprocess.run(("qemu-img", "check", "-q", host.folder / OUT), check=False).returncode == 0
        ),
        (("clone", "@", "copy"),),
    ),
    "image import": Operation(
        ("image", "import", "@image", "--name", "second"), lambda host: len(images(host)) == 2
    ),
    "import": Operation(
        ("import", "@vmx", "--as", "foreign", "--network", "default"),
        lambda host: there(host, "foreign") and len(images(host)) == 2,
    ),
    "image delete": Operation(
        ("image", "delete", "second"),
        lambda host: len(images(host)) == 1,
        (("image", "import", "@image", "--name", "second"),),
    ),
    "snapshot create": Operation(SNAPSHOT, lambda host: snapshots(host) == ["s"], (START,)),
    "snapshot revert": Operation(("snapshot", "@", "revert", "s"), off, (SNAPSHOT, START)),
    "snapshot delete": Operation(
        ("snapshot", "@", "delete", "s"), lambda host: not snapshots(host), (SNAPSHOT,)
    ),
    "clone": Operation(("clone", "@", "copy"), lambda host: there(host, "copy")),
    "delete": Operation(("delete", "@", "--disks", "--yes"), lambda host: not there(host, NAME)),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_libvirtd_killed_in_the_middle(host: BrokerHost, operation: Operation) -> None:
    def hv(words: tuple[str, ...]) -> tuple[str, ...]:
        filled = tuple(meant(host, word) for word in words)
        return filled if words[0] == "image" else ("vm", *filled)

    (host.folder / OUT).unlink(missing_ok=True)
    host.hv("ada", "vm", "create", NAME, "--image", "tiny", *PLAIN)
    for words in operation.before:
        host.hv(operation.who, *hv(words))
    words = hv(operation.words)
    daemon = libvirtd(host)
    os.kill(daemon, signal.SIGSTOP)
    going = start(host, operation.who, words)
    end = time.monotonic() + BLOCKED
    while time.monotonic() < end and not host.under_way():
        time.sleep(0.05)
    assert going.poll() is None, f"it was over before libvirtd answered: {going.communicate()}"
    os.kill(daemon, signal.SIGKILL)
    out, err = going.communicate(timeout=PATIENCE)
    wait_for("libvirtd to be back", host.answers)
    assert "Traceback" not in err and "defect" not in err, err
    if going.returncode:
        assert "do:" in err, f"{out}{err}"
        if not operation.done(host):  # what failed can be done again
            wait_for("it to be done", lambda: host.hv(operation.who, *words, status=None).status == 0, 30)
    wait_for(f"its effect ({out}{err})", lambda: operation.done(host), 20)
    rows = host.hv("audra", "auth", "log", "--json").json["rows"]
    told = [row["operation"] for row in rows if row["operation"]]
    assert len(told) == len(set(told)), "one row an operation"


def libvirtd(host: BrokerHost) -> int:
    """Its process, from outside: the namespace's first process starts it."""
    children = Path(f"/proc/{host.inside}/task/{host.inside}/children")

    def found() -> int | None:
        for pid in children.read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() == "libvirtd":
                return int(pid)
        return None

    return int(wait_for("libvirtd", found))


def start(host: BrokerHost, who: str, words: tuple[str, ...]) -> subprocess.Popen[str]:
    """`hv` as somebody, not waited for."""
    drop = ("setpriv", f"--reuid={who}", f"--regid={who}", "--init-groups", sys.executable, "-m", "hv")
    return subprocess.Popen(
        host.enter(*drop, *words),
        env=host.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
