"""What guests' systems want: a database in libosinfo's format, written here, read, and come into force in libvirt."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from hv.vm.osinfo import Database
from tests.broker import BrokerHost, Ran, broker_host, wait_for
from tests.lab.bootsector import boot_disk
from tests.test_vm_life import put, shown

MIB, GIB = 1024**2, 1024**3


def written(folder: Path, name: str, inside: str, base: str = "") -> None:
    """One system of the database."""
    file = folder / "os" / "example.org" / f"{name}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    derives = f'<derives-from id="http://example.org/{base}"/>' if base else ""
    file.write_text(
        f'<libosinfo version="0.0.1"><os id="http://example.org/{name}"><short-id>{name}</short-id>'
        f"<name>Example {name}</name>{derives}{inside}</os></libosinfo>"
    )


def ram(least: int, wanted: int = 0, arch: str = "all") -> str:
    def part(kind: str, amount: int) -> str:
        return f"<{kind}><n-cpus>2</n-cpus><ram>{amount}</ram><storage>{4 * GIB}</storage></{kind}>"

    wants = part("recommended", wanted) if wanted else ""
    return f'<resources arch="{arch}">{part("minimum", least)}{wants}</resources>'


def devices(*ids: str, supported: str = "true") -> str:
    inside = "".join(
        f'<device id="http://pcisig.com/pci/1af4/{each}" supported="{supported}"/>' for each in ids
    )
    return f"<devices>{inside}</devices>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path, "modern1", devices("1042", "1041") + ram(64 * MIB, 96 * MIB))
    written(tmp_path, "modern2", "", base="modern1")
    written(tmp_path, "broken2", devices("1041", supported="false"), base="modern1")
    written(tmp_path, "old1", '<firmware arch="x86_64" type="efi" supported="false"/>' + ram(48 * MIB))
    written(tmp_path, "win11", '<firmware arch="x86_64" type="bios" supported="false"/>' + ram(4 * GIB))
    written(tmp_path, "other", ram(GIB, arch="aarch64"))
    written(tmp_path, "round1", "", base="round2")
    written(tmp_path, "round2", "", base="round1")
    return tmp_path


def test_what_a_system_says_and_what_it_takes_from_its_base(folder: Path) -> None:
    database = Database(str(folder))
    modern = database.system("modern1")
    assert modern is not None
    assert (modern.bus, modern.nic, modern.memory, modern.least_memory) == (
        "virtio",
        "virtio",
        96 * MIB,
        64 * MIB,
    )
    later = database.system("modern2")
    assert later is not None and (later.bus, later.nic, later.memory) == ("virtio", "virtio", 96 * MIB)
    broken = database.system("broken2")
    assert broken is not None and (broken.bus, broken.nic) == ("virtio", "e1000e")
    old = database.system("old1")
    assert old is not None and (old.bus, old.nic, old.firmware, old.tpm) == ("sata", "e1000e", "bios", False)
    eleven = database.system("win11")
    assert eleven is not None and (eleven.firmware, eleven.tpm, eleven.cpus) == ("uefi", True, 2)
    other = database.system("other")
    assert other is not None and other.memory is None
    assert database.system("round1") is not None
    assert database.system("../../etc/passwd") is None
    assert database.like("modern") == ["modern2", "modern1"]


def test_without_a_database(tmp_path: Path) -> None:
    database = Database(str(tmp_path))
    assert database.folder is None and database.system("win11") is None


def test_entities_of_a_file_are_not_followed(folder: Path) -> None:
    (folder / "os/example.org/evil.xml").write_text(
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        '<libosinfo version="0.0.1"><os id="http://example.org/evil"><short-id>evil</short-id>'
        "<name>&e;</name></os></libosinfo>"
    )
    found = Database(str(folder)).system("evil")
    assert found is not None and "root" not in found.name


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        raw, small = made.folder / "tiny.raw", made.folder / "tiny.qcow2"
        raw.write_bytes(boot_disk("MARK-tiny"))
        subprocess.run(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, small), check=True)
        put(made, "tiny", small)
        put(made, "old", small, os="old1")
        put(made, "strange", small, os="nobodys")
        database = made.folder / "osinfo"
        written(database, "old1", '<firmware arch="x86_64" type="efi" supported="false"/>' + ram(48 * MIB))
        written(database, "win11", '<firmware arch="x86_64" type="bios" supported="false"/>' + ram(4 * GIB))
        yield made


def made_as(host: BrokerHost, *words: str, verb: str = "create") -> Ran:
    """`hv vm create` by somebody without rights, with that database."""
    database = f"OSINFO_SYSTEM_DIR={host.folder / 'osinfo'}"
    ada = ("setpriv", "--reuid=ada", "--regid=ada", "--init-groups")
    ran = host.run_as("root", "env", database, *ada, sys.executable, "-m", "hv", "vm", verb, *words)
    assert ran.status == 0, ran.err
    return ran


@pytest.mark.libvirt
def test_a_guest_gets_what_its_system_wants(host: BrokerHost) -> None:
    made_as(host, "old", "--os", "old1", "--image", "tiny", "--start")
    with host.libvirt() as connection:
        domain = connection.lookupByName("old")
        root = etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        assert domain.maxVcpus() == 2 and domain.maxMemory() * 1024 == 48 * MIB
    assert [each.get("bus") for each in root.iterfind("devices/disk/target")] == ["sata"]
    assert [each.get("type") for each in root.iterfind("devices/interface/model")] == ["e1000e"]
    assert root.xpath("boolean(os)") and not root.xpath("os/@firmware")
    uuid = shown(host, "old")["uuid"]
    wait_for("its marker, from a disk on SATA", lambda: "MARK-tiny" in host.console(uuid))


@pytest.mark.libvirt
def test_what_is_said_wins_and_what_is_too_little_is_told(host: BrokerHost) -> None:
    words = ("--os", "old1", "--image", "tiny", "--memory", "32M", "--bus", "virtio", "--card", "virtio")
    ran = made_as(host, "said", *words)
    assert ran.err == "note: Example old1 wants 48M of memory at least, and gets 32M\n"
    with host.libvirt() as connection:
        root = etree.fromstring(connection.lookupByName("said").XMLDesc(0))
    assert [each.get("bus") for each in root.iterfind("devices/disk/target")] == ["virtio"]
    assert [each.get("type") for each in root.iterfind("devices/interface/model")] == ["virtio"]


@pytest.mark.libvirt
def test_windows_gets_a_tpm_and_secure_boot(host: BrokerHost) -> None:
    plan = made_as(host, "win", "--os", "win11", "--size", "4G", "--dry-run").out
    first, disk, card = plan.splitlines()
    assert "2 virtual processors, 4 GiB, uefi with Secure Boot, TPM" in first
    assert disk.endswith("4 GiB, empty, sata") and card == "network card in default, e1000e"


@pytest.mark.libvirt
def test_an_unknown_system_is_told_and_made_all_the_same(host: BrokerHost) -> None:
    ran = made_as(host, "other", "--os", "win12", "--image", "tiny", "--memory", "32M", "--dry-run")
    assert "does not know 'win12'" in ran.err and "it knows win11" in ran.err
    assert "virtio" in ran.out


@pytest.mark.libvirt
def test_an_image_says_what_its_system_is(host: BrokerHost) -> None:
    plan = made_as(host, "img", "--image", "old", "--dry-run").out
    assert "48 MiB, bios" in plan and ", sata" in plan and "e1000e" in plan
    ran = made_as(host, "img", "--image", "old", "--os", "generic", "--dry-run")  # what is said wins
    assert "1 GiB, uefi" in ran.out and ", virtio" in ran.out and not ran.err
    ran = made_as(host, "img", "--image", "strange", "--dry-run")  # nobody named it, so nobody is told
    assert "1 GiB, uefi" in ran.out and not ran.err
    made_as(host, "img", "--image", "old")
    assert shown(host, "img")["os"] == "old1"


@pytest.mark.libvirt
def test_declared_vms_get_what_their_system_wants(host: BrokerHost) -> None:
    file = host.folder / "vms.toml"
    text = """version = 1
[[vms]]
name = "by image"
disks = [{ image = "old" }]
nics = [{}]
[[vms]]
name = "by name"
os = "old1"
memory = "64MiB"
disks = [{ image = "tiny", bus = "virtio" }]
"""
    file.write_text(text)
    made_as(host, str(file), verb="apply")
    row = shown(host, "by image")
    assert (row["os"], row["memory"], row["vcpus"], row["firmware"]) == ("old1", 48 * MIB, 2, "bios")
    assert row["disks"][0]["bus"] == "sata" and row["nics"][0]["model"] == "e1000e"
    row = shown(host, "by name")
    assert (row["os"], row["memory"], row["firmware"], row["disks"][0]["bus"]) == (
        "old1",
        64 * MIB,
        "bios",
        "virtio",
    )
    # Again, and without the database: what nobody declared is left as it is.
    assert made_as(host, str(file), verb="apply").out.count("is as declared") == 2
    assert host.hv("ada", "vm", "apply", str(file)).out.count("is as declared") == 2
