"""Images on their way to the broker and into VMs: `hv image import`, `pull`, `hv vm create --template`, `hv vm import`."""

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from hv.commands import image, vm
from hv.images import template as templates
from installer.errors import HyperError
from tests.broker import BrokerHost, broker_host, wait_for
from tests.file_server import Mirror, mirror
from tests.lab.bootsector import boot_disk
from tests.test_images import Signer, _signer

pytestmark = pytest.mark.libvirt
PLAIN = ("--memory", "32M", "--firmware", "bios", "--network", "none")


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        made.folder.chmod(0o777)
        yield made


@pytest.fixture(scope="module")
def vendor() -> Iterator[Signer]:
    home = tempfile.mkdtemp(prefix="hv-gpg-")
    yield _signer(home)
    subprocess.run(("gpgconf", "--homedir", home, "--kill", "all"), check=False)
    shutil.rmtree(home)


@pytest.fixture
def web() -> Iterator[Mirror]:
    with mirror() as kept:
        yield kept


@pytest.fixture
def here(host: BrokerHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Commands of this process reach that host's broker, as root."""
    monkeypatch.setenv("HV_SOCKET", str(host.path("/run/hvd/hvd.sock")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return monkeypatch


def disk(host: BrokerHost, kind: str, marker: str) -> Path:
    """A disk that boots and says the marker, in a format, in a folder where anybody may write."""
    folder = host.folder / f"disk-{marker}"
    folder.mkdir()
    folder.chmod(0o777)
    raw, made = folder / "x.raw", folder / f"mail-disk1.{kind}"
    raw.write_bytes(boot_disk(marker))
    if kind != "raw":
        subprocess.run(("qemu-img", "convert", "-f", "raw", "-O", kind, raw, made), check=True)
        raw.unlink()
    else:
        raw.rename(made)
    return made


def boots(host: BrokerHost, name: str, marker: str, who: str = "ada") -> None:
    host.hv(who, "vm", "start", name)
    uuid = host.hv(who, "vm", "show", name, "--json").json["uuid"]
    wait_for(f"{name} to say {marker}", lambda: marker in host.console(uuid))
    host.hv(who, "vm", "delete", name, "--disks", "--force")


@pytest.mark.parametrize("kind", ["raw", "vmdk", "qcow2"])
def test_a_disk_of_any_format_becomes_an_image_and_a_vm(host: BrokerHost, kind: str) -> None:
    file = disk(host, kind, f"MARK-{kind}")
    before = hashlib.sha256(file.read_bytes()).digest()
    plan = host.hv("ada", "image", "import", str(file), "--name", kind, "--dry-run").out
    assert f"the image {kind}" in plan and kind not in host.hv("ada", "image", "list").out
    assert "no image" in host.hv("alma", "image", "publish", kind, "--dry-run", status=4).err
    host.hv("ada", "image", "import", str(file), "--name", kind, "--os", "debian13")
    assert hashlib.sha256(file.read_bytes()).digest() == before and len(list(file.parent.iterdir())) == 1
    assert f"{kind} " in host.hv("ada", "image", "list").out
    assert kind not in host.hv("eve", "image", "list").out, "it is its owner's"
    assert "is not yours" in host.hv("eve", "vm", "create", "x", "--image", kind, *PLAIN, status=10).err
    assert "already" in host.hv("ada", "image", "import", str(file), "--name", kind, status=6).err
    host.hv("ada", "vm", "create", "v", "--image", kind, *PLAIN)
    assert "Disks stand on" in host.hv("ada", "image", "delete", kind, status=6).err
    boots(host, "v", f"MARK-{kind}")
    assert "lacks the permission" in host.hv("ada", "image", "publish", kind, status=10).err.replace(
        "\n       ", " "
    )
    assert f"everybody may use {kind}" in host.hv("alma", "image", "publish", kind, "--dry-run").out
    assert kind not in host.hv("eve", "image", "list").out
    host.hv("alma", "image", "publish", kind)
    assert kind in host.hv("eve", "image", "list").out
    host.hv("ada", "image", "delete", kind)
    assert host.hv("ada", "image", "list", "--json").json["images"] == []
    assert list(host.path("/var/lib/libvirt/images").iterdir()) == []


def signed_template(vendor: Signer, web: Mirror, here: pytest.MonkeyPatch, content: bytes) -> None:
    """This process knows of one template, mine."""
    sums = f"{hashlib.sha256(content).hexdigest()}  mine.qcow2\n".encode()
    web.files |= {
        "/mine.qcow2": content,
        "/SHA256SUMS": sums,
        "/SHA256SUMS.gpg": vendor.detached(sums),
        "/key.asc": vendor.key,
    }
    given = {
        "version": 1, "name": "mine", "title": "Mine", "os": "debian13", "kind": "disk", "fetched": True,
        "image": {"x86_64": {"url": f"{web.url}/mine.qcow2", "format": "qcow2"}},
        "trust": {"kind": "signed-sums", "sums": "SHA256SUMS", "signature": "SHA256SUMS.gpg", "key": "https://example.org/k", "fingerprints": [vendor.fingerprint]},
        "guest": {"cpus": 2, "memory": "64MiB", "disk": "3MiB", "firmware": "bios"},
    }  # fmt: skip
    one = templates.Template.model_validate(given)
    assert one.trust is not None
    one = one.model_copy(update={"trust": one.trust.model_copy(update={"key": f"{web.url}/key.asc"})})
    here.setattr(templates, "template", lambda _name: one)


def test_a_template_is_fetched_verified_and_made_a_vm(
    host: BrokerHost,
    vendor: Signer,
    web: Mirror,
    here: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = disk(host, "qcow2", "MARK-template").read_bytes()
    signed_template(vendor, web, here, content)

    # Tampered with on its way: nothing comes into being.
    web.files["/mine.qcow2"] = content[:-1] + b"x"
    with pytest.raises(HyperError):
        vm.main(["create", "t", "--template", "mine", "--network", "none"])
    assert json.loads(host.hv("alma", "image", "list", "--json").out)["images"] == []
    web.files["/mine.qcow2"] = content

    assert image.main(["pull", "mine", "--dry-run", "--json"]) == 0
    assert "mine.qcow2" in json.loads(capsys.readouterr().out)["plan"][0]
    assert vm.main(["create", "t", "--template", "mine", "--network", "none", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "would be fetched and verified first" in said.err and "VM t: 2 virtual processors" in said.out
    assert vm.main(["create", "t", "--template", "mine", "--network", "none"]) == 0
    row = host.hv("alma", "vm", "show", "t", "--json").json
    assert (row["vcpus"], row["memory"], row["os"], row["firmware"]) == (2, 64 << 20, "debian13", "bios")
    assert row["disks"][0]["volume"]["size"] == 3 << 20
    kept = host.hv("alma", "image", "list", "--json").json["images"][0]
    assert vendor.fingerprint in kept["source"] and kept["os"] == "debian13"
    boots(host, "t", "MARK-template", "alma")
    # The second time nothing is fetched; a pull of its own says that it is there.
    asked = len(web.asked)
    assert vm.main(["create", "t2", "--template", "mine", "--memory", "32M", "--network", "none"]) == 0
    assert len(web.asked) == asked
    with pytest.raises(HyperError, match="already"):
        image.main(["pull", "mine"])
    host.hv("alma", "vm", "delete", "t2", "--disks")
    host.hv("alma", "image", "delete", "mine")
    assert "t: made, stopped" in capsys.readouterr().out


def test_a_vm_of_another_hypervisor_is_taken_over(host: BrokerHost) -> None:
    file = disk(host, "vmdk", "MARK-vmware")
    described = file.with_name("mail.vmx")
    described.write_text(
        'displayName = "Mail server"\nnumvcpus = "2"\nmemsize = "48"\nguestOS = "debian10-64"\nscsi0:0.present = "TRUE"\n'
        f'scsi0:0.fileName = "{file.name}"\nethernet0.present = "TRUE"\nethernet0.generatedAddress = "00:0c:29:1:2:3"\n'
        'serial0.fileName = "/etc/shadow"\n'
    )
    plan = host.hv("ada", "vm", "import", str(described), "--as", "mail", "--dry-run").out
    assert "mail: 2 processors, 48M, bios, 1 disk, 1 card with" in plan
    assert host.hv("ada", "vm", "list").out == "no VMs\n"
    host.hv("ada", "vm", "import", str(described), "--as", "mail")
    row = host.hv("ada", "vm", "show", "mail", "--json").json
    assert (row["vcpus"], row["memory"], row["firmware"]) == (2, 48 << 20, "bios") and row["nics"][0][
        "mac"
    ].startswith("52:54:00")
    assert row["disks"][0]["bus"] == "sata"
    boots(host, "mail", "MARK-vmware")
    host.hv("ada", "image", "delete", "mail-disk0")
    # Without one of its disks it would not be that VM: refused before anything is brought, unless it is wanted so.
    whole = described.read_text()
    described.write_text(f'{whole}scsi0:1.present = "TRUE"\nscsi0:1.fileName = "data.vmdk"\n')
    for dry in ([], ["--dry-run"]):
        said = host.hv("ada", "vm", "import", str(described), "--as", "half", *dry, status=5).err
        assert "without its disks" in said and "data.vmdk: there is no such file" in said, said
    assert "half" not in host.hv("ada", "vm", "list").out
    assert host.hv("ada", "image", "list", "--json").json["images"] == []
    host.hv("ada", "vm", "import", str(described), "--as", "half", "--incomplete")
    assert len(host.hv("ada", "vm", "show", "half", "--json").json["disks"]) == 1
    host.hv("ada", "vm", "delete", "half", "--disks")
    host.hv("ada", "image", "delete", "half-disk0")
    described.write_text(whole.replace("scsi0:0.fileName", "comment"))
    assert "names no disk" in host.hv("ada", "vm", "import", str(described), status=5).err
    described.write_text(whole)
    # What fails half way leaves no image behind.
    host.hv("ada", "vm", "import", str(described), "--as", "mail", "--network", "nowhere", status=4)
    assert host.hv("ada", "image", "list", "--json").json["images"] == []


def test_a_vm_goes_out_as_an_ova_and_comes_back(host: BrokerHost, tmp_path: Path) -> None:
    file = disk(host, "qcow2", "MARK-ova")
    host.hv("ada", "image", "import", str(file), "--name", "small", "--os", "debian12")
    words = ("--image", "small", "--cpus", "2", "--memory", "48M", "--firmware", "bios", "--tag", "x")
    host.hv("ada", "vm", "create", "web 1", *words, "--description", "front & <end>")
    out = file.parent / "web.ova"
    said = host.hv("ada", "vm", "export", "web 1", "--output", str(out), status=None)
    assert said.status != 0 and "stands on the image small" in said.err and "hv vm clone" in said.err
    host.hv("ada", "vm", "clone", "web 1", "web 2")
    plan = host.hv("ada", "vm", "export", "web 2", "--output", str(out), "--dry-run", "--json").json
    assert plan["version"] == 1 and str(out) in plan["plan"][0] and not out.exists()
    host.hv("ada", "vm", "export", "web 2", "--output", str(out))
    assert (
        "is there already"
        in host.hv("ada", "vm", "export", "web 2", "--output", str(out), "--dry-run", status=1).err
    )
    assert [path.name for path in file.parent.iterdir() if path.name.startswith((".hv", "web.ova."))] == []
    said = host.hv("ada", "vm", "export", "web 2", "--output", str(out), status=None)
    assert said.status != 0 and "there already" in said.err

    # As others read it: the order that DSP0243 wants, sums that are right, a VMDK that qemu-img takes.
    listed = subprocess.run(("tar", "-tf", out), capture_output=True, text=True, check=True).stdout.split()
    assert listed == ["web-2.ovf", "web-2.mf", "web-2-disk1.vmdk"]
    subprocess.run(("tar", "-C", tmp_path, "-xf", out), check=True)
    sums = re.sub(r"SHA256\((.*)\)= (.*)", r"\2  \1", (tmp_path / "web-2.mf").read_text())
    subprocess.run(("sha256sum", "--check", "--strict"), input=sums, text=True, cwd=tmp_path, check=True)
    told = subprocess.run(
        ("qemu-img", "info", "--output=json", tmp_path / "web-2-disk1.vmdk"), capture_output=True, check=True
    )
    assert json.loads(told.stdout)["format-specific"]["data"]["create-type"] == "streamOptimized"
    top: Any = etree.parse(tmp_path / "web-2.ovf").getroot()
    capacity = top.find(".//{*}Disk").get("{http://schemas.dmtf.org/ovf/envelope/1}capacity")
    assert int(capacity) == json.loads(told.stdout)["virtual-size"]
    assert top.findtext(".//{*}Annotation") == "front & <end>"

    # One bit changed on its way is noticed.
    data = bytearray(out.read_bytes())
    data[data.index(b"KDMV") + 2000] ^= 1
    broken = out.with_name("broken.ova")
    broken.write_bytes(data)
    said = host.hv("ada", "vm", "import", str(broken), "--as", "broken", status=None)
    assert said.status != 0 and "web-2-disk1.vmdk is not what its manifest says" in said.err

    # And back, while the first two are still there.
    host.hv("ada", "vm", "import", str(out), "--as", "back")
    row = host.hv("ada", "vm", "show", "back", "--json").json
    assert (row["vcpus"], row["memory"], row["firmware"], len(row["nics"])) == (2, 48 << 20, "bios", 1)
    boots(host, "back", "MARK-ova")
    for name in ("web 1", "web 2"):
        host.hv("ada", "vm", "delete", name, "--disks")
    for name in ("back-disk0", "small"):
        host.hv("ada", "image", "delete", name)
