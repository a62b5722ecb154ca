"""What no file below /sys or /proc tells: ioctls, processor registers, names from pci.ids, one call of lsblk.

Every question takes a key and answers with text, or None when it cannot be answered; records keep the answers.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
"""linux/kvm.h."""
NVME_IOCTL_ADMIN_CMD = 0xC0484E41
NVME_GET_LOG_PAGE = 2
NVME_LOG_HEALTH = 2
NVME_LOG_SIZE = 512
NVME_LOG_KEPT = 6
"""linux/nvme_ioctl.h, NVM Express base specification 5.1.12.1.3; of the log only the health bytes are kept."""
SMART_REALLOCATED, SMART_PENDING = 5, 197
"""ATA attributes: sectors that were replaced, and that could not be read and wait for it (smartctl(8), -A)."""
SMART_PATIENCE = 20
"""Seconds: a disk that is about to fail may answer late, and some never."""
MEBIBYTE = 1 << 20
HIBERNATION = "/sys/firmware/efi/efivars/HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67"
EFI_ATTRIBUTES, EFI_MOST = 4, 1 << 16
"""systemd writes it when it hibernates: attributes, then JSON in UTF-16 (systemd-hibernate-resume(8))."""
PCI_NAMES = ("/usr/share/hwdata/pci.ids", "/usr/share/misc/pci.ids", "/run/current-system/sw/share/pci.ids")
RTF_UP, RTF_REJECT = 0x1, 0x200
"""linux/route.h and linux/ipv6_route.h."""


def kvm(_key: str) -> str | None:
    """`ok N`: /dev/kvm speaks API N and creates a VM; else what failed; None without /dev/kvm."""
    import fcntl

    try:
        device = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    try:
        version = fcntl.ioctl(device, KVM_GET_API_VERSION, 0)
        os.close(fcntl.ioctl(device, KVM_CREATE_VM, 0))
    except OSError as error:
        return f"creates no virtual machine: {error.strerror}"
    finally:
        os.close(device)
    return f"ok {version}"


def _register(path: str, offset: int, size: int) -> str | None:
    try:
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.pread(device, size, offset).hex() or None
    except OSError:
        return None
    finally:
        os.close(device)


def cpuid(key: str) -> str | None:
    """EAX, EBX, ECX, EDX of a leaf (hexadecimal key), little-endian; needs root and the cpuid driver."""
    return _register("/dev/cpu/0/cpuid", int(key, 16), 16)


def msr(key: str) -> str | None:
    """A model-specific register (hexadecimal key), little-endian; needs root and the msr driver."""
    return _register("/dev/cpu/0/msr", int(key, 16), 8)


def nvme_health(key: str) -> str | None:
    """First bytes of the SMART log of a controller (`nvme0`); needs root. Reads, changes nothing."""
    import fcntl
    import struct
    from array import array

    buffer = array("B", bytes(NVME_LOG_SIZE))
    log = NVME_LOG_HEALTH | (NVME_LOG_SIZE // 4 - 1) << 16
    command = bytearray(
        struct.pack(
            "<BBHIIIQQIIIIIIIIII",
            NVME_GET_LOG_PAGE,
            *(0, 0, 0xFFFFFFFF, 0, 0, 0),
            buffer.buffer_info()[0],
            *(0, NVME_LOG_SIZE, log, 0, 0, 0, 0, 0, 0, 0),
        )
    )
    try:
        device = os.open(f"/dev/{key}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = fcntl.ioctl(device, NVME_IOCTL_ADMIN_CMD, command)
    except OSError:
        return None
    finally:
        os.close(device)
    return None if status else buffer.tobytes()[:NVME_LOG_KEPT].hex()


def smart_health(key: str) -> str | None:
    """What a SATA, SAS or USB disk (`sda`) says of itself, as `smart_told` keeps it; needs root and `smartctl`.

    A disk that sleeps is not woken.
    """
    import subprocess

    argv = ["smartctl", "--json=c", "--nocheck=standby", "--health", "--attributes", f"/dev/{key}"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=SMART_PATIENCE, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    # The exit status has a bit for each finding (smartctl(8), EXIT STATUS): what counts is what was read.
    return smart_told(done.stdout)


def smart_told(report: bytes) -> str | None:
    """What is kept of smartctl's JSON: words `name=value` with `passed` (0, 1) or `asleep` first; None where it read
    neither.
    """
    import json

    try:
        found = json.loads(report)
        if any("STANDBY" in told.get("string", "") for told in found["smartctl"].get("messages", ())):
            return "asleep=1"
        passed = found.get("smart_status", {}).get("passed")
        if not isinstance(passed, bool):
            return None
        table = found.get("ata_smart_attributes", {}).get("table", ())
        raw = {each["id"]: each["raw"]["value"] for each in table}
        values = {
            "passed": int(passed),
            "worn": found.get("endurance_used", {}).get(
                "current_percent", found.get("scsi_percentage_used_endurance_indicator")
            ),
            "reallocated": raw.get(SMART_REALLOCATED, found.get("scsi_grown_defect_list")),
            "pending": raw.get(SMART_PENDING),
            "celsius": found.get("temperature", {}).get("current"),
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return " ".join(f"{name}={value}" for name, value in values.items() if isinstance(value, int))


@cache
def _pci_names() -> "mmap.mmap | bytes":
    """pci.ids, mapped and not read: of its 1.4 MB only the vendors of this machine are looked at."""
    import mmap

    for path in PCI_NAMES:
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            continue
    return b""


@cache
def _pci_vendor(vendor: str) -> tuple[int, int]:
    """Where a vendor's lines begin and end in pci.ids, which is sorted; (-1, -1) for one that is not in it."""
    names = _pci_names()
    start = names.find(f"\n{vendor}  ".encode())
    if start < 0:
        return -1, -1
    # The lines of its devices begin with a tab, so the next vendor is the next line with a digit not below its own.
    digits = "0123456789abcdef"
    ends = (names.find(f"\n{digit}".encode(), start + 1) for digit in digits[digits.index(vendor[0]) :])
    return start, next((end for end in ends if end >= 0), len(names))


