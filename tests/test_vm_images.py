"""Images on their way to the broker and into VMs: `hv image import`, `pull`, `hv vm create --template`, `hv vm import`."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    host.hv("alma", "image", "publish", kind)
    assert kind in host.hv("eve", "image", "list").out
    host.hv("ada", "image", "delete", kind)
    assert host.hv("ada", "image", "list", "--json").json["images"] == []
    assert list(host.path("/var/lib/libvirt/images").iterdir()) == []


def test_a_template_is_fetched_verified_and_made_a_vm(
    host: BrokerHost,
    vendor: Signer,
    web: Mirror,
    here: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = disk(host, "qcow2", "MARK-template").read_bytes()
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

    # Tampered with on its way: nothing comes into being.
    web.files["/mine.qcow2"] = content[:-1] + b"x"
    with pytest.raises(HyperError):
        vm.main(["create", "t", "--template", "mine", "--network", "none"])
    assert json.loads(host.hv("alma", "image", "list", "--json").out)["images"] == []
    web.files["/mine.qcow2"] = content

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
    assert "mail: 2 processors, 48M, bios, 1 disks, 1 cards" in plan
    assert host.hv("ada", "vm", "list").out == "no VMs\n"
    host.hv("ada", "vm", "import", str(described), "--as", "mail")
    row = host.hv("ada", "vm", "show", "mail", "--json").json
    assert (row["vcpus"], row["memory"], row["firmware"]) == (2, 48 << 20, "bios") and row["nics"][0][
        "mac"
    ].startswith("52:54:00")
    assert row["disks"][0]["bus"] == "sata"
    boots(host, "mail", "MARK-vmware")
    host.hv("ada", "image", "delete", "mail-disk0")
    # What fails half way leaves no image behind.
    host.hv("ada", "vm", "import", str(described), "--as", "mail", "--network", "nowhere", status=4)
    assert host.hv("ada", "image", "list", "--json").json["images"] == []
