"""Guests of other hypervisors: what their descriptions say, as one neutral value, and what of them has no place here.

Read are OVF and OVA (DMTF DSP0243; VirtualBox, VMware and others write them), VMware's .vmx, VirtualBox's
.vbox, and Proxmox's qemu-server files.
A description comes from elsewhere, so it is bounded in size, its XML has no entities, and it names disks only by the plain
names of files beside it.
"""

import hashlib
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from installer.errors import Exit, HyperError

LARGEST = 4 << 20
"""Bytes of a description."""
OVF = "http://schemas.dmtf.org/ovf/envelope/"
RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
PROCESSOR, MEMORY, NIC, DISK = "3", "4", "10", "17"
"""ResourceType of CIM_ResourceAllocationSettingData."""
KNOWN_OTHERS = {"5": "IDE controller", "6": "SCSI controller", "20": "SATA controller", "15": "CD drive"}
"""Types that need no telling: guests here have controllers of their own."""
UNITS = {"": 1, "byte": 1, "bytes": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
SUM = re.compile(r"^(SHA-?(?:1|256|512))\s*\((.+)\)\s*=\s*([0-9a-fA-F]+)\s*$", re.MULTILINE)
"""A line of a manifest."""
NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class ForeignDisk:
    """One of its disks."""

    path: Path
    """The file, beside the description."""
    format: str
    """As qemu-img names it."""


@dataclass(frozen=True)
class Foreign:
    """A guest as another hypervisor describes it."""

    name: str
    """Made fit for a name here."""
    cpus: int
    """Processors."""
    memory: int
    """Bytes."""
    firmware: str
    """`uefi` or `bios`."""
    disks: tuple[ForeignDisk, ...]
    """In their order; the first starts it."""
    nics: int
    """How many network cards; their addresses are not taken over, for the old guest may still run."""
    left: tuple[str, ...]
    """What was not taken over, one thing each."""
    lost: tuple[str, ...] = ()
    """Disks that it has and that cannot be taken over, each with the reason."""


def read(path: Path, unpacked: Path) -> Foreign:
    """The guest of a description. Raises HyperError.

    Args:
        path: `.ova`, `.ovf`, `.vmx`, `.vbox`, or Proxmox's `.conf`.
        unpacked: Folder that an OVA is unpacked into.
    """
    match path.suffix.lower():
        case ".ova":
            described = _unpack(path, unpacked)
            _require_sums(path, described)
            return _ovf(described)
        case ".ovf":
            _require_sums(path, path)
            return _ovf(path)
        case ".vmx":
            return _vmx(path)
        case ".vbox":
            return _vbox(path)
        case ".conf":
            return _proxmox(path)
    raise HyperError(
        f"{path.name} is no description that can be read.",
        why="its name ends in none of .ova, .ovf, .vmx, .vbox, .conf",
        remedy="Export the guest as OVA or OVF where it is; a disk alone goes with `hv image import`.",
        code=Exit.usage,
    )


def _unpack(path: Path, into: Path) -> Path:
    """An OVA is a tar with its description first (DSP0243, 5.3). Only plain files with plain names come out of it."""
    description = None
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isfile() or Path(member.name).name != member.name:
                    raise _bad(
                        path, f"it holds {member.name!r}, which is no plain file beside the description"
                    )
                content = archive.extractfile(member)
                assert content is not None  # a plain file has some
                with content, (into / member.name).open("wb") as out:
                    shutil.copyfileobj(content, out)
                if member.name.lower().endswith(".ovf"):
                    description = into / member.name
    except tarfile.TarError as error:
        raise _bad(path, f"it is no tar archive: {error}") from error
    if description is None:
        raise _bad(path, "there is no .ovf in it")
    return description


def _require_sums(path: Path, description: Path) -> None:
    """HyperError unless the files are what the manifest beside the description says (DSP0243, 5.1); it may be missing."""
    manifest = description.with_suffix(".mf")
    if manifest.is_symlink() or not manifest.is_file():
        return
    for algorithm, name, wanted in SUM.findall(_text(manifest)):
        file = description.parent / name
        if Path(name).name != name or file.is_symlink() or not file.is_file():
            continue  # a disk that is missing is told later
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, algorithm.lower().replace("-", "")).hexdigest()
        if found != wanted.lower():
            raise _bad(
                path, f"{name} is not what its manifest says: its {algorithm} is {found}, not {wanted}"
            )


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        raise _bad(path, f"it has more than {LARGEST >> 20} MiB")
    return path.read_text(encoding="utf-8", errors="replace")


