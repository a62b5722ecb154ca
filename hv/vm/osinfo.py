"""What a guest's operating system wants of its machine, from libosinfo's database (https://libosinfo.org): the files
themselves, as the package osinfo-db brings them. Nothing of it is copied here.
"""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lxml import etree

FOLDERS = ("/run/current-system/sw/share/osinfo", "/usr/share/osinfo")
"""Where the database is, unless OSINFO_SYSTEM_DIR says otherwise, as for libosinfo's own tools."""
BLOCK = {"http://pcisig.com/pci/1af4/1001", "http://pcisig.com/pci/1af4/1042"}
"""virtio-blk, old and new (https://docs.oasis-open.org/virtio/virtio/v1.2, 4.1.2)."""
NETWORK = {"http://pcisig.com/pci/1af4/1000", "http://pcisig.com/pci/1af4/1041"}
"""virtio-net."""
NEEDS_TPM = ("win11",)
"""Installers that refuse without a TPM 2.0 and Secure Boot, which the database has no word for
(https://www.microsoft.com/windows/windows-11-specifications)."""
ARCHITECTURES = ("x86_64", "all")
IDENTITY = re.compile(rb'<os id="([^"]+)"')
SHORT = re.compile(rb"<short-id>([^<]+)</short-id>")


@dataclass(frozen=True)
class System:
    """One system; None: the database does not say."""

    id: str
    name: str
    bus: Literal["virtio", "sata"]
    """Of its disk: virtio only where the system itself has the driver."""
    nic: Literal["virtio", "e1000e"]
    firmware: Literal["uefi", "bios"] | None
    tpm: bool
    """With Secure Boot."""
    cpus: int | None
    memory: int | None
    """Bytes: what is recommended, else the least."""
    least_memory: int | None
    """Bytes."""
    disk: int | None
    """Bytes: what is recommended, else the least."""


class Database:
    """The database's files; empty where there is none."""

    def __init__(self, *folders: str) -> None:
        own = os.environ.get("OSINFO_SYSTEM_DIR")
        places = [Path(each) / "os" for each in (folders or ((own,) if own else FOLDERS))]
        self.folder = next((each for each in places if each.is_dir()), None)
        self._files: dict[str, Path] = {}
        self._ids: dict[str, str] = {}
        for path in sorted(self.folder.glob("*/*.xml")) if self.folder else ():
            text = path.read_bytes()
            if found := IDENTITY.search(text):
                identity = found[1].decode(errors="replace")
                self._files[identity] = path
                for short in SHORT.findall(text):
                    self._ids.setdefault(short.decode(errors="replace"), identity)

    def like(self, short: str) -> list[str]:
        """Ids that look like this one, at most three."""
        return difflib.get_close_matches(short, self._ids, 3)

    def system(self, short: str) -> System | None:
        """The one of that id; None for one that the database does not have."""
        if short not in self._ids:
            return None
        line = self._ancestry(self._ids[short])
        own = line[0]
        devices: dict[str, bool] = {}
        for element in reversed(line):  # what is nearer stands for what is further away
            for device in element.iterfind("devices/device"):
                devices[device.get("id", "")] = device.get("supported") != "false"
        has = {each for each, supported in devices.items() if supported}
        firmware: dict[str, bool] = {}
        for element in reversed(line):
            for each in element.iterfind("firmware"):
                if each.get("arch") in ARCHITECTURES:
                    firmware[each.get("type", "")] = each.get("supported") != "false"
        least, wanted = _resources(line, "minimum"), _resources(line, "recommended")
        tpm = short in NEEDS_TPM
        return System(
            short,
            own.findtext("name") or short,
            "virtio" if has & BLOCK else "sata",
            "virtio" if has & NETWORK else "e1000e",
            "uefi"
            if tpm or firmware.get("bios") is False
            else "bios"
            if firmware.get("efi") is False
            else None,
            tpm,
            _most(least, wanted, "n-cpus"),
            _most(least, wanted, "ram"),
            least.get("ram"),
            _most(least, wanted, "storage"),
        )

    def _ancestry(self, identity: str) -> list[etree._Element]:
        """The system and those that it derives from, nearest first."""
        line: list[etree._Element] = []
        seen: set[str] = set()
        while identity in self._files and identity not in seen:
            seen.add(identity)
            reader = etree.XMLParser(resolve_entities=False, no_network=True)
            element = etree.parse(self._files[identity], reader).find("os")
            if element is None:
                break
            line.append(element)
            parent = element.find("derives-from")
            identity = "" if parent is None else parent.get("id", "")
        return line


def _resources(line: list[etree._Element], kind: str) -> dict[str, int]:
    """Of the nearest that says anything."""
    for element in line:
        for resources in element.iterfind("resources"):
            if resources.get("arch") not in ARCHITECTURES:
                continue
            found = {
                each.tag: int(text)
                for each in resources.iterfind(f"{kind}/*")
                if isinstance(each.tag, str) and (text := (each.text or "").strip()).isdecimal()
            }
            if found:
                return found
    return {}


def _most(least: dict[str, int], wanted: dict[str, int], what: str) -> int | None:
    """What is recommended, unless that is less than the least."""
    return max(filter(None, (least.get(what), wanted.get(what))), default=None)
