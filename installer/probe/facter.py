"""A nixos-facter report (version 1) as a machine to probe.

The report is turned into the files that its facts come from, so that the same probe reads it. What the report does
not cover is silent, and becomes unknown; file systems, mounts and partitions are not covered at all.
"""

import json
from collections.abc import Iterator
from typing import Any

from installer.errors import Exit, HyperError
from installer.probe.pci import is_address
from installer.probe.record import Record, ReplayRoot

VERSION = 1
SECTOR = 512
NOT_DISKS = ("/dev/disk/", "/dev/root", "/dev/mapper/")
ARM_IMPLEMENTERS = {"ARM Limited": "0x41", "ARM": "0x41", "Apple": "0x61", "Ampere": "0xc0"}
GROUPS = "/sys/kernel/iommu_groups"
Node = dict[str, Any]
"""A JSON object of the report; its shape is looked at piece by piece, for it differs between versions."""


class FacterRoot(ReplayRoot):
    """A machine as nixos-facter reports it."""

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self._told = {*record.files, *record.data, *record.links, *record.folders}

    def why(self, path: str) -> str:
        return f"nixos-facter does not report {path}"

    def silent(self, path: str) -> bool:
        return path not in self._told


def load(path: str) -> FacterRoot:
    """Reads a report; `HyperError` says what is wrong with it."""
    remedy = "make a report with `nixos-facter -o FILE` on the machine"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            # Halves of characters, which JSON can spell, become question marks.
            text = json.dumps(json.load(file), ensure_ascii=False).encode("utf-8", "replace")
        report = json.loads(text)
    except OSError as error:
        why = error.strerror or str(error)
        raise HyperError(f"{path} cannot be read", why=why, remedy=remedy, code=Exit.record) from error
    except (ValueError, RecursionError) as error:
        raise HyperError(f"{path} is not JSON", why=str(error), remedy=remedy, code=Exit.record) from error
    if not isinstance(report, dict) or not isinstance(report.get("hardware"), dict):
        why = "it has no object `hardware`"
        raise HyperError(f"{path} is not a nixos-facter report", why=why, remedy=remedy, code=Exit.record)
    if report.get("version") != VERSION:
        why = f"version is {report.get('version')!r}, this program reads {VERSION}"
        raise HyperError(f"{path} cannot be used", why=why, remedy=remedy, code=Exit.record)
    return FacterRoot(record(report))


def record(report: Node) -> Record:
    """What the report tells, as the files it was read from."""
    made = Record()
    _processors(made, report)
    _memory(made, report)
    _firmware(made, report)
    for device in _pci(report):
        _function(made, device)
    for device in _nodes(report, "disk"):
        _disk(made, device)
    for device in _nodes(report, "network_interface"):
        _interface(made, device)
    for path in (*made.files, *made.data, *made.links):
        parts = path.split("/")
        for end in range(2, len(parts)):
            names = made.folders.setdefault("/".join(parts[:end]), [])
            if parts[end] not in names:
                names.append(parts[end])
    for names in made.folders.values():
        names.sort()
    return made


def _nodes(report: Node, kind: str) -> Iterator[Node]:
    found = report["hardware"].get(kind)
    yield from (node for node in found if isinstance(node, dict)) if isinstance(found, list) else ()


def _node(node: Node, key: str) -> Node:
    """An object inside another; smbios gives a list where there are several."""
    found = node.get(key)
    if isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, dict) else {}


def _text(node: Node, key: str) -> str:
    found = node.get(key)
    return found if isinstance(found, str) else ""


def _number(value: object) -> int | None:
    """Numbers are given as such or as `0x…`."""
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _id(node: Node, key: str) -> int:
    return _number(_node(node, key).get("value")) or 0


def _processors(made: Record, report: Node) -> None:
    entries: list[str] = []
    for package in _nodes(report, "cpu"):
        cores = max(1, _number(package.get("cores")) or 1)
        threads = max(cores, _number(package.get("siblings")) or cores)
        flags = package.get("features")
        words = " ".join(flag for flag in flags if isinstance(flag, str)) if isinstance(flags, list) else ""
        vendor = _text(package, "vendor_name")
        arm = package.get("architecture") == "aarch64"
        for thread in range(min(threads, 4096)):
            lines: dict[str, object] = {"processor": len(entries)}
            if arm:
                lines |= {"CPU implementer": ARM_IMPLEMENTERS.get(vendor, "unknown"), "Features": words}
            else:
                lines |= {"vendor_id": vendor, "model name": _text(package, "model_name"), "flags": words}
                lines |= {"physical id": _number(package.get("physical_id")) or 0, "core id": thread % cores}
            entries.append("\n".join(f"{name}\t: {value}" for name, value in lines.items()))
    if entries:
        made.files["/proc/cpuinfo"] = "\n\n".join(entries)
    hypervisor = _text(report, "virtualisation")
    if hypervisor not in ("", "none"):
        made.files["/sys/hypervisor/type"] = hypervisor


def _memory(made: Record, report: Node) -> None:
    for node in _nodes(report, "memory"):
        sizes = {_text(resource, "type"): _number(resource.get("range")) for resource in _resources(node)}
        total = sizes.get("mem") or sizes.get("phys_mem")
        if total:
            made.files["/proc/meminfo"] = f"MemTotal: {total // 1024} kB"
    correction = _id(_node(_node(report, "smbios"), "memory_array"), "ecc")
    if 0 < correction < 256:
        made.data["/sys/firmware/dmi/entries/16-0/raw"] = bytes((16, 23, 0, 16, 3, 3, correction)).hex()


