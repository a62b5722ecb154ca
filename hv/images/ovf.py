"""Guests described for other hypervisors: OVF, and OVA, which holds it with its disks (DMTF DSP0243 1.1).

Written as VirtualBox and VMware read it: hardware of theirs that both know, disks as VMDK of the kind streamOptimized.
`hv.images.foreign` reads it again.
"""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

OVF = "http://schemas.dmtf.org/ovf/envelope/1"
CIM = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2"
RASD = f"{CIM}/CIM_ResourceAllocationSettingData"
VSSD = f"{CIM}/CIM_VirtualSystemSettingData"
VMW = "http://www.vmware.com/schema/ovf"
FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
HARDWARE = "vmx-13"
"""VMware's of 2016, the first with UEFI everywhere."""
LINUX, OTHER = "101", "1"
"""Values of CIM_OperatingSystem.OSType: 64-bit Linux, and what has no number here."""
NOT_LINUX = ("win", "freebsd", "openbsd", "netbsd", "dragonfly", "macosx", "solaris", "msdos")
USTAR_MOST = 8 << 30
"""Bytes of a file in the tar format that DSP0243 wants."""
MIB = 1 << 20


@dataclass(frozen=True)
class Disk:
    """One of its disks."""

    file: str
    """Name beside the description."""
    size: int
    """Bytes of the file."""
    capacity: int
    """Bytes that the guest sees."""


@dataclass(frozen=True)
class Machine:
    """A guest to describe."""

    name: str
    os: str
    """libosinfo's id."""
    description: str
    cpus: int
    memory: int
    """Bytes."""
    firmware: str
    """`uefi` or `bios`."""
    disks: tuple[Disk, ...]
    networks: tuple[str, ...]
    """One for each card."""


def described(machine: Machine) -> bytes:
    """The OVF."""
    spaces: Any = {None: OVF, "ovf": OVF, "rasd": RASD, "vssd": VSSD, "vmw": VMW}
    top = etree.Element(f"{{{OVF}}}Envelope", nsmap=spaces)
    references = _child(top, "References")
    for number, disk in enumerate(machine.disks, 1):
        _child(references, "File", id=f"file{number}", href=disk.file, size=str(disk.size))
    disks = _section(top, "DiskSection", "Disks of the virtual machine")
    for number, disk in enumerate(machine.disks, 1):
        unit = {"capacity": str(disk.capacity), "capacityAllocationUnits": "byte", "format": FORMAT}
        _child(disks, "Disk", diskId=f"vmdisk{number}", fileRef=f"file{number}", **unit)
    networks = _section(top, "NetworkSection", "Networks that it was plugged into")
    for name in dict.fromkeys(machine.networks):
        _child(_child(networks, "Network", name=name), "Description").text = name
    system = _section(top, "VirtualSystem", "A virtual machine", id=machine.name)
    _child(system, "Name").text = machine.name
    if machine.description:
        _child(
            _section(system, "AnnotationSection", "What it is for"), "Annotation"
        ).text = machine.description
    kind = OTHER if machine.os.startswith(NOT_LINUX) or machine.os == "generic" else LINUX
    told = _section(system, "OperatingSystemSection", "Its operating system", id=kind)
    _child(told, "Description").text = machine.os
    hardware = _section(system, "VirtualHardwareSection", "Virtual hardware")
    about = _child(hardware, "System")
    for tag, text in (
        ("ElementName", "Virtual Hardware Family"),
        ("InstanceID", "0"),
        ("VirtualSystemIdentifier", machine.name),
        ("VirtualSystemType", HARDWARE),
    ):
        etree.SubElement(about, f"{{{VSSD}}}{tag}").text = text
    for item in _items(machine):
        made = _child(hardware, "Item")
        for tag in sorted(item):  # the schema wants them in the order of their names
            etree.SubElement(made, f"{{{RASD}}}{tag}").text = item[tag]
    if machine.firmware == "uefi":
        config = etree.SubElement(hardware, f"{{{VMW}}}Config")
        config.set(f"{{{OVF}}}required", "false")
        config.set(f"{{{VMW}}}key", "firmware")
        config.set(f"{{{VMW}}}value", "efi")
    return etree.tostring(top, encoding="UTF-8", xml_declaration=True, pretty_print=True)


def _items(machine: Machine) -> list[dict[str, str]]:
    """Hardware, by ResourceType: 3 processors, 4 memory, 20 SATA, 17 disk, 10 card."""
    memory = -(-machine.memory // MIB)
    items = [
        {
            "AllocationUnits": "hertz * 10^6",
            "ElementName": f"{machine.cpus} virtual processors",
            "ResourceType": "3",
            "VirtualQuantity": str(machine.cpus),
        },
        {
            "AllocationUnits": "byte * 2^20",
            "ElementName": f"{memory} MB of memory",
            "ResourceType": "4",
            "VirtualQuantity": str(memory),
        },
        {"Address": "0", "ElementName": "SATA controller", "ResourceSubType": "AHCI", "ResourceType": "20"},
    ]
    for number in range(len(machine.disks)):
        items.append(
            {
                "AddressOnParent": str(number),
                "ElementName": f"disk {number + 1}",
                "HostResource": f"ovf:/disk/vmdisk{number + 1}",
                "Parent": "3",
                "ResourceType": "17",
            }
        )
    for number, network in enumerate(machine.networks):
        items.append(
            {
                "AddressOnParent": str(number),
                "AutomaticAllocation": "true",
                "Connection": network,
                "ElementName": f"card {number + 1}",
                "ResourceSubType": "E1000",
                "ResourceType": "10",
            }
        )
    return [item | {"InstanceID": str(number)} for number, item in enumerate(items, 1)]


def pack(into: Path, name: str, machine: Machine, folder: Path) -> None:
    """The OVA: description, manifest, then the disks in the order of the description; all in `folder`. Raises OSError."""
    text = described(machine)
    # As VMware's ovftool does in OVF 1 too, where the standard still has SHA1.
    lines = [f"SHA256({name}.ovf)= {hashlib.sha256(text).hexdigest()}\n"]
    for disk in machine.disks:
        with (folder / disk.file).open("rb") as stream:
            lines.append(f"SHA256({disk.file})= {hashlib.file_digest(stream, 'sha256').hexdigest()}\n")
    kind = (
        tarfile.USTAR_FORMAT if all(disk.size < USTAR_MOST for disk in machine.disks) else tarfile.GNU_FORMAT
    )
    with tarfile.open(into, "x:", format=kind) as archive:
        for label, data in ((f"{name}.ovf", text), (f"{name}.mf", "".join(lines).encode())):
            archive.addfile(_entry(label, len(data)), io.BytesIO(data))
        for disk in machine.disks:
            with (folder / disk.file).open("rb") as stream:
                archive.addfile(_entry(disk.file, disk.size), stream)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry


def _child(parent: "etree._Element", tag: str, **attributes: str) -> "etree._Element":
    made = etree.SubElement(parent, f"{{{OVF}}}{tag}")
    for key, value in attributes.items():
        made.set(f"{{{OVF}}}{key}", value)
    return made


def _section(parent: "etree._Element", tag: str, info: str, **attributes: str) -> "etree._Element":
    made = _child(parent, tag, **attributes)
    _child(made, "Info").text = info
    return made
