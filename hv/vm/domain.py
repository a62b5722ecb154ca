"""A guest's definition as libvirt takes it (https://libvirt.org/formatdomain.html): built from typed values as a tree.

This is the only place where definitions are made. Everything in them is a constant of this module, a number, a name
that was checked, or the path of a volume that the broker looked up itself.
"""

import hashlib
from dataclasses import dataclass, field

from lxml import etree

from hv.vm.amounts import UNITS, Amounts, set_amounts
from hv.vm.spec import Nic, VmSpec

NS = "https://hyper-nixos.org/vm/1"
"""Namespace of what we keep in a definition."""
HOST_MODELS = ("host-model", "host-passthrough")
CONSOLE_LOGS = "/var/log/libvirt/qemu"
"""Where libvirt keeps its guests' logs."""
PORTS = 14
"""PCIe ports: six or seven are taken by a guest with a disk and a card, each other one takes something later."""
IGNITION = ("opt/com.coreos/config", "opt/org.flatcar-linux/config")
"""Names that Ignition looks for in QEMU's fw_cfg: Fedora CoreOS, Flatcar."""
Element = etree._Element


@dataclass(frozen=True)
class DiskFile:
    """A volume as a guest gets it."""

    path: str
    format: str = "qcow2"
    bus: str = "virtio"
    kind: str = "disk"
    """disk, seed or iso."""
    backing: str | None = None
    """Path of the volume below, qcow2 without one of its own."""


@dataclass(frozen=True)
class Host:
    """What the host decides."""

    accelerated: bool
    """KVM, else emulation."""
    cpu_model: str
    """With KVM: host-model, host-passthrough or a model's name."""


@dataclass(frozen=True)
class Placed:
    """Where on the host a guest runs."""

    node: int | None = None
    """NUMA node of its memory."""
    cpus: tuple[int, ...] = ()
    """Processors, one for each of the guest's."""
    emulator: tuple[int, ...] = ()
    """Processors of QEMU's own threads."""
    page: int | None = None
    """Bytes of its huge pages."""


@dataclass(frozen=True)
class Guest:
    """Everything that a definition is made of."""

    spec: VmSpec
    uuid: str
    owner: str
    host: Host
    disks: tuple[DiskFile, ...] = ()
    macs: tuple[str, ...] = field(default=())
    placed: Placed | None = None
    ignition: str | None = None
    """Path of the volume that Ignition reads."""


def mac_of(uuid: str, number: int) -> str:
    """A MAC in QEMU's range 52:54:00, the same for the same guest and card."""
    tail = hashlib.sha256(f"{uuid}/{number}".encode()).digest()[:3]
    return ":".join(["52:54:00", *(f"{octet:02x}" for octet in tail)])


def console_log(uuid: str) -> str:
    """File with everything on the guest's serial console."""
    return f"{CONSOLE_LOGS}/{uuid}-console.log"


