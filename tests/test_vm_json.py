"""What `--json` prints of every command that only looks: its version, and the names that programs read. A name that goes
or changes its meaning raises the version; new ones are added here.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker import BrokerHost, broker_host
from tests.lab.bootsector import boot_disk
from tests.test_command_line import LOOKING
from tests.test_vm_life import PLAIN, put

pytestmark = pytest.mark.libvirt
SHAPES = Path(__file__).parent / "golden/vm_json.json"
WORDS = {
    "hv vm list": ("vm", "list"),
    "hv vm show": ("vm", "show", "web"),
    "hv vm logs": ("vm", "logs", "web"),
    "hv vm stats": ("vm", "stats", "web"),
    "hv vm screen": ("vm", "screen", "web", "--output", "OUT"),
    "hv vm disks": ("vm", "disks"),
    "hv vm pools": ("vm", "pools"),
    "hv vm networks": ("vm", "networks"),
    "hv vm operations": ("vm", "operations"),
    "hv net list": ("net", "list"),
    "hv net status": ("net", "status"),
    "hv pools list": ("pools", "list"),
    "hv image templates": ("image", "templates"),
    "hv image show": ("image", "show", "debian"),
    "hv image describe": ("image", "describe", "VMX"),
    "hv image list": ("image", "list"),
    "hv passthrough list": ("passthrough", "--machine", "MACHINE", "list"),
    "hv passthrough plan": ("passthrough", "--machine", "MACHINE", "plan", "GPU"),
    "hv auth whoami": ("auth", "whoami"),
    "hv auth can-i": ("auth", "can-i", "start", "web"),
    "hv auth log": ("auth", "log"),
}
ELSEWHERE = {"hv vm console", "hv vm wait", "hv pools status", "hv devices status"}
"""The first is no document; the second prints what an operation came to (test_vm_uploads); the others read what only a host declares, in their own tests."""


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        small, raw = made.folder / "tiny.qcow2", made.folder / "tiny.raw"
        raw.write_bytes(boot_disk("MARK-tiny"))
        subprocess.run(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, small), check=True)
        put(made, "tiny", small)
        (made.folder / "mail.vmx").write_text(
            'displayName = "mail"\nmemsize = "64"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "tiny.qcow2"\n'
        )
        made.folder.chmod(0o777)
        made.hv("ada", "vm", "create", "web", "--image", "tiny", *PLAIN, "--start")
        yield made


def shape(value: Any) -> Any:
    """Names alone: of a list those of its first. What is measured (`values`) has libvirt's names, which differ by release."""
    if isinstance(value, dict):
        return {name: None if name == "values" else shape(each) for name, each in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


def test_each_command_is_looked_at() -> None:
    assert set(WORDS) | ELSEWHERE == LOOKING


@pytest.mark.parametrize("name", WORDS)
def test_names_are_those_that_programs_know(host: BrokerHost, name: str) -> None:
    places = {
        "OUT": str(host.folder / "screen.png"),
        "VMX": str(host.folder / "mail.vmx"),
        "MACHINE": str(Path(__file__).parent / "machines/identical-gpus"),
        "GPU": "0000:21:00.0",
    }
    who = "audra" if name == "hv auth log" else "ada"
    document = host.hv(who, *(places.get(word, word) for word in WORDS[name]), "--json").json
    assert document["version"] == 1
    known = json.loads(SHAPES.read_text(encoding="utf-8"))
    assert shape(document) == known[name]