def _beside(path: Path, name: str, lost: list[str]) -> Path | None:
    """A file beside the description, by its plain name; what is elsewhere is told and lost."""
    file = path.parent / name
    if Path(name).name != name or name in (".", ".."):
        lost.append(f"the disk {name}: it is not beside the description")
    elif file.is_symlink() or not file.is_file():
        lost.append(f"the disk {name}: there is no such file beside the description")
    else:
        return file
    return None


def _fit(name: str) -> str:
    return NAME.sub("-", name).strip("-.")[:60] or "imported"


def _tree(path: Path) -> "etree._Element":
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(_text(path).encode(), parser)
    except etree.XMLSyntaxError as error:
        raise _bad(path, f"it is no XML: {error}") from error


# ---- OVF ----


def _ovf(path: Path) -> Foreign:
    top = _tree(path)
    if etree.QName(top).localname != "Envelope" or not (etree.QName(top).namespace or "").startswith(OVF):
        raise _bad(path, "it is no OVF envelope")
    systems = _named(top, "VirtualSystem")
    if len(systems) != 1:
        raise _bad(path, f"it describes {len(systems)} guests, and one at a time can be taken over")
    left: list[str] = []
    lost: list[str] = []
    files = {_own(each, "id"): _own(each, "href") for each in _named(top, "File")}
    names = {_own(each, "diskId"): files.get(_own(each, "fileRef"), "") for each in _named(top, "Disk")}
    cpus, memory, nics, disks = 1, 1 << 30, 0, list[ForeignDisk]()
    for item in (
        *_named(systems[0], "Item"),
        *_named(systems[0], "StorageItem"),
        *_named(systems[0], "EthernetPortItem"),
    ):
        kind, quantity = _value(item, "ResourceType"), _value(item, "VirtualQuantity")
        if kind == PROCESSOR:
            cpus = _number(path, "VirtualQuantity of the processors", quantity)
        elif kind == MEMORY:
            memory = _number(path, "VirtualQuantity of the memory", quantity) * _unit(
                _value(item, "AllocationUnits")
            )
        elif kind == NIC:
            nics += 1
        elif kind == DISK:
            name = names.get(_value(item, "HostResource").rpartition("/")[2], "")
            if not name:
                left.append(f"the disk {_value(item, 'ElementName') or 'without a name'}: it is empty")
            elif file := _beside(path, name, lost):
                disks.append(ForeignDisk(file, "vmdk"))
        elif kind not in KNOWN_OTHERS:
            left.append(f"{_value(item, 'ElementName') or f'a device of type {kind}'}")
    firmware = "uefi" if _is_efi(top) else "bios"
    name = _value(systems[0], "Name") or _own(systems[0], "id")
    return Foreign(_fit(name), cpus, memory, firmware, tuple(disks), nics, tuple(left), tuple(lost))


def _is_efi(top: "etree._Element") -> bool:
    """VirtualBox says `<Firmware type="EFI">`, VMware `<Config key="firmware" value="efi">`."""
    told = [_own(each, "type") for each in _named(top, "Firmware")]
    told += [_own(each, "value") for each in _named(top, "Config") if _own(each, "key") == "firmware"]
    return any(each.upper().startswith("EFI") for each in told)


def _named(top: "etree._Element", name: str) -> list["etree._Element"]:
    """Elements of this name in any of OVF's namespaces, which differ between its versions."""
    return [each for each in top.iter() if isinstance(each.tag, str) and etree.QName(each).localname == name]


def _own(element: "etree._Element", name: str) -> str:
    return next(
        (str(value) for key, value in element.attrib.items() if etree.QName(key).localname == name), ""
    )


def _value(item: "etree._Element", name: str) -> str:
    return next(
        (
            each.text or ""
            for each in item
            if isinstance(each.tag, str) and etree.QName(each).localname == name
        ),
        "",
    ).strip()


