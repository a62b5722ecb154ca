"""The processor of guests: what the host's configuration says, what libvirt takes, and what this host can give."""

import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from hv.firstrun.domain import Placement, domain_xml
from hv.firstrun.guests import GUESTS, cpu_model, usable_models
from hv.firstrun.vm import VmJob
from hv.firstrun.world import World
from installer.errors import HyperError
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from tests.test_firstrun_parts import VM
from tests.test_nix_virtualization import connection

__all__ = ["connection"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(programs=Runner(Log(tmp_path / "log", Redactor()), "/usr/bin"), root=tmp_path)


def say(world: World, text: str) -> None:
    file = world.path(GUESTS)
    file.parent.mkdir(parents=True)
    file.write_text(text)


def test_without_a_word_of_the_configuration_it_is_the_hosts_model(world: World) -> None:
    assert cpu_model(world) == "host-model"


def test_the_configuration_decides(world: World) -> None:
    say(world, '{"cpuModel":"EPYC-Rome"}')
    assert cpu_model(world) == "EPYC-Rome"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cpuModel": 7}', '{"cpuModel": null}'])
def test_a_file_that_is_none_of_ours_is_told_with_a_remedy(world: World, text: str) -> None:
    say(world, text)
    with pytest.raises(HyperError, match="which processor guests get") as caught:
        cpu_model(world)
    assert "hypervisor.virtualization.cpuModel" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("model", "cpu"),
    [
        ("host-model", '<cpu mode="host-model" />'),
        ("host-passthrough", '<cpu mode="host-passthrough" />'),
        (
            "EPYC-Rome",
            '<cpu mode="custom" match="exact"><model fallback="forbid">EPYC-Rome</model></cpu>',
        ),
        (None, None),
    ],
)
def test_a_guest_gets_the_processor_that_was_asked_for(model: str | None, cpu: str | None) -> None:
    root = ET.fromstring(domain_xml("host", VM, Placement(model, Path("/d"), Path("/l"))))
    assert root.get("type") == ("qemu" if model is None else "kvm")
    found = root.find("cpu")
    if cpu is None:
        assert found is None
    else:
        assert found is not None
        text = "".join(ET.tostring(found, encoding="unicode").split("\n"))
        assert ET.canonicalize(text, strip_text=True) == ET.canonicalize(cpu)


@pytest.mark.libvirt
@pytest.mark.parametrize("model", ["host-model", "host-passthrough", "EPYC-Rome", None])
def test_libvirts_own_schema_takes_each(model: str | None, tmp_path: Path) -> None:
    file = tmp_path / "guest.xml"
    file.write_text(domain_xml("host", VM, Placement(model, Path("/d"), Path("/l"))))
    done = subprocess.run(
        ["virt-xml-validate", str(file), "domain"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Emulating:
    """A connection that answers for emulation when it is asked for KVM, which this machine need not have."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def getDomainCapabilities(self, *words: Any) -> str:  # noqa: N802 - libvirt's name
        text: str = self.connection.getDomainCapabilities(*words[:3], "qemu", *words[4:])
        return text


@pytest.mark.libvirt
def test_a_model_that_the_host_cannot_give_is_refused_before_anything_is_made(connection: Any) -> None:
    emulator = "/usr/bin/qemu-system-x86_64"
    capabilities = ET.fromstring(connection.getDomainCapabilities(emulator, "x86_64", "q35", "qemu", 0))
    usable = usable_models(capabilities)
    known = {
        model.text
        for model in capabilities.findall("cpu/mode[@name='custom']/model")
        if model.text and model.get("usable") == "no"
    }
    assert {"qemu64", "Nehalem"} <= usable
    assert known, "libvirt knows models that this QEMU cannot give"
    job = VmJob("host", replace_name("web"))
    job._require_model(Emulating(connection), emulator, "qemu64")
    for model in (sorted(known)[0], "No-Such-Processor"):
        with pytest.raises(HyperError, match=f"cannot have the processor {model}") as caught:
            job._require_model(Emulating(connection), emulator, model)
        assert "qemu64" in str(caught.value.why)
        assert "hypervisor.virtualization.cpuModel" in str(caught.value.remedy)


def replace_name(name: str) -> Any:
    return VM.model_copy(update={"name": name})
