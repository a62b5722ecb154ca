"""Disks of a computer with macOS, as `diskutil` and `ioreg` tell of them, in the terms in which Linux's are told.

Not proved on a computer with macOS: written after diskutil(8), ioreg(8), and the keys of Apple's IOMedia and IOUSBHostDevice.
"""

import contextlib
import fcntl
import os
import plistlib
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from installer.errors import Exit, HyperError
from installer.facts.common import Unknown
from installer.facts.disks import Disk, Filesystem, Partition, Transport
from iso.stick_writer import read_all, write_all

Run = Callable[[Sequence[str]], bytes]
Data = dict[str, Any]

_F_NOCACHE, _F_FULLFSYNC = 48, 51
"""fcntl(2) of macOS: past the cache of the file system; wait for the disk's own cache."""
TRANSPORTS = {
    "USB": Transport.usb,
    "Secure Digital": Transport.mmc,
    "PCI-Express": Transport.nvme,
    "Apple Fabric": Transport.nvme,
    "NVMe": Transport.nvme,
    "SATA": Transport.sata,
    "SAS": Transport.sas,
    "SCSI": Transport.scsi,
}
"""`BusProtocol` of diskutil(8)."""
TABLES = {"GUID_partition_scheme": "gpt", "FDisk_partition_scheme": "dos", "Apple_partition_scheme": "mac"}
SIGNATURES = {
    "DOS_FAT_12": "vfat",
    "DOS_FAT_16": "vfat",
    "DOS_FAT_32": "vfat",
    "Windows_FAT_16": "vfat",
    "Windows_FAT_32": "vfat",
    "Windows_NTFS": "ntfs",
    "EFI": "vfat",
    "Apple_HFS": "hfsplus",
    "Linux_LVM": "LVM2_member",
    "Linux_RAID": "linux_raid_member",
    "E6D6D379-F507-44C2-A23C-238F2A3DF928": "LVM2_member",
    "A19D880F-05FC-4D3B-A006-743F0F84911E": "linux_raid_member",
    "6A898CC3-1DD2-11B2-99A6-080020736631": "zfs_member",
    "ZFS": "zfs_member",
}
"""`Content` of a partition: what blkid(8) would call what is in it, by the partition's type."""
PARTS = {
    "Apple_APFS": "is part of an APFS container",
    "Apple_APFS_ISC": "is part of an APFS container",
    "Apple_APFS_Recovery": "is part of an APFS container",
    "Apple_CoreStorage": "is part of a CoreStorage volume group",
    "Apple_RAID": "is part of an Apple RAID",
}
"""`Content` of partitions that belong to something larger."""


