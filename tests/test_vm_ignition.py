"""Ignition: what Fedora CoreOS and Flatcar read at their first boot, carried by QEMU's fw_cfg; read in a real guest."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree
from pydantic import ValidationError

from hv.vm.domain import Guest, Host, domain_xml
from hv.vm.spec import VmSpec
from tests import linux_guest
from tests.broker import BrokerHost, broker_host, wait_for
from tests.test_vm_life import PLAIN, definition, put, shown

CONFIG = {
    "ignition": {"version": "3.4.0"},
    "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 AAAA schlüssel@web"]}]},
}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("variant: fcos\nversion: 1.5.0\n", "no JSON"),
        ("[]", "no ignition.version"),
        ('{"ignition": "3.4.0"}', "no ignition.version"),
        ('{"ignition": {"version": "4.0.0"}}', "no ignition.version"),
        ("[" * 100_000, "no JSON"),
        (json.dumps({**CONFIG, "storage": "x" * 600_000}), "at most 524288"),
    ],
)
def test_what_ignition_would_not_read_is_said(config: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        VmSpec.model_validate({"name": "x", "ignition": {"config": config}})


@pytest.mark.parametrize(
    "given",
    [
        {"ignition": {"config": json.dumps(CONFIG), "path": "/etc/shadow"}},
        {"ignition": {"config": json.dumps(CONFIG), "name": "opt/ovmf/x"}},
        {"ignition": {"file": "/etc/shadow"}},
        {"ignition": "/etc/shadow"},
        {"ignition": {"config": json.dumps(CONFIG)}, "cloud_init": {"user": "ada"}},
        {"sysinfo": "<entry file='/etc/shadow'/>"},
    ],
)
def test_no_file_of_the_host_can_be_named(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VmSpec.model_validate({"name": "x", **given})


def test_the_definition_is_one_that_libvirt_knows(tmp_path: Path) -> None:
    spec = VmSpec.model_validate({"name": "x", "ignition": {"config": json.dumps(CONFIG)}})
    uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f"
    xml = domain_xml(Guest(spec, uuid, "ada", Host(False, ""), ignition=f"/pool/{uuid}-seed.ign"))
    assert "AAAA" not in xml, "the config itself is nowhere but in its volume"
    file = tmp_path / "x.xml"
    file.write_text(xml)
    done = subprocess.run(("virt-xml-validate", file, "domain"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        put(made, "linux", linux_guest.qcow2())
        yield made


@pytest.mark.libvirt
def test_a_guest_reads_it_and_nobody_else(host: BrokerHost) -> None:
    host.folder.chmod(0o777)
    butane = host.folder / "web.bu"
    butane.write_text("variant: fcos\nversion: 1.5.0\n")
    said = host.hv(
        "ada", "vm", "create", "core", "--image", "linux", *PLAIN, "--ignition", str(butane), status=2
    )
    assert "a Butane file" in said.err and "butane '" in said.err
    file = host.folder / "web.ign"
    text = json.dumps(CONFIG, ensure_ascii=False)
    file.write_text(text, encoding="utf-8")
    words = ("--image", "linux", "--memory", "128M", *PLAIN[2:], "--ignition", str(file))
    said = host.hv("ada", "vm", "create", "core", *words, "--hostname", "x", status=2)
    assert "goes without" in said.err
    plan = host.hv("ada", "vm", "create", "core", *words, "--dry-run").out
    assert f"first boot: Ignition with {len(text.encode())} bytes" in plan
    host.hv("ada", "vm", "create", "core", *words, "--start")
    row = shown(host, "core")
    assert row["ignition"] and "first boot:  Ignition" in host.hv("ada", "vm", "show", "core").out
    uuid = row["uuid"]
    wait_for("the guest", lambda: linux_guest.MARKER in host.console(uuid))
    ask = (
        "insmod /modules/qemu_fw_cfg.ko; for each in com.coreos org.flatcar-linux; do "
        "echo $each-$(md5sum </sys/firmware/qemu_fw_cfg/by_name/opt/$each/config/raw | cut -c1-32); done"
    )
    host.hv("ada", "vm", "console", "core", stdin=f"{ask}\n\x1d")
    volume = host.path(f"/var/lib/libvirt/images/{uuid}-seed.ign")
    content = volume.read_bytes()
    assert json.loads(content) == CONFIG and content.startswith(text.encode())
    wanted = subprocess.run(("md5sum", volume), capture_output=True, text=True, check=True).stdout[:32]
    told = [f"{name}-{wanted}" for name in ("com.coreos", "org.flatcar-linux")]
    wait_for(
        "what the guest reads, under both names", lambda: all(each in host.console(uuid) for each in told)
    )

    # Not on QEMU's command line, not in the definition, and of no other account on the host.
    assert b"AAAA" not in Path(f"/proc/{host.qemu('core')}/cmdline").read_bytes()
    assert "AAAA" not in etree.tostring(definition(host, "core")).decode()
    assert volume.stat().st_mode & 0o077 == 0
    assert host.run_as("eve", "cat", f"/var/lib/libvirt/images/{uuid}-seed.ign").status != 0

    # A copy is another guest, which is told nothing; the original's goes with it.
    host.hv("ada", "vm", "stop", "core", "--force")
    host.hv("ada", "vm", "clone", "core", "copy")
    assert (
        not shown(host, "copy")["ignition"]
        and "fwcfg" not in etree.tostring(definition(host, "copy")).decode()
    )
    plan = host.hv("ada", "vm", "delete", "core", "--dry-run").out
    assert re.search(r"what Ignition read \(.*-seed\.ign\) goes along", plan)
    host.hv("ada", "vm", "delete", "core", "--disks")
    assert not volume.exists()
    host.hv("ada", "vm", "start", "copy")
    host.hv("ada", "vm", "delete", "copy", "--disks", "--force")
    with host.libvirt() as connection:
        names = [each.name() for each in connection.storagePoolLookupByName("default").listAllVolumes(0)]
        assert not [name for name in names if name.endswith("-seed.ign")]
        assert connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT) == []


@pytest.mark.libvirt
def test_a_declared_vm_may_have_one(host: BrokerHost) -> None:
    host.folder.chmod(0o777)
    file = host.folder / "vms.toml"
    file.write_text(
        'version = 1\n[[vms]]\nname = "declared"\nfirmware = "bios"\nmemory = "64MiB"\n'
        f"disks = [{{ size = \"1MiB\" }}]\nignition = {{ config = '{json.dumps(CONFIG)}' }}\n"
    )
    host.hv("ada", "vm", "apply", str(file), "--yes")
    assert shown(host, "declared")["ignition"]
    assert "leave" in host.hv("ada", "vm", "apply", str(file), "--dry-run").out
    host.hv("ada", "vm", "delete", "declared", "--disks")
