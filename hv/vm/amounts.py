"""How many processors and how much memory a guest has, and how much it may get while it runs.

Processors: all of the maximum are in the definition, and those above the first few are plugged in later
(https://libvirt.org/formatdomain.html#cpu-allocation). Memory: what it starts with belongs to the one node of its NUMA
topology, and the rest up to the maximum is a virtio-mem device, of which it gets and gives back parts
(https://virtio-mem.gitlab.io); a guest without a driver for it gets none of that.
"""

from dataclasses import dataclass
from typing import Any

from lxml import etree

Element = etree._Element
MIB = 1024**2
BLOCK = 2 * MIB
"""Bytes that virtio-mem gives and takes at once: a huge page of x86."""
STEP = 128 * MIB
"""Bytes of a memory block of Linux on x86, and so the least that a guest can be given later."""
UNITS = {
    "b": 1, "bytes": 1, "KB": 1000, "k": 1024, "KiB": 1024, "MB": 1000**2, "M": MIB, "MiB": MIB, "GB": 1000**3,
    "G": 1024**3, "GiB": 1024**3, "TB": 1000**4, "T": 1024**4, "TiB": 1024**4,
}  # fmt: skip
"""virScaleInteger."""


@dataclass(frozen=True)
class Amounts:
    """Processors, and memory in bytes."""

    vcpus: int
    max_vcpus: int
    memory: int
    """What it is to have."""
    max_memory: int
    start: int
    """Bytes that it has however little it is given: all but the virtio-mem device."""
    taken: int | None = None
    """Bytes of the device that a running guest has taken; None where that is not told."""

    @property
    def grows(self) -> bool:
        """Whether memory can be plugged in."""
        return self.max_memory > self.start


def size_of(element: Any) -> int:
    """Bytes of an element with a size and a unit."""
    return int(element.text or 0) * UNITS[element.get("unit", "KiB")] if element is not None else 0


def amounts_in(root: Element) -> Amounts:
    """A definition's amounts, running or not."""
    vcpu = root.find("vcpu")
    most = int(vcpu.text or 0) if vcpu is not None else 0
    now = int(vcpu.get("current", most)) if vcpu is not None else 0
    whole = size_of(root.find("memory"))
    device = plugged(root)
    if device is None:
        return Amounts(now, most, whole, whole, whole)
    size, requested = size_of(device.find("target/size")), size_of(device.find("target/requested"))
    current = device.find("target/current")
    taken = None if current is None else size_of(current)
    return Amounts(now, most, whole - size + requested, whole, whole - size, taken)


def plugged(root: Element) -> Element | None:
    """The memory device."""
    return root.find("devices/memory[@model='virtio-mem']")


def set_amounts(root: Element, amounts: Amounts) -> None:
    """Make a definition have these; everything else in it stays."""
    _set_vcpus(root, amounts)
    device = plugged(root)
    address = None if device is None else device.find("address")
    gone = [each for path in ("maxMemory", "currentMemory", "cpu/numa") for each in root.findall(path)]
    for each in [*gone, *([] if device is None else [device])]:
        parent = each.getparent()
        if parent is not None:
            parent.remove(each)
    memory = _first(root, "memory")
    memory.set("unit", "b")
    memory.text = str(amounts.max_memory)
    if not amounts.grows:
        return
    above = etree.Element("maxMemory", slots="1", unit="b")
    above.text = str(amounts.max_memory)
    memory.addprevious(above)
    cpu = _first(root, "cpu")
    cell = etree.SubElement(etree.SubElement(cpu, "numa"), "cell", id="0", unit="b")
    cell.set("cpus", f"0-{amounts.max_vcpus - 1}")
    cell.set("memory", str(amounts.start))
    device = etree.SubElement(_first(root, "devices"), "memory", model="virtio-mem")
    target = etree.SubElement(device, "target")
    requested = amounts.memory - amounts.start
    for name, value in (
        ("size", amounts.max_memory - amounts.start),
        ("node", 0),
        ("block", BLOCK),
        ("requested", requested),
    ):
        child = etree.SubElement(target, name, {} if name == "node" else {"unit": "b"})
        child.text = str(value)
    if address is not None:
        device.append(address)


def device_with(root: Element, amounts: Amounts) -> Element:
    """A running guest's memory device, asked to be so large (`virsh update-memory-device` sends the like)."""
    device = plugged(root)
    assert device is not None
    requested = device.find("target/requested")
    assert requested is not None
    requested.set("unit", "b")
    requested.text = str(amounts.memory - amounts.start)
    return device


def _set_vcpus(root: Element, amounts: Amounts) -> None:
    vcpu = _first(root, "vcpu")
    vcpu.text = str(amounts.max_vcpus)
    if "current" in vcpu.attrib:
        del vcpu.attrib["current"]
    for old in root.findall("vcpus"):
        root.remove(old)
    for pin in root.findall("cputune/vcpupin"):
        tune = pin.getparent()
        if tune is not None and int(pin.get("vcpu", "0")) >= amounts.max_vcpus:
            tune.remove(pin)
    if amounts.max_vcpus == amounts.vcpus:
        return
    vcpu.set("current", str(amounts.vcpus))
    each = etree.Element("vcpus")
    for number in range(amounts.max_vcpus):
        # All but the first can be taken away again while it runs.
        row = etree.SubElement(each, "vcpu", id=str(number), hotpluggable="yes" if number else "no")
        row.set("enabled", "yes" if number < amounts.vcpus else "no")
    vcpu.addnext(each)


def _first(root: Element, tag: str) -> Element:
    found = root.find(tag)
    return etree.SubElement(root, tag) if found is None else found