def run(argv: Sequence[str]) -> bytes:
    """Run a program; what it prints. Raises HyperError."""
    try:
        done = subprocess.run(argv, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise _untold(f"{argv[0]} is not there") from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise _untold(f"{' '.join(argv)}: {said or done.returncode}")
    return done.stdout


def _untold(why: str) -> HyperError:
    return HyperError(
        "the disks of this computer are not told",
        why=why,
        remedy="try `diskutil list` in a terminal; nothing was written",
        code=Exit.unsuitable,
    )


def _read(run: Run, *argv: str) -> Any:
    try:
        return plistlib.loads(run(argv))
    except (plistlib.InvalidFileException, ExpatError, ValueError, AttributeError) as error:
        raise _untold(f"{' '.join(argv)} printed no property list: {error}") from error


def disks(run: Run) -> tuple[Disk, ...]:
    """Every whole disk, with its partitions. Raises HyperError (Exit.unsuitable)."""
    listed = _read(run, "diskutil", "list", "-plist")
    serials = dict(_serials(_read(run, "ioreg", "-a", "-l", "-r", "-c", "IOUSBHostDevice")))
    found = [each for each in listed.get("AllDisksAndPartitions", ()) if each.get("DeviceIdentifier")]
    containers = {
        store["DeviceIdentifier"]: whole["DeviceIdentifier"]
        for whole in found
        for store in whole.get("APFSPhysicalStores", ())
    }
    return tuple(
        _disk(
            whole, _read(run, "diskutil", "info", "-plist", whole["DeviceIdentifier"]), serials, containers
        )
        for whole in found
    )


def _disk(listed: Data, info: Data, serials: dict[str, str], containers: dict[str, str]) -> Disk:
    name = str(listed["DeviceIdentifier"])
    sector = int(info.get("DeviceBlockSize") or 512)
    partitions = tuple(listed.get("Partitions", ()))
    content = str(info.get("Content") or listed.get("Content") or "")
    removable = bool(info.get("RemovableMedia") or info.get("Removable"))
    return Disk(
        name=name,
        wwn=None,
        serial=serials.get(name),
        by_id=(),
        model=str(info.get("MediaName") or info.get("IORegistryEntryName") or "").removesuffix(" Media")
        or None,
        transport=TRANSPORTS.get(str(info.get("BusProtocol")), Transport.other),
        size=int(info.get("TotalSize") or info.get("Size") or listed.get("Size") or 0),
        logical_sector=sector,
        physical_sector=sector,
        rotational=not info["SolidState"]
        if "SolidState" in info
        else Unknown(unknown_because="diskutil does not tell"),
        removable=removable,
        read_only=not info.get("WritableMedia", info.get("Writable", False)),
        health=Unknown(unknown_because="diskutil tells of disks inside alone"),
        table=TABLES.get(content),
        filesystem=_filesystem(content) if not partitions else None,
        partitions=tuple(_partition(number, each) for number, each in enumerate(partitions, 1)),
        install_medium=False,
        in_use=tuple(_uses(name, listed, info, containers, removable=removable)),
    )


def _partition(number: int, listed: Data) -> Partition:
    name = str(listed["DeviceIdentifier"])
    told = re.fullmatch(r"disk\d+s(\d+)", name)
    filesystem = _filesystem(str(listed.get("Content") or ""))
    if filesystem is not None:
        filesystem = filesystem.model_copy(update={"label": listed.get("VolumeName") or None})
    return Partition(
        number=int(told[1]) if told else number,
        name=name,
        start=0,  # diskutil does not tell, and nothing here asks
        size=int(listed.get("Size") or 0),
        part_uuid=str(listed["DiskUUID"]).lower() if listed.get("DiskUUID") else None,
        label=listed.get("VolumeName") or None,
        filesystem=filesystem,
    )


def _filesystem(content: str) -> Filesystem | None:
    kind = SIGNATURES.get(content)
    return Filesystem(kind=kind) if kind else None


def _uses(
    name: str, listed: Data, info: Data, containers: dict[str, str], *, removable: bool
) -> Iterator[str]:
    """Why it must not be touched. Volumes that macOS mounted by itself are none: they are unmounted first."""
    if not info.get("WholeDisk", True):
        yield f"{name} is no whole disk"
    if info.get("VirtualOrPhysical") == "Virtual" or listed.get("APFSPhysicalStores"):
        yield f"{name} is made of other disks by macOS"
    if info.get("BusProtocol") == "Disk Image":
        yield f"{name} is a disk image that is attached"
    if info.get("Internal", True) and not removable:
        yield f"{name} is built into this computer"
    if info.get("SystemImage") or info.get("OSInternalMedia") or listed.get("OSInternal"):
        yield f"{name} belongs to macOS"
    if info.get("RAIDMaster") or info.get("RAIDSlice"):
        yield f"{name} is part of an Apple RAID"
    for each in (listed, *listed.get("Partitions", ())):
        part = str(each.get("DeviceIdentifier"))
        if why := PARTS.get(str(each.get("Content"))):
            yield f"{part} {why}" + (f", {containers[part]}" if part in containers else "")
        elif part in containers:
            yield f"{part} is part of an APFS container, {containers[part]}"
        mounted = str(each.get("MountPoint") or "")
        if mounted and not mounted.startswith("/Volumes/"):
            yield f"{part} is mounted at {mounted}"


def _serials(tree: Any) -> Iterator[tuple[str, str]]:
    """Names of disks and the serial numbers of the USB devices that they hang on, from IOKit's registry."""

    def walk(node: Any, serial: str | None) -> Iterator[tuple[str, str]]:
        if not isinstance(node, dict):
            return
        own = str(node.get("kUSBSerialNumberString") or node.get("USB Serial Number") or "").strip()
        serial = own or (None if node.get("IOObjectClass") == "IOUSBHostDevice" else serial)
        if serial and node.get("BSD Name") and node.get("Whole"):
            yield str(node["BSD Name"]), serial
        for child in node.get("IORegistryEntryChildren", ()):
            yield from walk(child, serial)

    for node in tree if isinstance(tree, list) else ():
        yield from walk(node, None)


class RawDevice:
    """A disk past every cache, by its character device (hdiutil(1), "raw"), whose size only diskutil tells."""

    def __init__(self, path: Path, size: int) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._size = size
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.descriptor, _F_NOCACHE, 1)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of it."""
        write_all(self.descriptor, offset, data)

    def read(self, offset: int, data: memoryview) -> None:
        """Fill it."""
        read_all(self.descriptor, offset, data)

    def sync(self) -> None:
        """Wait; there is nothing to forget."""
        with contextlib.suppress(OSError):  # character devices need not know it
            os.fsync(self.descriptor)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.descriptor, _F_FULLFSYNC)

    def close(self) -> None:
        """Let others have it."""
        os.close(self.descriptor)


@dataclass(frozen=True)
class Mac:
    """The computer, as `hv media write` uses one."""

    disks: tuple[Disk, ...]
    run: Run = run
    dev: Path = Path("/dev")

    @property
    def systems(self) -> tuple[()]:
        """Nothing is known of systems on disks."""
        return ()

    def name(self, device: Path) -> str:
        """Of the disk that is named, also by its character device, `/dev/rdisk4`."""
        return re.sub(r"^r(?=disk\d)", "", device.name)

    def problem(self, disk: Disk) -> str | None:
        """Why it is not touched right before the first write: another one is there, or its volumes are in use."""
        try:
            there = {each.name: each for each in disks(self.run)}
            if (now := there.get(disk.name)) is None:
                return "it is gone"
            if (now.serial, now.model, now.size, now.transport) != (
                disk.serial,
                disk.model,
                disk.size,
                disk.transport,
            ):
                return f"another one is there: {now.model or 'no model'}, serial {now.serial or 'none'}"
            if now.in_use:
                return now.in_use[0]
            self.run(("diskutil", "unmountDisk", disk.name))
        except HyperError as error:
            return error.why
        return None

    def open(self, disk: Disk) -> RawDevice:
        """Raises OSError."""
        return RawDevice(self.dev / f"r{disk.name}", disk.size)

    def release(self, disk: Disk) -> str | None:
        """Eject it: macOS would mount it, and write its own files to it; a line for people where that fails."""
        try:
            self.run(("diskutil", "eject", disk.name))
        except HyperError as error:
            return f"eject it before you use it ({error.why})"
        return "it is ejected: plug it in again to look at it"


def this_computer() -> Mac:
    """The one that it runs on. Raises HyperError (Exit.unsuitable)."""
    return Mac(disks(run))
