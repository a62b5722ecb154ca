"""What Windows' installer is answered: the file, the medium, and a guest that gets both. No Windows was ever installed by it."""

import io
import subprocess
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pycdlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from pydantic import ValidationError

from hv.daemon import making
from hv.vm.spec import Disk, Unattended, VmSpec
from hv.vm.windows import NS, answers, answers_iso
from tests.broker import BrokerHost, broker_host, wait_for
from tests.test_vm_life import put, shown
from tests.test_vm_screen import MARKER, echoing

ACCOUNTS = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_-]{0,19}\Z")
HOSTS = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9-]{0,13}[A-Za-z0-9])?\Z")
LOCALES = st.sampled_from(["en-US", "de-DE", "sr-Latn-RS", "fil-PH"])
EDITIONS = st.none() | st.from_regex(r"\A[A-Za-z0-9 ._()+-]{1,64}\Z")
ASKED = st.builds(
    Unattended,
    user=ACCOUNTS,
    hostname=HOSTS,
    language=LOCALES,
    keyboard=st.none() | LOCALES,
    edition=EDITIONS,
)


def tree(asked: Unattended) -> Any:
    return etree.fromstring(answers(asked, "fallback"))


@settings(max_examples=150)
@given(ASKED)
def test_whatever_is_asked_for_is_said_and_nothing_else(asked: Unattended) -> None:
    top, plain = tree(asked), tree(Unattended())
    assert [each.get("pass") for each in top] == ["windowsPE", "specialize", "oobeSystem"]
    assert top.findtext(".//{*}LocalAccount/{*}Name") == asked.user
    assert top.findtext(".//{*}ComputerName") == asked.hostname
    assert {each.text for each in top.iter(f"{{{NS}}}UILanguage")} == {asked.language}
    assert {each.text for each in top.iter(f"{{{NS}}}InputLocale")} == {asked.keyboard or asked.language}
    assert top.findtext(".//{*}MetaData/{*}Value") == asked.edition
    # No text of anybody's becomes an element.
    same = [
        each.tag
        for each in top.iter()
        if etree.QName(each).localname not in ("InstallFrom", "MetaData", "Key")
    ]
    same = [tag for tag in same if tag != f"{{{NS}}}Value"]
    assert same == [each.tag for each in plain.iter() if each.tag != f"{{{NS}}}Value"]
    assert all(each.text == "" or each.text is None for each in top.iterfind(".//{*}Password/{*}Value"))


def test_the_first_disk_is_partitioned_as_windows_wants_it() -> None:
    top = tree(Unattended())
    rows = [
        tuple(each.findtext(f"{{*}}{tag}") for tag in ("Order", "Type", "Size", "Extend"))
        for each in top.iterfind(".//{*}CreatePartition")
    ]
    assert rows == [("1", "EFI", "300", None), ("2", "MSR", "16", None), ("3", "Primary", None, "true")]
    assert (
        top.findtext(".//{*}InstallTo/{*}PartitionID") == "3"
        and top.findtext(".//{*}InstallTo/{*}DiskID") == "0"
    )


def test_the_medium_has_it_under_its_name() -> None:
    data = answers_iso(Unattended(user="ada"), "win")
    medium = pycdlib.PyCdlib()
    medium.open_fp(io.BytesIO(data))
    for path in ({"joliet_path": "/autounattend.xml"}, {"iso_path": "/AUTOUNATTEND.XML;1"}):
        out = io.BytesIO()
        medium.get_file_from_iso_fp(out, **path)
        assert out.getvalue() == answers(Unattended(user="ada"), "win")
    medium.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"iso": None},
        {"disks": ()},
        {"disks": (Disk(image="x"),)},
        {"disks": (Disk(size=1 << 30), Disk(volume="old"))},
        {"firmware": "bios"},
    ],
)
def test_a_disk_with_anything_on_it_is_never_wiped(changes: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "name": "w",
        "iso": "win",
        "disks": (Disk(size=1 << 30),),
        "unattended": Unattended(),
    }
    assert VmSpec(**whole).unattended
    with pytest.raises(ValidationError, match="unattended"):
        VmSpec(**{**whole, **changes})


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        # A medium that boots by BIOS and writes what is typed; under UEFI nothing of it starts, and nobody needs it to.
        raw, image = made.folder / "keys.raw", made.folder / "keys.qcow2"
        raw.write_bytes(echoing())
        subprocess.run(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image), check=True)
        put(made, "keys", image)
        medium = made.folder / "win.iso"
        medium.write_bytes(answers_iso(Unattended(), "stand-in"))
        medium.chmod(0o644)
        made.hv("ada", "image", "import", str(medium), "--name", "win")
        yield made


@pytest.mark.libvirt
def test_a_guest_gets_the_medium_and_the_answers(host: BrokerHost) -> None:
    words = (
        "--iso",
        "win",
        "--size",
        "1G",
        "--memory",
        "64M",
        "--network",
        "none",
        "--bus",
        "sata",
        "--unattended",
    )
    plan = host.hv("ada", "vm", "create", "Büro 11", *words, "--user", "ada", "--dry-run").out
    assert "Windows installs itself to the first disk, for ada, who has no password" in plan
    host.hv("ada", "vm", "create", "Büro 11", *words, "--user", "ada", "--edition", "Windows 11 Pro")
    row = shown(host, "Büro 11")
    assert [(disk["target"], disk["device"]) for disk in row["disks"]] == [
        ("sda", "disk"),
        ("sdb", "cdrom"),
        ("sdc", "cdrom"),
    ]
    volume = row["disks"][2]["volume"]
    assert volume["kind"] == "seed"
    medium = pycdlib.PyCdlib()
    medium.open(str(host.path(f"/var/lib/libvirt/images/{volume['name']}")))
    out = io.BytesIO()
    medium.get_file_from_iso_fp(out, joliet_path="/autounattend.xml")
    medium.close()
    top: Any = etree.fromstring(out.getvalue())
    assert (
        top.findtext(".//{*}ComputerName") == "B-ro-11"
        and top.findtext(".//{*}MetaData/{*}Value") == "Windows 11 Pro"
    )
    said = host.hv("ada", "vm", "create", "x", "--image", "keys", *words, status=2).err
    assert "takes the first disk whole" in said
    host.hv("ada", "vm", "delete", "Büro 11", "--disks")
    assert not host.path(f"/var/lib/libvirt/images/{volume['name']}").exists()


@pytest.mark.libvirt
def test_the_key_that_a_medium_asks_for_arrives(host: BrokerHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """As hvd presses it, in a guest that writes what is typed; hvd's own is a minute of UEFI further away."""
    host.hv(
        "ada", "vm", "create", "k", "--image", "keys", "--memory", "32M", "--firmware", "bios", "--start"
    )
    uuid = shown(host, "k")["uuid"]
    log = host.path(f"/var/log/libvirt/qemu/{uuid}-console.log")
    wait_for("its marker", lambda: MARKER in host.console(uuid))
    before = log.read_bytes()
    monkeypatch.setattr(making, "PRESSES", 2.0)
    work: Any = SimpleNamespace(say=lambda *_: None, pause=time.sleep)
    with host.libvirt() as connection:
        making._press_a_key(work, connection.lookupByName("k"))
    wait_for("the key", lambda: log.read_bytes().removeprefix(before).startswith(b"\r"))
    host.hv("ada", "vm", "delete", "k", "--disks", "--force")