def _unit(text: str) -> int:
    """`byte * 2^20` (DSP0004, annex C), or the short names of old writers, `MegaBytes`."""
    if match := re.fullmatch(r"byte\s*\*\s*2\^(\d{1,2})", text.strip()):
        return 1 << int(match[1])
    return UNITS.get(
        {"kilobytes": "kb", "megabytes": "mb", "gigabytes": "gb"}.get(text.lower(), text.lower()), 1 << 20
    )


# ---- VMware ----


def _vmx(path: Path) -> Foreign:
    told: dict[str, str] = {}
    for line in _text(path).splitlines():
        key, found, value = line.partition("=")
        if found and not line.lstrip().startswith("#"):
            told[key.strip().lower()] = value.strip().strip('"')
    left: list[str] = []
    lost: list[str] = []
    disks = []
    for bus in sorted(key for key in told if re.fullmatch(r"(scsi|sata|ide|nvme)\d+:\d+\.filename", key)):
        slot = bus.removesuffix(".filename")
        if told.get(f"{slot}.present", "TRUE").upper() != "TRUE" or "cdrom" in told.get(
            f"{slot}.devicetype", ""
        ):
            continue
        if file := _beside(path, told[bus], lost):
            disks.append(ForeignDisk(file, "vmdk"))
    nics = sum(
        1
        for key, value in told.items()
        if re.fullmatch(r"ethernet\d+\.present", key) and value.upper() == "TRUE"
    )
    for key, what in (
        ("usb.present", "USB"),
        ("sound.present", "sound"),
        ("vtpm.present", "its TPM, with what it holds"),
    ):
        if told.get(key, "").upper() == "TRUE":
            left.append(what)
    return Foreign(
        _fit(told.get("displayname", path.stem)),
        _number(path, "numvcpus", told.get("numvcpus", "1")),
        _number(path, "memsize", told.get("memsize", "1024")) << 20,
        "uefi" if told.get("firmware", "bios").lower() == "efi" else "bios",
        tuple(disks),
        nics,
        tuple(left),
        tuple(lost),
    )


# ---- VirtualBox ----


def _vbox(path: Path) -> Foreign:
    """The machine as it is now; what is inside of snapshots is of the past."""
    top = _tree(path)
    machine = top.find("{*}Machine")
    if etree.QName(top).localname != "VirtualBox" or machine is None:
        raise _bad(path, "it describes no machine of VirtualBox")
    hardware = machine.find("{*}Hardware")
    if hardware is None:
        raise _bad(path, "its machine has no hardware")
    left: list[str] = []
    lost: list[str] = []
    media = {
        _own(each, "uuid"): each for each in machine.iterfind("{*}MediaRegistry/{*}HardDisks//{*}HardDisk")
    }
    kinds = {"VDI": "vdi", "VMDK": "vmdk", "VHD": "vpc"}
    disks = []
    # Controllers are in the hardware since VirtualBox 6.1, and beside it before.
    for device in (
        *hardware.iterfind("{*}StorageControllers/{*}StorageController/{*}AttachedDevice[@type='HardDisk']"),
        *machine.iterfind("{*}StorageControllers/{*}StorageController/{*}AttachedDevice[@type='HardDisk']"),
    ):
        image = device.find("{*}Image")
        medium = media.get("" if image is None else _own(image, "uuid"))
        if medium is None:
            lost.append("a disk that the description does not name a file for")
            continue
        location, kind = _own(medium, "location"), _own(medium, "format").upper()
        parent = medium.getparent()
        if parent is not None and etree.QName(parent).localname == "HardDisk":
            lost.append(
                f"the disk {location}: it is a layer upon another; delete the snapshots in VirtualBox first"
            )
        elif medium.find("{*}Property[@name='CRYPT/KeyId']") is not None:
            lost.append(f"the disk {location}: it is encrypted; decrypt it in VirtualBox first")
        elif kind not in kinds:
            lost.append(f"the disk {location}: its format {kind} is not known")
        elif file := _beside(path, location, lost):
            disks.append(ForeignDisk(file, kinds[kind]))
    nics = sum(1 for each in hardware.iterfind("{*}Network/{*}Adapter") if _own(each, "enabled") == "true")
    for place, what in (
        ("{*}AudioAdapter[@enabled='true']", "sound"),
        ("{*}USB/{*}Controllers/{*}Controller", "USB"),
        ("{*}SharedFolders/{*}SharedFolder", "shared folders"),
        ("{*}TrustedPlatformModule", "its TPM, with what it holds"),
    ):
        found = hardware.find(place)
        if found is not None and _own(found, "type") != "None":
            left.append(what)
    cpu, memory, firmware = (hardware.find(f"{{*}}{tag}") for tag in ("CPU", "Memory", "Firmware"))
    told = "" if firmware is None else _own(firmware, "type")
    return Foreign(
        _fit(_own(machine, "name") or path.stem),
        _number(path, "CPU count", "1" if cpu is None else _own(cpu, "count") or "1"),
        _number(path, "RAMSize", "" if memory is None else _own(memory, "RAMSize")) << 20,
        "uefi" if told.upper().startswith("EFI") else "bios",
        tuple(disks),
        nics,
        tuple(left),
        tuple(lost),
    )


