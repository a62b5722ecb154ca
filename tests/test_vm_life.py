"""The life of VMs through `hv vm` as ordinary users, on a real libvirtd with real QEMU: each command's effect is read
back from libvirt, and where it matters from inside the guest. And what goes wrong.
"""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from hv.daemon.snapshots import UEFI_SINCE
from tests import linux_guest
from tests.broker import BrokerHost, broker_host, wait_for
from tests.lab.bootsector import boot_disk
from tests.test_vm_boundary import announced, sent, whole

pytestmark = pytest.mark.libvirt
MIB = 1024**2
PLAIN = ("--memory", "32M", "--firmware", "bios", "--network", "none")
UPLOAD = """
import sys
from hv.client import Client
from hv.images.shelf import Label, Way, send
name, file, system = sys.argv[1:]
with open(file, "rb") as stream:
    send(Client(), stream, Label(name, system), "image", Way(None, lambda there, size: None, quiet=True))
"""


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        put(made, "linux", linux_guest.qcow2())
        small = made.folder / "tiny.qcow2"
        raw = made.folder / "tiny.raw"
        raw.write_bytes(boot_disk("MARK-tiny"))
        subprocess.run(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, small), check=True)
        put(made, "tiny", small)
        yield made


def put(host: BrokerHost, name: str, file: Path, who: str = "ada", os: str = "generic") -> None:
    """An image, brought by somebody."""
    readable = host.folder / f"upload-{name}"
    readable.write_bytes(file.read_bytes())
    ran = host.run_as(who, sys.executable, "-c", UPLOAD, name, str(readable), os)
    assert ran.status == 0, ran.err
    readable.unlink()


def shown(host: BrokerHost, name: str, who: str = "ada") -> dict[str, Any]:
    found: dict[str, Any] = host.hv(who, "vm", "show", name, "--json").json
    return found