def pci_name(key: str) -> str | None:
    """`vendor` or `vendor:device` (four hexadecimal digits each) to its name in pci.ids."""
    vendor, _, device = key.partition(":")
    names = _pci_names()
    start, end = _pci_vendor(vendor)
    if device and start >= 0:
        start = names.find(f"\n\t{device}  ".encode(), start, end)
    if start < 0:
        return None
    line = names[start + 1 : names.find(b"\n", start + 1)]
    return line.decode("utf-8", "replace").partition("  ")[2]


def _lines(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return [line.split() for line in file]
    except OSError:
        return []


@cache
def _network() -> tuple[Mapping[str, list[str]], frozenset[str]]:
    """Addresses with prefix length by interface (without link-local ones), interfaces of default routes."""
    return addresses(
        _lines("/proc/net/route")[1:],
        _lines("/proc/net/fib_trie"),
        _lines("/proc/net/if_inet6"),
        _lines("/proc/net/ipv6_route"),
    )


def addresses(
    route: list[list[str]], trie: list[list[str]], inet6: list[list[str]], route6: list[list[str]]
) -> tuple[dict[str, list[str]], frozenset[str]]:
    """What `_network` says, from the split lines of the kernel's tables in /proc/net."""
    found: dict[str, list[str]] = {}
    default = {fields[0] for fields in route if len(fields) > 7 and fields[1] == fields[7] == "00000000"}
    default |= {
        fields[9]
        for fields in route6
        if len(fields) > 9 and fields[1] == "00" and int(fields[8], 16) & (RTF_UP | RTF_REJECT) == RTF_UP
    }
    networks = [
        (_little(fields[1]), _little(fields[7]), fields[0])
        for fields in route
        if len(fields) > 7 and fields[7] != "00000000"
    ]
    for leaf, kind in pairwise(trie):
        if leaf[:1] != ["|--"] or kind[:3] != ["/32", "host", "LOCAL"] or leaf[1].startswith("127."):
            continue
        address = int.from_bytes(bytes(int(byte) for byte in leaf[1].split(".")), "big")
        fitting = [(mask, name) for network, mask, name in networks if address & mask == network]
        if fitting:
            mask, name = max(fitting)
            place = found.setdefault(name, [])
            if (text := f"{leaf[1]}/{mask.bit_count()}") not in place:
                place.append(text)
    for fields in inet6:
        if len(fields) == 6 and fields[3] == "00" and fields[5] != "lo":
            text = f"{ipv6(fields[0])}/{int(fields[2], 16)}"
            found.setdefault(fields[5], []).append(text)
    return found, frozenset(default - {"lo"})


def ipv6(digits: str) -> str:
    """32 hexadecimal digits as an address (RFC 5952): the first longest run of zero groups becomes `::`."""
    groups = [digits[place : place + 4].lstrip("0") or "0" for place in range(0, 32, 4)]
    for length in range(8, 1, -1):
        for place in range(9 - length):
            if groups[place : place + length] == ["0"] * length:
                return ":".join(groups[:place]) + "::" + ":".join(groups[place + length :])
    return ":".join(groups)


def _little(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")


def network_addresses(key: str) -> str | None:
    """Addresses of an interface, separated by spaces."""
    return " ".join(sorted(_network()[0].get(key, ()))) or None


def network_default(_key: str) -> str | None:
    """Interfaces that a default route leaves through, and those below them, separated by spaces."""
    return " ".join(sorted(beneath(_network()[1]))) or None


def beneath(names: Iterable[str], folder: str = "/sys/class/net") -> set[str]:
    """Interfaces and all below them: what a bridge, a bond or a VLAN stands on (Documentation/ABI/testing/sysfs-class-net)."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        try:
            entries = os.listdir(f"{folder}/{name}")  # noqa: PTH208  (pathlib costs 10 ms to import)
        except OSError:
            continue
        pending += [each.removeprefix("lower_") for each in entries if each.startswith("lower_")]
    return found


def forget() -> None:
    """Ask anew what was asked before: for programs that stay."""
    for asked in (_network, _lsblk, _volume_groups):
        asked.cache_clear()


def disk_ends(key: str) -> str | None:
    """SHA-256 over the first and last MiB of a disk (`vda`), in hexadecimal; needs root. Nothing of it is kept."""
    from hashlib import sha256

    found = sha256()
    try:
        device = os.open(f"/dev/{key.replace('!', '/')}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            last = max(0, os.lseek(device, 0, os.SEEK_END) - MEBIBYTE)
            for start in (0, last):
                found.update(os.pread(device, MEBIBYTE, start))
        finally:
            os.close(device)
    except OSError:
        return None
    return found.hexdigest()


@cache
def _lsblk() -> dict[str, dict[str, str | None]]:
    import json
    import subprocess

    columns = "NAME,FSTYPE,UUID,LABEL,PARTUUID,PARTTYPE,PARTLABEL,PTTYPE"
    try:
        done = subprocess.run(
            ["lsblk", "--json", "--list", "--output", columns], capture_output=True, timeout=30, check=True
        )
        rows = json.loads(done.stdout)["blockdevices"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return {}
    return {row["name"]: row for row in rows}


LSBLK_TO_UDEV = {
    "fstype": "ID_FS_TYPE",
    "uuid": "ID_FS_UUID",
    "label": "ID_FS_LABEL",
    "partuuid": "ID_PART_ENTRY_UUID",
    "parttype": "ID_PART_ENTRY_TYPE",
    "partlabel": "ID_PART_ENTRY_NAME",
    "pttype": "ID_PART_TABLE_TYPE",
}


def signature(key: str) -> str | None:
    """Where udev is not running: lsblk's finding on a block device as udev's properties, `NAME=value` by line.

    lsblk is run once for all devices, and only when a device that nobody uses must be judged.
    """
    row = _lsblk().get(key)
    if row is None:
        return None
    return "\n".join(f"{name}={row[column]}" for column, name in LSBLK_TO_UDEV.items() if row.get(column))


@cache
def _volume_groups() -> dict[str, str]:
    import json
    import subprocess

    argv = ["pvs", "--reportformat", "json", "--options", "pv_name,vg_name,vg_uuid"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=30, check=True)
        rows = json.loads(done.stdout)["report"][0]["pv"]
        return {row["pv_name"]: f"{row['vg_uuid']} {row['vg_name']}" for row in rows if row["vg_uuid"]}
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return {}


def volume_group(key: str) -> str | None:
    """UUID and name of the volume group of an LVM physical volume (`sda2`); needs root and `pvs`.

    Which group an inactive physical volume is of stands in LVM's own metadata only. pvs is run once for all.
    """
    return _volume_groups().get(f"/dev/{key.replace('!', '/')}")


def hibernation(_key: str) -> str | None:
    """UUID of the device in whose swap the memory of a system that hibernates lies, and the system's name (`ID` of its
    os-release, `-` if it has none); None where the firmware keeps no such note.
    """
    try:
        variable = os.open(HIBERNATION, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    import json

    try:
        content = os.read(variable, EFI_MOST)
        said = json.loads(content[EFI_ATTRIBUTES:].decode("utf-16-le").rstrip("\0"))
        return f"{said['uuid']} {said.get('osReleaseId') or '-'}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    finally:
        os.close(variable)


QUESTIONS: Mapping[str, Callable[[str], str | None]] = {
    "kvm": kvm,
    "cpuid": cpuid,
    "msr": msr,
    "nvme health": nvme_health,
    "smart health": smart_health,
    "pci name": pci_name,
    "network addresses": network_addresses,
    "network default": network_default,
    "signature": signature,
    "disk ends": disk_ends,
    "volume group": volume_group,
    "hibernation": hibernation,
}