def domain_xml(guest: Guest) -> str:
    """The definition: q35, virtio, serial console that is kept, agent, screen on a socket."""
    spec, host = guest.spec, guest.host
    root = etree.Element("domain", type="kvm" if host.accelerated else "qemu")
    _text(root, "name", spec.name)
    _text(root, "uuid", guest.uuid)
    if spec.description:
        _text(root, "description", spec.description)
    metadata = etree.SubElement(root, "metadata")
    etree.SubElement(metadata, f"{{{NS}}}vm", {"owner": guest.owner, "os": spec.os}, nsmap={"hv": NS})
    _text(root, "memory", "0", unit="b")
    _text(root, "vcpu", "0")
    if guest.placed:
        set_place(root, guest.placed)
    _firmware(root, spec)
    if guest.ignition is not None:
        # As a file: what is written into the definition itself would be on QEMU's command line, for everybody to read.
        told = etree.SubElement(root, "sysinfo", type="fwcfg")
        for name in IGNITION:
            etree.SubElement(told, "entry", name=name, file=guest.ignition)
    features = etree.SubElement(root, "features")
    for name in ("acpi", "apic"):
        etree.SubElement(features, name)
    if spec.secure_boot:
        etree.SubElement(features, "smm", state="on")
    if spec.os.startswith("win"):
        hyperv = etree.SubElement(features, "hyperv", mode="custom")
        for name in ("relaxed", "vapic"):
            etree.SubElement(hyperv, name, state="on")
        etree.SubElement(hyperv, "spinlocks", state="on", retries="8191")
    if host.accelerated:
        if host.cpu_model in HOST_MODELS:
            etree.SubElement(root, "cpu", mode=host.cpu_model)
        else:
            named = etree.SubElement(root, "cpu", mode="custom", match="exact")
            _text(named, "model", host.cpu_model, fallback="forbid")
    etree.SubElement(root, "clock", offset="localtime" if spec.os.startswith("win") else "utc")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(root, event, action)
    _devices(etree.SubElement(root, "devices"), guest)
    most = spec.max_memory or spec.memory
    set_amounts(
        root, Amounts(spec.vcpus, spec.max_vcpus or spec.vcpus, spec.memory, most, start=spec.memory)
    )
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def set_place(root: Element, placed: Placed) -> None:
    """Make a definition run there, and only there: what it said of that before is gone."""
    for path in ("memoryBacking/hugepages", "cputune/vcpupin", "cputune/emulatorpin", "numatune"):
        for old in root.findall(path):
            parent = old.getparent()
            if parent is not None:
                parent.remove(old)
    for path in ("memoryBacking", "cputune"):  # libvirt does not mind an empty one, a reader does
        empty = root.find(path)
        if empty is not None and not len(empty):
            root.remove(empty)
    if placed.page is not None:
        pages = etree.SubElement(_child(root, "memoryBacking"), "hugepages")
        etree.SubElement(pages, "page", size=str(placed.page // 1024), unit="KiB")
    for vcpu, cpu in enumerate(placed.cpus):
        etree.SubElement(_child(root, "cputune"), "vcpupin", vcpu=str(vcpu), cpuset=str(cpu))
    if placed.emulator:
        cpuset = ",".join(map(str, placed.emulator))
        etree.SubElement(_child(root, "cputune"), "emulatorpin", cpuset=cpuset)
    if placed.node is not None:
        numa = etree.SubElement(root, "numatune")
        etree.SubElement(numa, "memory", mode="strict", nodeset=str(placed.node))


def place_in(root: Element) -> Placed:
    """Where a definition says that it runs; pins that a person wrote to several processors are left out."""
    pins = [each.get("cpuset", "") for each in root.iterfind("cputune/vcpupin")]
    page = root.find("memoryBacking/hugepages/page")
    node = root.find("numatune/memory")
    nodes = "" if node is None else node.get("nodeset", "")
    return Placed(
        int(nodes) if nodes.isdecimal() else None,
        tuple(int(each) for each in pins if each.isdecimal()),
        (),
        None if page is None else int(page.get("size", "0")) * UNITS[page.get("unit", "KiB")],
    )


def _child(parent: Element, tag: str) -> Element:
    found = parent.find(tag)
    return etree.SubElement(parent, tag) if found is None else found


def _firmware(root: Element, spec: VmSpec) -> None:
    system = etree.SubElement(root, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    if spec.firmware == "uefi":
        system.set("firmware", "efi")
        chosen = etree.SubElement(system, "firmware")
        on = "yes" if spec.secure_boot else "no"
        for feature in ("enrolled-keys", "secure-boot"):
            etree.SubElement(chosen, "feature", enabled=on, name=feature)
        if spec.secure_boot:
            etree.SubElement(system, "loader", secure="yes")
    if spec.iso:
        etree.SubElement(system, "boot", dev="cdrom")
    etree.SubElement(system, "boot", dev="hd")


def _devices(devices: Element, guest: Guest) -> None:
    spec = guest.spec
    # What is plugged in later needs a port that was there from the beginning.
    etree.SubElement(devices, "controller", type="pci", model="pcie-root")
    for _ in range(PORTS):
        etree.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    taken: set[str] = set()
    for disk in guest.disks:
        devices.append(disk_element(disk, free_target(disk, taken)))
    for nic, mac in zip(spec.nics, guest.macs, strict=True):
        devices.append(nic_element(nic, mac))
    serial = etree.SubElement(devices, "serial", type="pty")
    etree.SubElement(serial, "log", file=console_log(guest.uuid), append="on")
    etree.SubElement(serial, "target", type="isa-serial", port="0")
    console = etree.SubElement(devices, "console", type="pty")
    etree.SubElement(console, "target", type="serial", port="0")
    agent = etree.SubElement(devices, "channel", type="unix")
    etree.SubElement(agent, "target", type="virtio", name="org.qemu.guest_agent.0")
    etree.SubElement(devices, "input", type="tablet", bus="usb")
    if spec.tpm:
        backend = etree.SubElement(etree.SubElement(devices, "tpm", model="tpm-crb"), "backend")
        backend.set("type", "emulator")
        backend.set("version", "2.0")
    # A unix socket: no screen listens on a network.
    etree.SubElement(etree.SubElement(devices, "graphics", type=spec.screen), "listen", type="socket")
    if spec.screen == "spice":  # the guest's agent: clipboard, size of the screen
        spice = etree.SubElement(devices, "channel", type="spicevmc")
        etree.SubElement(spice, "target", type="virtio", name="com.redhat.spice.0")
    etree.SubElement(etree.SubElement(devices, "video"), "model", type="vga")
    etree.SubElement(devices, "memballoon", model="virtio")
    entropy = etree.SubElement(devices, "rng", model="virtio")
    _text(entropy, "backend", "/dev/urandom", model="random")


def free_target(disk: DiskFile, taken: set[str]) -> str:
    """The next name of a disk on its bus (vda, sda …); it is taken then."""
    prefix = "vd" if disk.bus == "virtio" else "sd"
    letter = next(chr(code) for code in range(ord("a"), ord("z") + 1) if f"{prefix}{chr(code)}" not in taken)
    taken.add(f"{prefix}{letter}")
    return f"{prefix}{letter}"


def disk_element(disk: DiskFile, target: str) -> Element:
    """A disk whose format is told, and whose backing is told to the end: nothing is probed."""
    device = "cdrom" if disk.kind == "iso" else "disk"
    made = etree.Element("disk", type="file", device=device)
    driver = etree.SubElement(made, "driver", name="qemu", type=disk.format)
    if disk.kind == "disk":
        driver.set("discard", "unmap")
    etree.SubElement(made, "source", file=disk.path)
    if disk.backing:
        below = etree.SubElement(made, "backingStore", type="file")
        etree.SubElement(below, "format", type="qcow2")
        etree.SubElement(below, "source", file=disk.backing)
        etree.SubElement(below, "backingStore")
    elif disk.format == "qcow2":
        etree.SubElement(made, "backingStore")
    etree.SubElement(made, "target", dev=target, bus=disk.bus)
    if disk.kind != "disk":
        etree.SubElement(made, "readonly")
    return made


def nic_element(nic: Nic, mac: str) -> Element:
    """A network card."""
    made = etree.Element("interface", type="network")
    etree.SubElement(made, "mac", address=mac)
    etree.SubElement(made, "source", network=nic.network)
    etree.SubElement(made, "model", type=nic.model)
    return made


def pci_element(address: str) -> Element:
    """A PCI device of the host, which libvirt unbinds and gives back by itself."""
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    made = etree.Element("hostdev", mode="subsystem", type="pci", managed="yes")
    place = etree.SubElement(etree.SubElement(made, "source"), "address")
    for name, value in (("domain", domain), ("bus", bus), ("slot", slot), ("function", function)):
        place.set(name, f"0x{value}")
    return made


def usb_element(usb: str) -> Element:
    """A USB device of the host, by vendor and product."""
    vendor, product = usb.split(":")
    made = etree.Element("hostdev", mode="subsystem", type="usb", managed="yes")
    source = etree.SubElement(made, "source")
    etree.SubElement(source, "vendor", id=f"0x{vendor}")
    etree.SubElement(source, "product", id=f"0x{product}")
    return made


def text_of(element: Element) -> str:
    """As libvirt's calls take it."""
    return etree.tostring(element, encoding="unicode")


def volume_xml(name: str, size: int, *, kind: str = "qcow2", backing: str | None = None) -> str:
    """A volume to make (https://libvirt.org/formatstorage.html), readable by nobody but QEMU."""
    root = etree.Element("volume", type="file")
    _text(root, "name", name)
    _text(root, "capacity", str(size), unit="bytes")
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "format", type=kind)
    permissions = etree.SubElement(target, "permissions")
    _text(permissions, "mode", "0600")
    if kind == "qcow2":
        _text(target, "compat", "1.1")
    if backing is not None:
        below = etree.SubElement(root, "backingStore")
        _text(below, "path", backing)
        etree.SubElement(below, "format", type="qcow2")
    else:
        _text(root, "allocation", "0", unit="bytes")
    return etree.tostring(root, encoding="unicode")


def parsed(xml: str) -> Element:
    """libvirt's own words as a tree; nothing outside them is ever read."""
    return etree.fromstring(
        xml, etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=False)
    )


def _text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    etree.SubElement(parent, tag, attributes).text = text
