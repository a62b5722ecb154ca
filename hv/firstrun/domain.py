"""A guest's definition as libvirt takes it (https://libvirt.org/formatdomain.html), built as a tree, never as text."""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from installer.handoff import HandoffVm

NAMESPACE = uuid.UUID("7d0dd9b6-40f3-5a29-8a7a-6f2a6c0f6d53")
"""uuid5 of hosts and names in it are our guests' UUIDs: a second run finds the guest that the first one made."""

HOST_MODELS = ("host-model", "host-passthrough")
"""The processor follows the host's; every other word is the name of a model."""


@dataclass(frozen=True)
class Placement:
    """What the host decides about a guest."""

    cpu_model: str | None
    """With hardware virtualization (KVM): the processor, `host-model`, `host-passthrough` or the name of a model of
    libvirt's. None: emulation, with QEMU's own processor."""
    disk: Path
    """The guest's disk, qcow2."""
    console_log: Path
    """Where everything on its serial console is kept."""


def domain_uuid(hostname: str, name: str) -> str:
    """The same for the same host and guest, always."""
    return str(uuid.uuid5(NAMESPACE, f"{hostname}/{name}"))


def domain_mac(hostname: str, name: str) -> str:
    """A MAC in QEMU's range 52:54:00, the same for the same host and guest."""
    tail = hashlib.sha256(f"{hostname}/{name}".encode()).digest()[:3]
    return ":".join(["52:54:00", *(f"{octet:02x}" for octet in tail)])


def domain_xml(hostname: str, vm: HandoffVm, place: Placement) -> str:
    """q35, virtio, serial console; UEFI by libvirt's own choice of firmware, without Secure Boot."""
    root = ET.Element("domain", type="qemu" if place.cpu_model is None else "kvm")
    _text(root, "name", vm.name)
    _text(root, "uuid", domain_uuid(hostname, vm.name))
    _text(root, "description", "Made by the first run of Hyper-NixOS.")
    _text(root, "memory", str(vm.memory), unit="b")
    _text(root, "vcpu", str(vm.vcpus))
    _firmware(root, vm)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if place.cpu_model is not None:
        _processor(root, place.cpu_model)
    ET.SubElement(root, "clock", offset="utc")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(root, event, action)
    _devices(ET.SubElement(root, "devices"), hostname, vm, place)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def _processor(root: ET.Element, model: str) -> None:
    if model in HOST_MODELS:
        ET.SubElement(root, "cpu", mode=model)
        return
    # Exactly this one: a guest that starts with less on another host would crash there.
    named = ET.SubElement(root, "cpu", mode="custom", match="exact")
    _text(named, "model", model, fallback="forbid")


def _firmware(root: ET.Element, vm: HandoffVm) -> None:
    system = ET.SubElement(root, "os")
    if vm.firmware == "uefi":
        system.set("firmware", "efi")
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    if vm.firmware == "uefi":
        chosen = ET.SubElement(system, "firmware")
        for feature in ("enrolled-keys", "secure-boot"):
            ET.SubElement(chosen, "feature", enabled="no", name=feature)
    ET.SubElement(system, "boot", dev="hd")


def _devices(devices: ET.Element, hostname: str, vm: HandoffVm, place: Placement) -> None:
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="qcow2", discard="unmap")
    ET.SubElement(disk, "source", file=str(place.disk))
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    if vm.network is not None:
        interface = ET.SubElement(devices, "interface", type="network")
        ET.SubElement(interface, "mac", address=domain_mac(hostname, vm.name))
        ET.SubElement(interface, "source", network=vm.network)
        ET.SubElement(interface, "model", type="virtio")
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=str(place.console_log), append="on")
    ET.SubElement(serial, "target", type="isa-serial", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial", port="0")
    agent = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(agent, "target", type="virtio", name="org.qemu.guest_agent.0")
    # A unix socket: the screen is for root of this host, not for the network.
    ET.SubElement(ET.SubElement(devices, "graphics", type="vnc"), "listen", type="socket")
    ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga")
    ET.SubElement(devices, "memballoon", model="virtio")
    entropy = ET.SubElement(devices, "rng", model="virtio")
    _text(entropy, "backend", "/dev/urandom", model="random")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