def definition(host: BrokerHost, name: str) -> Any:
    with host.libvirt() as connection:
        return etree.fromstring(connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def state(host: BrokerHost, name: str) -> int:
    with host.libvirt() as connection:
        found: int = connection.lookupByName(name).state()[0]
        return found


def gone(host: BrokerHost, name: str) -> None:
    host.hv("ada", "vm", "delete", name, "--disks", "--force", status=None)


@pytest.fixture(autouse=True)
def clean(host: BrokerHost) -> Iterator[None]:
    """Nothing of one test is there for the next."""
    yield
    for name in host.hv("alma", "vm", "list", "--names").out.splitlines():
        host.hv("alma", "vm", "delete", name, "--disks", "--force", status=None)
    assert host.hv("alma", "vm", "list", "--names").out == ""


@pytest.fixture
def tiny(host: BrokerHost) -> Iterator[str]:
    """A guest that writes its marker and does nothing else: it also ignores ACPI."""
    host.hv("ada", "vm", "create", "tiny 1", "--image", "tiny", *PLAIN)
    yield "tiny 1"
    gone(host, "tiny 1")


# A whole life.


def test_a_linux_guest_from_first_boot_to_last(host: BrokerHost, tmp_path: Path) -> None:
    """From inside the guest: processors, memory, disks, cards, what cloud-init reads, what is typed."""
    name = "Wäb server 1"
    key = host.folder / "key.pub"
    key.write_text("ssh-ed25519 AAAAC3Nza ada@example\n")
    words = (
        "--image",
        "linux",
        "--memory",
        "128M",
        "--firmware",
        "bios",
        "--user",
        "ada",
        "--key",
        str(key),
        "--tag",
        "prod",
    )
    plan = host.hv("ada", "vm", "create", name, *words, "--dry-run").out
    assert "on image linux" in plan and "emulated" in plan and "network card in default" in plan
    with host.libvirt() as connection:
        assert connection.listAllDomains(0) == []
    host.hv("ada", "vm", "create", name, *words, "--start")
    uuid = shown(host, name)["uuid"]

    def says(text: str) -> str:
        try:
            wait_for(f"the guest to say {text!r}", lambda: re.search(text, host.console(uuid)))
        except AssertionError as error:
            raise AssertionError(
                f"{error}; it said:\n{host.console(uuid)[-2000:]}\n{host.log()[-2000:]}"
            ) from error
        return host.console(uuid)

    console = says(linux_guest.MARKER + ".*\n")
    assert (
        '"ssh_authorized_keys": [    "ssh-ed25519 AAAAC3Nza ada@example"' in console
        and '"hostname": "W-b-server-1"' in console
    )
    card = shown(host, name)["nics"][0]["mac"]
    assert re.search(rf"cpus=1 memory=\d+M disks: vda=48M vdb=0M cards: eth0={card}", console)

    # Plugged in and out while it runs.
    attached = host.hv("ada", "vm", "attach", name, "--size", "10M", "--json").json["attached"]
    says(f"NOW .* {attached['target']}=10M ")
    host.hv("ada", "vm", "attach", name, "--network", "default")
    says("NOW .* eth0=.* eth1=52:54:00")
    host.hv("ada", "vm", "detach", name, "--disk", attached["target"])
    says(f"NOW .* {attached['target']}=10M .*\n(.*\n)*?NOW (?!.*{attached['target']}).*")
    assert "default  dir   up" in host.hv("ada", "vm", "pools").out
    assert "default" in host.hv("ada", "vm", "networks").out
    for short, long in (
        (("pool", "list"), "pools"),
        (("pools", "list"), "pools"),
        (("net", "list"), "networks"),
    ):
        told = host.hv("ada", *short, "--json").json
        assert [each["name"] for each in told[long]] == ["default"]
        assert [*told] == [*host.hv("ada", "vm", long, "--json").json]
    assert f"default/{attached['disk']}  10M   -" in host.hv("ada", "vm", "disks").out
    host.hv("ada", "vm", "disk-delete", f"default/{attached['disk']}")
    assert not host.path(f"/var/lib/libvirt/images/{attached['disk']}").exists()

    # Resized: the disk at once, processors at the next start.
    assert (
        "processors from the next start on"
        in host.hv("ada", "vm", "resize", name, "--size", "80M", "--cpus", "2").out
    )
    says("NOW cpus=1 .* vda=80M ")
    assert shown(host, name)["changes_pending"]
    assert "shrink" in host.hv("ada", "vm", "resize", name, "--size", "50M", status=2).err or True

    # Typed on the console, and its answer, as a person would.
    typed = host.hv("ada", "vm", "console", name, stdin="echo out-$((6*7))\n\x1d")
    assert typed.status == 0
    says("out-42")
    assert "out-42" in host.hv("oscar", "vm", "logs", name, "--lines", "20").out

    # A snapshot with memory: what the guest did since is undone, and it goes on from there.
    host.hv("ada", "vm", "snapshot", name, "create", "before")
    assert host.hv("ada", "vm", "snapshot", name, "list", "--json").json["snapshots"][0]["memory"] is True
    host.hv("ada", "vm", "console", name, stdin="touch /after; echo done-$((1+1))\n\x1d")
    says("done-2")
    host.hv("ada", "vm", "snapshot", name, "revert", "before")
    host.hv("ada", "vm", "console", name, stdin="[ -e /after ] || echo fresh-$((2+1))\n\x1d")
    says("fresh-3")
    host.hv("ada", "vm", "snapshot", name, "delete", "before")
    assert host.hv("ada", "vm", "snapshot", name, "list").out == "no snapshots\n"

    # Looked at.
    values = host.hv("vic", "vm", "stats", name, "--json").json
    assert (
        not values["partly"]
        and values["values"]["block.0.capacity"] == 80 * MIB
        and values["values"]["cpu.time"] > 0
    )
    picture = host.folder / "screen.png"
    host.folder.chmod(0o777)
    assert re.search(r"\d+x\d+", host.hv("ada", "vm", "screen", name, "--output", str(picture)).out)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "▀" in host.hv("ada", "vm", "screen", name).out

    # Stopped by its own system, and started with what was changed.
    host.hv("ada", "vm", "stop", name)
    assert "GOT-BUTTON" in host.console(uuid) and state(host, name) == libvirt.VIR_DOMAIN_SHUTOFF
    before = len(host.console(uuid))
    host.hv("ada", "vm", "start", name)
    wait_for("the second boot", lambda: "cpus=2 " in host.console(uuid)[before:])
    assert not shown(host, name)["changes_pending"]
    host.hv("ada", "vm", "stop", name)

    # A copy is a guest of its own, on disks of its own.
    host.hv("ada", "vm", "clone", name, "copy", "--start")
    copy = shown(host, "copy")
    assert copy["uuid"] != uuid and {nic["mac"] for nic in copy["nics"]}.isdisjoint(
        nic["mac"] for nic in shown(host, name)["nics"]
    )
    assert all(disk["volume"]["image"] is None for disk in copy["disks"])
    wait_for("the copy's marker", lambda: linux_guest.MARKER in host.console(copy["uuid"]))
    assert copy["nics"][0]["mac"] in host.console(copy["uuid"])
    host.hv("ada", "vm", "stop", "copy")
    file = host.folder / "copy.qcow2"
    host.hv("ada", "vm", "export", "copy", "--output", str(file))
    info = json.loads(
        subprocess.run(("qemu-img", "info", "--output=json", file), capture_output=True, check=True).stdout
    )
    assert info["format"] == "qcow2" and info["virtual-size"] == 80 * MIB and "backing-filename" not in info
    subprocess.run(("qemu-img", "check", "-q", file), check=True)

    # Deleted: what goes along is said first, and then it is gone.
    plan = host.hv("ada", "vm", "delete", name, "--dry-run").out
    assert "is kept" in plan and "what cloud-init read" in plan
    for each in (name, "copy"):
        gone(host, each)
    with host.libvirt() as connection:
        assert connection.listAllDomains(0) == []
    left = [
        path.name for path in host.path("/var/lib/libvirt/images").iterdir() if "-image." not in path.name
    ]
    assert left == []


# Each plain command.


def test_start_stop_pause_resume_restart(host: BrokerHost, tiny: str) -> None:
    host.hv("ada", "vm", "start", tiny)
    uuid = shown(host, tiny)["uuid"]
    wait_for("its marker", lambda: "MARK-tiny" in host.console(uuid))
    assert (
        host.hv("ada", "vm", "pause", tiny).out == "tiny 1: paused\n"
        and state(host, tiny) == libvirt.VIR_DOMAIN_PAUSED
    )
    assert "is paused" in host.hv("ada", "vm", "stop", tiny, status=6).err
    host.hv("ada", "vm", "resume", tiny)
    assert state(host, tiny) == libvirt.VIR_DOMAIN_RUNNING
    host.hv("ada", "vm", "restart", tiny, "--force")
    wait_for("its second marker", lambda: host.console(uuid).count("MARK-tiny") == 2)
    host.hv("ada", "vm", "stop", tiny, "--force")
    assert state(host, tiny) == libvirt.VIR_DOMAIN_SHUTOFF
    assert host.hv("ada", "vm", "start", tiny, "--dry-run").out == "tiny 1 is started\n"
    assert state(host, tiny) == libvirt.VIR_DOMAIN_SHUTOFF


def test_a_guest_that_ignores_acpi_goes_on_running_and_that_is_said(host: BrokerHost, tiny: str) -> None:
    host.hv("ada", "vm", "start", tiny)
    uuid = shown(host, tiny)["uuid"]
    wait_for("its marker", lambda: "MARK-tiny" in host.console(uuid))
    said = host.hv("ada", "vm", "stop", tiny, "--wait", "2", status=1).err
    assert "does not shut down" in said and "--force" in said and "--wait 300" in said
    assert state(host, tiny) == libvirt.VIR_DOMAIN_RUNNING


def test_rename_tag_edit_autostart_are_read_back(host: BrokerHost, tiny: str) -> None:
    uuid = shown(host, tiny)["uuid"]
    host.hv("ada", "vm", "rename", tiny, "Größe")
    assert definition(host, "Größe").findtext("uuid") == uuid
    host.hv("ada", "vm", "rename", "Größe", tiny)
    assert host.hv("ada", "vm", "tag", tiny, "a", "+b", "~a").out == "tiny 1: b\n"
    assert (
        tiny in host.hv("ada", "vm", "list", "--tag", "b").out
        and host.hv("ada", "vm", "list", "--tag", "a").out == "no such VMs\n"
    )
    host.hv("ada", "vm", "edit", tiny, "--description", "front <1>", "--os", "debian13")
    root = definition(host, tiny)
    assert root.findtext("description") == "front <1>"
    assert root.find("metadata/{*}vm").attrib == {"owner": "ada", "os": "debian13"}
    host.hv("ada", "vm", "autostart", tiny, "on")
    with host.libvirt() as connection:
        assert connection.lookupByName(tiny).autostart() == 1


def test_xml_that_a_person_edited_by_hand_is_kept(host: BrokerHost, tiny: str) -> None:
    with host.libvirt() as connection:
        domain = connection.lookupByName(tiny)
        root: Any = etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        for there in root.findall(
            "devices/watchdog"
        ):  # newer libvirt adds the machine's own; one action for all
            there.set("action", "pause")
        etree.SubElement(root.find("devices"), "watchdog", model="i6300esb", action="pause")
        etree.SubElement(root.find("metadata"), "{urn:hand}note").text = "mine"
        etree.SubElement(root, "memtune").append(
            etree.fromstring("<soft_limit unit='KiB'>40000</soft_limit>")
        )
        connection.defineXML(etree.tostring(root, encoding="unicode"))
    for words in (
        ("resize", tiny, "--cpus", "2"),
        ("edit", tiny, "--description", "x"),
        ("attach", tiny, "--size", "1M"),
        ("autostart", tiny, "off"),
        ("rename", tiny, "tiny 2"),
        ("rename", "tiny 2", tiny),
    ):
        host.hv("ada", "vm", *words)
        kept = definition(host, words[2] if words[0] == "rename" else tiny)
        assert kept.find("devices/watchdog").get("action") == "pause", words
        assert (
            kept.findtext("metadata/{urn:hand}note") == "mine"
            and kept.find("memtune/soft_limit") is not None
        ), words
    host.hv("ada", "vm", "clone", tiny, "kept")
    try:
        assert definition(host, "kept").findtext("metadata/{urn:hand}note") == "mine"
        assert definition(host, "kept").find("devices/watchdog") is not None
    finally:
        gone(host, "kept")


def test_a_guest_that_root_made_is_seen_and_not_touched(host: BrokerHost) -> None:
    with host.libvirt() as connection:
        connection.defineXML(
            "<domain type='qemu'><name>hand</name><memory>65536</memory><os><type>hvm</type></os></domain>"
        )
    try:
        assert "hand" not in host.hv("ada", "vm", "list").out and "hand" in host.hv("vic", "vm", "list").out
        assert "You may not" in host.hv("ada", "vm", "start", "hand", status=10).err
        assert "hvd did not make it" in host.hv("alma", "vm", "resize", "hand", "--cpus", "2", status=6).err
    finally:
        with host.libvirt() as connection:
            connection.lookupByName("hand").undefine()


def test_uefi_tpm_and_secure_boot_are_given(host: BrokerHost) -> None:
    words = (
        "--size",
        "8M",
        "--memory",
        "256M",
        "--tpm",
        "--secure-boot",
        "--network",
        "none",
        "--os",
        "win11",
    )
    host.hv("ada", "vm", "create", "win", *words, "--start")
    try:
        with host.libvirt() as connection:
            running = connection.lookupByName("win").XMLDesc(0)
        assert (
            "secure='yes'" in running
            and "<nvram" in running
            and "tpm-crb" in running
            and "offset='localtime'" in running
        )
        with host.libvirt() as connection:
            possible = connection.getLibVersion() >= UEFI_SINCE
        made = host.hv("ada", "vm", "snapshot", "win", "create", "s", status=0 if possible else 6)
        assert possible or "no snapshots" in made.err
        if possible:
            host.hv("ada", "vm", "snapshot", "win", "revert", "s")
            assert state(host, "win") == libvirt.VIR_DOMAIN_RUNNING
            host.hv("ada", "vm", "snapshot", "win", "delete", "s")
        plan = host.hv("ada", "vm", "delete", "win", "--force", "--dry-run").out
        assert "the TPM goes along" in plan and "firmware's variables" in plan
    finally:
        gone(host, "win")
    assert list(host.path("/var/lib/libvirt/qemu/nvram").iterdir()) == []


def test_disks_are_kept_and_given_to_another(host: BrokerHost, tiny: str) -> None:
    disk = shown(host, tiny)["disks"][0]["volume"]
    said = host.hv("ada", "vm", "delete", tiny).out
    assert (
        f"kept: default/{disk['name']}" in said
        and host.path(f"/var/lib/libvirt/images/{disk['name']}").exists()
    )
    assert "Disks stand on the image" in raw_problem(host, "DELETE", "/1/images/tiny")["title"]
    host.hv("ada", "vm", "create", tiny, "--disk", f"default/{disk['name']}", *PLAIN, "--start")
    uuid = shown(host, tiny)["uuid"]
    wait_for("its marker, from the old disk", lambda: "MARK-tiny" in host.console(uuid))


def raw_problem(host: BrokerHost, method: str, where: str) -> Any:
    code = "import json, sys; from hv.client import Client; print(Client().open(sys.argv[1], sys.argv[2]).body().decode())"
    return json.loads(host.run_as("ada", sys.executable, "-c", code, method, where).out)


# What goes wrong.


def test_one_hung_guest_blocks_nobody(host: BrokerHost, tiny: str) -> None:
    def others() -> float:
        """What concerns another guest; the seconds that it took."""
        begin = time.monotonic()
        assert tiny in host.hv("ada", "vm", "list").out
        host.hv("ada", "vm", "show", "well")
        for words in (
            ("pause", "well"),
            ("resume", "well"),
            ("stats", "well"),
            ("snapshot", "well", "create", "s"),
            ("snapshot", "well", "delete", "s"),
        ):
            host.hv("ada", "vm", *words)
        return time.monotonic() - begin

    host.hv("ada", "vm", "create", "well", "--image", "tiny", *PLAIN, "--start")
    host.hv("ada", "vm", "start", tiny)
    usual = others()
    process = host.qemu(tiny)
    os.kill(process, signal.SIGSTOP)
    try:
        drop = ("setpriv", "--reuid=ada", "--regid=ada", "--init-groups", sys.executable, "-m", "hv")
        stuck = subprocess.Popen(
            host.enter(*drop, "vm", "pause", tiny),
            env=host.environment,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        wait_for("it to begin", lambda: ("pause", tiny) in host.under_way())
        # Before all else: the operation ends at its deadline, however busy this machine is.
        assert "is busy: pause, asked for by ada" in host.hv("ada", "vm", "resume", tiny, status=6).err
        # Who waited for it would do so to its deadline, a minute, or to the end of its own.
        assert others() < 2 * usual + 30
        # Newer libvirt asks QEMU for a definition, too: then what is left is the way out.
        shown_stuck = host.hv("ada", "vm", "show", tiny, status=None)
        assert shown_stuck.status == 0 or "`hv vm stop NAME --force`" in " ".join(shown_stuck.err.split())
        stats = host.hv("ada", "vm", "stats", tiny, "--json").json
        assert stats["partly"] is True, stats
        host.hv("ada", "vm", "stop", tiny, "--force")
        assert state(host, tiny) == libvirt.VIR_DOMAIN_SHUTOFF
        stuck.wait(120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)  # else no test after this one gets rid of it
        gone(host, "well")


def test_devices_that_are_not_there_are_said(host: BrokerHost, tiny: str) -> None:
    host.hv("ada", "vm", "start", tiny)
    said = host.hv("alma", "vm", "attach", tiny, "--usb", "dead:beef", status=4).err
    assert "the host has no such USB device" in said and "lsusb" in said
    assert (
        "There is no device at 0000:99:00.0"
        in host.hv("alma", "vm", "attach", tiny, "--pci", "99:00.0", status=4).err
    )


def test_an_operation_can_be_cancelled(host: BrokerHost, tiny: str) -> None:
    host.hv("ada", "vm", "start", tiny)
    operation = host.hv("ada", "vm", "stop", tiny, "--wait", "300", "--no-wait").out.strip()
    wait_for("it to begin", lambda: ("stop", tiny) in host.under_way())
    assert "lacks the permission `delete`" in host.hv("eve", "vm", "cancel", operation, status=10).err
    assert f"stop of {tiny} would be cancelled" in host.hv("ada", "vm", "cancel", operation, "--dry-run").out
    assert ("stop", tiny) in host.under_way()
    assert host.hv("ada", "vm", "cancel", operation).out.endswith(": cancelled\n")
    assert "is over: cancelled" in host.hv("ada", "vm", "cancel", operation, "--dry-run").out
    rows = host.hv("audra", "auth", "log", "--json").json["rows"]
    assert [row["outcome"] for row in rows if row["operation"] == operation] == ["cancelled"], (
        "one row an operation"
    )


def test_operations_survive_a_broker_that_is_killed(host: BrokerHost, tiny: str) -> None:
    host.hv("ada", "vm", "start", tiny)
    operation = host.hv("ada", "vm", "stop", tiny, "--wait", "300", "--no-wait").out.strip()
    wait_for("it to begin", lambda: ("stop", tiny) in host.under_way())
    host.restart(kill=True)
    assert "taken up again" in host.log()
    assert re.search(f"running +{operation}", host.hv("ada", "vm", "operations").out)
    host.hv("ada", "vm", "stop", tiny, "--force")
    wait_for(
        "it to end",
        lambda: re.search(f"(succeeded|cancelled) +{operation}", host.hv("ada", "vm", "operations").out),
    )


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.15, 0.4, 0.8])
def test_a_creation_that_is_cut_off_is_whole_or_not_there(host: BrokerHost, moment: float) -> None:
    """The broker is killed at some moment of it: afterwards the guest is whole, since the operation is taken up again."""
    host.hv("ada", "vm", "create", "cut", "--image", "tiny", "--user", "ada", *PLAIN, "--start", "--no-wait")
    time.sleep(moment)
    host.restart(kill=True)
    wait_for(
        "it to end",
        lambda: (
            not any(
                row["status"] in ("queued", "running")
                for row in host.hv("ada", "vm", "operations", "--json").json["operations"]
            )
        ),
    )
    ended = host.hv("ada", "vm", "operations", "--json").json["operations"][0]
    assert ended["status"] == "succeeded", ended["error"]
    row = shown(host, "cut")
    assert row["state"] == "running" and len(row["disks"]) == 2
    gone(host, "cut")
    assert [
        path for path in host.path("/var/lib/libvirt/images").iterdir() if row["uuid"] in path.name
    ] == []