# ---- Proxmox ----


def _proxmox(path: Path) -> Foreign:
    told: dict[str, str] = {}
    for line in _text(path).splitlines():
        if line.startswith("["):
            break  # snapshots follow
        key, found, value = line.partition(":")
        if found and not line.startswith("#"):
            told[key.strip()] = value.strip()
    left: list[str] = []
    lost: list[str] = []
    disks, nics = [], 0
    order = {"scsi": 0, "virtio": 1, "sata": 2, "ide": 3}
    slots = sorted(
        (key for key in told if re.fullmatch(r"(scsi|virtio|sata|ide)\d+", key)),
        key=lambda key: (order[key.rstrip("0123456789")], int(re.sub(r"\D", "", key))),
    )
    boot = [key for key in re.split(r"[;,=]", told.get("boot", "")) if key in slots]
    for slot in sorted(slots, key=lambda key: boot.index(key) if key in boot else len(boot)):
        volume, *options = told[slot].split(",")
        if "media=cdrom" in options:
            continue
        # A volume is `storage:file` or `storage:100/vm-100-disk-0.qcow2`; the file is looked for beside the description.
        name = volume.partition(":")[2].rpartition("/")[2] or volume
        kinds = {".qcow2": "qcow2", ".raw": "raw", ".vmdk": "vmdk"}
        candidates = [name] if Path(name).suffix in kinds else [f"{name}{suffix}" for suffix in kinds]
        file = next((path.parent / each for each in candidates if (path.parent / each).is_file()), None)
        if file is None or _beside(path, file.name, lost) is None:
            lost.append(
                f"the disk {slot} ({volume}): there is no {' or '.join(candidates)} beside the description"
            )
        else:
            disks.append(ForeignDisk(file, kinds[file.suffix]))
    for key, value in told.items():
        if re.fullmatch(r"net\d+", key):
            nics += 1
        elif re.fullmatch(r"(hostpci|usb|unused|efidisk|tpmstate|virtiofs|serial)\d+|args|hookscript", key):
            left.append(f"{key}: {value}")
    sockets = _number(path, "sockets", told.get("sockets", "1"))
    return Foreign(
        _fit(told.get("name", path.stem)),
        sockets * _number(path, "cores", told.get("cores", "1")),
        _number(path, "memory", re.split(r"[,=]", told.get("memory", "512"))[-1]) << 20,
        "uefi" if told.get("bios") == "ovmf" else "bios",
        tuple(disks),
        nics,
        tuple(dict.fromkeys(left)),
        tuple(dict.fromkeys(lost)),
    )


def _number(path: Path, field: str, text: str) -> int:
    if not text.strip().isdecimal() or not 0 < int(text) < 1 << 31:
        raise _bad(path, f"{field} is {text!r}, which is no number that a guest can have")
    return int(text)


def _bad(path: Path, why: str) -> HyperError:
    return HyperError(
        f"{path.name} cannot be read.",
        why=why,
        remedy="Export the guest again where it is, or take its disks alone: `hv image import`.",
        code=Exit.record,
    )