def _resources(node: Node) -> Iterator[Node]:
    found = node.get("resources")
    yield from (entry for entry in found if isinstance(entry, dict)) if isinstance(found, list) else ()


def _firmware(made: Record, report: Node) -> None:
    uefi = _node(report, "uefi")
    if uefi.get("supported") is True:
        made.files["/sys/firmware/efi/fw_platform_size"] = str(_number(uefi.get("platform_size")) or 64)
    smbios = _node(report, "smbios")
    system = _node(smbios, "system")
    dmi = "/sys/class/dmi/id"
    told = {"sys_vendor": _text(system, "manufacturer"), "product_name": _text(system, "product")}
    if chassis := _id(_node(smbios, "chassis"), "chassis_type"):
        told["chassis_type"] = str(chassis)
    made.files |= {f"{dmi}/{name}": text for name, text in told.items() if text}


def _pci(report: Node) -> Iterator[Node]:
    for kind in report["hardware"]:
        yield from (node for node in _nodes(report, kind) if _node(node, "bus_type").get("name") == "PCI")


def _function(made: Record, device: Node) -> None:
    address = _text(device, "sysfs_bus_id")
    if not is_address(address):
        return
    path = f"/sys{_text(device, 'sysfs_id').rpartition('/')[0]}/{address}"
    made.links[f"/sys/bus/pci/devices/{address}"] = path
    code = _id(device, "base_class") << 16 | _id(device, "sub_class") << 8 | _id(device, "pci_interface")
    made.files[f"{path}/class"] = f"0x{code:06x}"
    for name, key in (
        ("vendor", "vendor"),
        ("device", "device"),
        ("subsystem_vendor", "sub_vendor"),
        ("subsystem_device", "sub_device"),
    ):
        made.files[f"{path}/{name}"] = f"0x{_id(device, key):04x}"
    names = {
        "ID_VENDOR_FROM_DATABASE": _text(_node(device, "vendor"), "name"),
        "ID_MODEL_FROM_DATABASE": _text(_node(device, "device"), "name"),
    }
    made.udev[path] = {name: text for name, text in names.items() if text}
    if driver := _text(device, "driver"):
        made.links[f"{path}/driver"] = f"/sys/bus/pci/drivers/{driver}"
        if module := _text(device, "driver_module"):
            made.links[f"{path}/driver/module"] = f"/sys/module/{module}"
    group = _number(device.get("sysfs_iommu_group_id"))
    if group is not None and group >= 0:
        made.links[f"{path}/iommu_group"] = f"{GROUPS}/{group}"
        made.links[f"{GROUPS}/{group}/devices/{address}"] = path


def _names(device: Node) -> list[str]:
    found = device.get("unix_device_names")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _disk(made: Record, device: Node) -> None:
    paths = _names(device)
    plain = [path for path in paths if path.startswith("/dev/") and not path.startswith(NOT_DISKS)]
    link = _text(device, "sysfs_device_link")
    if not plain or not link:
        return
    name = plain[0].removeprefix("/dev/")
    path = f"/sys{link}/{name}" if name.startswith("nvme") else f"/sys{link}/block/{name}"
    made.links[f"/sys/class/block/{name}"] = path
    sectors, size = 0, SECTOR
    for resource in _resources(device):
        if resource.get("type") == "size" and resource.get("unit") == "sectors":
            sectors, size = _number(resource.get("value_1")) or 0, _number(resource.get("value_2")) or SECTOR
    made.files[f"{path}/size"] = str(sectors * size // SECTOR)
    made.files[f"{path}/queue/logical_block_size"] = str(size)
    links = [text for text in paths if text.startswith(("/dev/disk/by-id/", "/dev/disk/by-path/"))]
    told = {
        "DEVNAME": f"/dev/{name}",
        "DEVLINKS": " ".join(sorted(links)),
        "ID_MODEL": _text(device, "model"),
        "ID_SERIAL_SHORT": _text(device, "serial"),
        "ID_WWN": next((text.partition("/wwn-")[2] for text in sorted(links) if "/wwn-" in text), "")
        or next((text.partition("/nvme-")[2] for text in sorted(links) if "/nvme-eui." in text), ""),
    }
    made.udev[path] = {key: text for key, text in told.items() if text}


def _interface(made: Record, device: Node) -> None:
    names, link = _names(device), _text(device, "sysfs_device_link")
    if not names or not link:
        return
    path = f"/sys{link}/net/{names[0]}"
    made.links[f"/sys/class/net/{names[0]}"] = path
    made.links[f"{path}/device"] = f"/sys{link}"
    if driver := _text(device, "driver"):
        made.links[f"{path}/device/driver"] = f"/sys/bus/pci/drivers/{driver}"
    if _node(device, "sub_class").get("name") in ("WLAN", "WLAN controller"):
        made.links[f"{path}/phy80211"] = f"{path}/phy80211"
    for resource in _resources(device):
        address = resource.get("address")
        if resource.get("type") == "phwaddr" and isinstance(address, str):
            made.files[f"{path}/address"] = address
            made.files[f"{path}/addr_assign_type"] = "0"