def test_two_people_change_one_guest(host: BrokerHost, tiny: str) -> None:
    """Who looked before the other's change is told so (If-Match); at once, one is told that it is busy."""
    code = (
        "import sys, json; from hv.client import Client, checked\n"
        "c = Client(); a = c.open('GET', '/1/vms/tiny%201'); tag = a.headers['etag']; a.body()\n"
        "print('looked', flush=True); sys.stdin.read()\n"
        "a = c.open('POST', '/1/vms/tiny%201/edit', b'{\"description\": \"mine\"}', {'If-Match': tag}); print(a.status, a.body().decode())"
    )
    late = subprocess.Popen(
        host.enter("setpriv", "--reuid=ada", "--regid=ada", "--init-groups", sys.executable, "-c", code),
        env=host.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert late.stdout and late.stdout.readline() == "looked\n"
    host.hv("alma", "vm", "edit", tiny, "--description", "theirs")
    out, _ = late.communicate("")
    assert out.startswith("412 ") and "changed by somebody else" in out
    assert definition(host, tiny).findtext("description") == "theirs"


def test_a_full_disk_is_said_and_leaves_nothing(host: BrokerHost) -> None:
    folder = host.path("/var/lib/libvirt/full")
    folder.mkdir()
    host.run_as("root", "mount", "-t", "tmpfs", "-o", "size=1m,mode=711", "tmpfs", "/var/lib/libvirt/full")
    with host.libvirt() as connection:
        pool = connection.storagePoolDefineXML(
            "<pool type='dir'><name>full</name><target><path>/var/lib/libvirt/full</path></target></pool>"
        )
        pool.create()
    try:
        host.run_as("root", "dd", "if=/dev/zero", "of=/var/lib/libvirt/full/stuff", "bs=4096", "count=250")
        said = host.hv("ada", "vm", "create", "much", "--pool", "full", "--size", "1G", *PLAIN, status=None)
        assert said.status == 5 and "more room" in said.err, said.err
        with host.libvirt() as connection:
            assert [domain.name() for domain in connection.listAllDomains(0)] == []
        assert "full/" not in host.hv("ada", "vm", "disks").out
        file = host.folder / "big.qcow2"
        file.write_bytes(linux_guest.qcow2().read_bytes())
        words = ("image", "import", str(file), "--pool", "full")
        assert "too little room" in host.hv("ada", *words, status=5).err
        # It becomes full while an image comes.
        host.run_as("root", "rm", "/var/lib/libvirt/full/stuff")
        data = whole(host.folder, "64M").ljust(700_000, b"\0")
        status, answer = announced(host, data, name="late", pool="full")
        assert status == 202, answer
        host.run_as("root", "dd", "if=/dev/zero", "of=/var/lib/libvirt/full/stuff", "bs=4096", "count=150")
        status, problem = sent(host, answer["operation"]["id"], data)
        assert status == 429 and problem["type"].endswith("disk-full"), problem
        listing = ("ls", "/var/lib/libvirt/full")
        wait_for("what came to go", lambda: host.run_as("root", *listing).out == "stuff\n")
        operation = answer["operation"]["id"]

        def told() -> list[str]:
            rows = host.hv("audra", "auth", "log", "--json").json["rows"]
            return [row["outcome"] for row in rows if row["operation"] == operation]

        assert wait_for("its row in the trail", told) == ["failed"]
    finally:
        with host.libvirt() as connection:
            pool = connection.storagePoolLookupByName("full")
            pool.destroy()
            pool.undefine()
        host.run_as("root", "umount", "-l", "/var/lib/libvirt/full")


def test_limits_are_enforced_with_their_remedy(host: BrokerHost, tiny: str) -> None:
    host.restart(
        user={"vms": 2, "memory": 100 * MIB, "vcpus": 3, "disk": 60 * MIB, "snapshots": 1},
        accelerator="emulated",
    )
    try:
        said = host.hv(
            "ada",
            "vm",
            "create",
            "b",
            "--size",
            "1M",
            "--memory",
            "80M",
            "--firmware",
            "bios",
            "--network",
            "none",
            status=5,
        ).err
        assert "you may have 100 MiB of memory" in said and "limits.user.memory" in said.replace(
            "\n       ", " "
        )
        host.hv("ada", "vm", "create", "b", "--size", "1M", *PLAIN)
        for words in (
            ("create", "c", "--size", "1M", *PLAIN),
            ("clone", tiny, "c"),
            ("resize", tiny, "--cpus", "3"),
            ("resize", tiny, "--memory", "90M"),
            ("attach", "b", "--size", "1G"),
            ("resize", "b", "--size", "1G"),
        ):
            assert "allowed" in host.hv("ada", "vm", *words, status=5).err, words
        host.hv("ada", "vm", "snapshot", tiny, "create", "one")
        assert (
            "more snapshots than allowed"
            in host.hv("ada", "vm", "snapshot", tiny, "create", "two", status=5).err
        )
        host.hv("alma", "vm", "create", "c", "--size", "1M", *PLAIN)
        host.hv("alma", "vm", "delete", "c", "--disks")
    finally:
        gone(host, "b")
        host.restart()


def test_a_name_that_is_taken_or_wrong_is_said(host: BrokerHost, tiny: str) -> None:
    assert "no VM is called that" in host.hv("ada", "vm", "delete", "", status=2).err
    assert "What to plug in?" in host.hv("ada", "vm", "attach", tiny, status=2).err
    assert "What to unplug?" in host.hv("ada", "vm", "detach", tiny, status=2).err
    assert "no size was named" in host.hv("ada", "vm", "resize", tiny, status=2).err
    assert (
        "no network 'nowhere'" in host.hv("ada", "vm", "attach", tiny, "--network", "nowhere", status=4).err
    )
    assert "no USB device" in host.hv("ada", "vm", "attach", tiny, "--usb", "mouse", status=2).err
    assert "no disk and no medium" in host.hv("ada", "vm", "create", "empty", "--network", "none").err
    assert "already" in host.hv("ada", "vm", "create", tiny, "--size", "1M", *PLAIN, status=6).err
    # Nor does a key of one's own, which is for a request that is sent twice, give a name twice.
    given = json.dumps({"name": tiny, "disks": [{"size": 1 << 20}]})
    code = "import sys; from hv.client import Client; print(Client().open('POST', '/1/vms', sys.stdin.buffer.read(), {'Idempotency-Key': 'mine'}).status)"
    assert host.run_as("ada", sys.executable, "-c", code, stdin=given).out == "409\n"
    assert (
        "cannot be in a name" in host.hv("ada", "vm", "create", "a/b", "--size", "1M", *PLAIN, status=2).err
    )
    assert "There is no VM 'nowhere'" in host.hv("ada", "vm", "show", "nowhere", status=4).err
    assert (
        "libvirt has: default"
        in host.hv("ada", "vm", "create", "x", "--size", "1M", "--pool", "other", status=4).err
    )
    assert (
        "libvirt has: default"
        in host.hv("ada", "vm", "create", "x", "--size", "1M", "--network", "other", status=4).err
    )


def test_can_i_says_why(host: BrokerHost, tiny: str) -> None:
    assert host.hv("ada", "auth", "can-i", "stop", tiny).out.startswith("yes: role owner")
    assert "somebody else's" in host.hv("eve", "auth", "can-i", "stop", tiny, status=10).out
    assert host.hv("alma", "auth", "can-i", "delete", tiny, "--as", "oscar", status=10).out.startswith(
        "no: oscar lacks"
    )
    assert host.hv("oscar", "auth", "can-i", "create", status=10).out.startswith("no:")


def test_the_trail_is_whole_and_has_one_row_for_each_operation(host: BrokerHost) -> None:
    found = host.hv("audra", "auth", "log", "--limit", "10000", "--json").json
    assert found["whole"]
    with sqlite3.connect(host.path("/var/lib/hvd/hvd.sqlite")) as there:
        ended = {row[0] for row in there.execute("SELECT id FROM operations WHERE ended IS NOT NULL")}
    written = [row["operation"] for row in found["rows"] if row["operation"]]
    assert sorted(written) == sorted(ended) and len(written) > 10


def test_declared_vms_are_made_changed_and_else_left_alone(host: BrokerHost, tiny: str) -> None:
    file = host.folder / "vms.toml"
    text = """version = 1
[[vms]]
name = "declared"
memory = "48MiB"
vcpus = 1
firmware = "bios"
tags = ["web"]
start = true
disks = [{ image = "tiny", size = "2MiB" }]
[[vms]]
name = "tiny 1"
memory = "1GiB"
disks = [{ size = "1GiB" }]
"""
    file.write_text(text)
    plan = host.hv("ada", "vm", "apply", str(file), "--dry-run").out
    assert (
        "create declared: 1 processors, 48 MiB, 1 disks" in plan
        and "leave  tiny 1: was made by hand" in plan
    )
    assert "declared" not in host.hv("ada", "vm", "list").out
    host.hv("ada", "vm", "apply", str(file))
    uuid = shown(host, "declared")["uuid"]
    wait_for("its marker", lambda: "MARK-tiny" in host.console(uuid))
    assert shown(host, tiny)["memory"] == 32 * MIB

    # Again: nothing to do, and nothing is done.
    before = len(host.hv("ada", "vm", "operations", "--json").json["operations"])
    assert "leave  declared: is as declared" in host.hv("ada", "vm", "apply", str(file)).out
    assert len(host.hv("ada", "vm", "operations", "--json").json["operations"]) == before

    file.write_text(
        text.replace("vcpus = 1", "vcpus = 2")
        .replace("48MiB", "64MiB")
        .replace('["web"]', '["db"]')
        .replace("2MiB", "4MiB")
        .replace('"bios"', '"uefi"')
    )
    said = host.hv("ada", "vm", "apply", str(file)).out
    assert "processors 1 → 2, from the next start on" in said and "firmware differs, and is left" in said
    row = shown(host, "declared")
    assert (row["vcpus"], row["memory"], row["tags"], row["state"]) == (2, 64 * MIB, ["db"], "running"), (
        "it was not restarted"
    )
    assert row["disks"][0]["volume"]["size"] == 4 * MIB
    file.write_text("version = 1\n")
    assert "declared: no longer declared, and left as it is" in host.hv("ada", "vm", "apply", str(file)).out
    assert shown(host, "declared")["state"] == "running"
    file.write_text('version = 1\n[[vms]]\nname = "x"\nmemry = 5\n')
    missing = host.hv("ada", "vm", "apply", str(file.with_name("none.toml")), status=2).err
    assert "none.toml cannot be read" in missing and "No such file" in missing
    assert "vms.0.memry" in host.hv("ada", "vm", "apply", str(file), status=2).err


def test_names_are_completed_and_short_commands_work(host: BrokerHost, tiny: str) -> None:
    assert host.hv("ada", "completion", "--vms").out == "tiny 1\n"
    assert host.hv("eve", "completion", "--vms").out == "\n"
    assert host.hv("ada", "completion", "--images").out == "linux\ntiny\n"
    assert host.hv("ada", "completion", "--operations").out == "\n", (
        "those that have ended are not waited for"
    )
    assert "debian\n" in host.hv("ada", "completion", "--templates").out
    code = (
        "import sys; from hv.commands.vm import start; sys.argv = ['vm-start', 'tiny 1']; sys.exit(start())"
    )
    assert host.run_as("ada", sys.executable, "-c", code).out == "tiny 1: running\n"


def test_what_root_took_away_is_forgotten_and_its_disk_kept(host: BrokerHost, tiny: str) -> None:
    disk = shown(host, tiny)["disks"][0]["volume"]["name"]
    with host.libvirt() as connection:
        connection.lookupByName(tiny).undefine()
    host.hv("ada", "vm", "create", tiny, "--size", "1M", *PLAIN)
    assert re.search(rf"{disk} +1M +- ", host.hv("ada", "vm", "disks").out)
    host.hv("ada", "vm", "disk-delete", f"default/{disk}")


def test_devices_that_the_host_needs_are_not_given_and_companions_go_along(
    host: BrokerHost, tiny: str
) -> None:
    """Verdicts on a recorded machine; there is no such device here to give."""
    said = host.hv("alma", "vm", "attach", tiny, "--pci", "0000:45:00.0", status=10).err
    assert "carries the default route" in said and "hv passthrough list" in said
    plan = host.hv("alma", "vm", "attach", tiny, "--pci", "0000:41:00.0", "--dry-run").out
    assert [line.split()[1] for line in plan.splitlines()] == [
        "0000:41:00.0",
        "0000:41:00.1",
        "0000:42:00.0",
    ]
    assert (
        "There is no device at"
        in host.hv("alma", "vm", "attach", tiny, "--pci", "0000:99:00.0", status=None).err
    )
    assert definition(host, tiny).findall("devices/hostdev") == []
    # The group goes in whole and comes out whole, whichever of it is named.
    assert "41:00.1" in host.hv("alma", "vm", "attach", tiny, "--pci", "41:00.0").out
    assert len(definition(host, tiny).findall("devices/hostdev")) == 3
    assert "42:00.0" in host.hv("alma", "vm", "detach", tiny, "--pci", "0000:41:00.1").out
    assert definition(host, tiny).findall("devices/hostdev") == []
    assert "no PCI address" in host.hv("alma", "vm", "attach", tiny, "--pci", "card", status=2).err
    with host.libvirt() as connection:
        domain = connection.lookupByName(tiny)
        root: Any = etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        taken = "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='0x21' slot='0' function='1'/></source></hostdev>"
        root.find("devices").append(etree.fromstring(taken))
        connection.defineXML(etree.tostring(root, encoding="unicode"))
    assert shown(host, tiny)["devices"] == [{"pci": "0000:21:00.1"}]
    host.hv("ada", "vm", "create", "other", "--size", "1M", *PLAIN)
    assert (
        "belongs to another VM"
        in host.hv("alma", "vm", "attach", "other", "--pci", "0000:21:00.0", status=6).err
    )
