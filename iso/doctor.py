"""Every way in which firmware could start an image, and what is wrong with it.

A medium that boots as a CD may well not boot from a stick: firmware reads another table then, and the boot loader another
configuration. Each way is followed here from the firmware's table to the kernel's file.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from installer import embed
from installer.errors import HyperError
from iso import fat, iso9660
from iso.carrier import CONFIGURATIONS, Carrier, Kind, examine, file_systems
from iso.el_torito import Platform
from iso.embedding import area_of
from iso.image import Image
from iso.partition_tables import (
    BASIC_DATA,
    EFI_SYSTEM,
    MBR_EFI,
    MBR_PROTECTIVE,
    SECTOR,
    Gpt,
    MbrPartition,
    read_gpt,
    read_mbr,
)

PROGRAMS = {"BOOTX64.EFI": "x86_64", "BOOTAA64.EFI": "aarch64", "BOOTIA32.EFI": "i686"}
"""What UEFI starts from a removable medium (UEFI 2.10, 3.5.1.1), and for which processors."""
_KERNEL = re.compile(r"^\s*(?:linux|LINUX|KERNEL)\s+(\S+)", re.MULTILINE)
_INITRD = re.compile(r"^\s*(?:initrd|INITRD)\s+(.+)$", re.MULTILINE)
_LABEL = re.compile(r"\broot=LABEL=(\S+)")
_ARGUMENTS = re.compile(r"^\s*(?:linux\s+\S+|APPEND)\s+(.*)$", re.MULTILINE)
GPT_COPY = 64
"""Sectors at the end of a hybrid image that xorriso keeps for the copy of the GPT."""
LONGEST = 2047
"""Characters of a command line on x86 (COMMAND_LINE_SIZE less its end)."""


class Firmware(StrEnum):
    """Which firmware."""

    bios = "BIOS"
    uefi = "UEFI"


class Medium(StrEnum):
    """What the image is written to."""

    cd = "CD"
    stick = "stick"


@dataclass(frozen=True)
class Way:
    """One way of booting."""

    firmware: Firmware
    medium: Medium
    through: str
    """What leads to the boot loader; empty when there is nothing."""
    processors: tuple[str, ...]
    problems: tuple[str, ...]
    """What is wrong with it; with nothing that leads anywhere: why not."""

    @property
    def boots(self) -> bool:
        """Whether nothing speaks against it."""
        return bool(self.through) and not self.problems


@dataclass(frozen=True)
class Diagnosis:
    """What was found."""

    kind: Kind
    label: str | None
    processors: tuple[str, ...]
    """Which the medium is for."""
    ways: tuple[Way, ...]
    problems: tuple[str, ...]
    """What is wrong with the image as a whole."""
    notes: tuple[str, ...]
    """What is unusual and does no harm."""

    @property
    def expected(self) -> tuple[Way, ...]:
        """Ways that such a medium should have: aarch64 has no BIOS."""
        return tuple(
            way for way in self.ways if way.firmware is Firmware.uefi or "x86_64" in self.processors
        )

    @property
    def healthy(self) -> bool:
        """Whether everything that should boot does."""
        return not self.problems and all(way.boots for way in self.expected)


def diagnose(image: Image) -> Diagnosis:
    """Look at an image. Raises HyperError (Exit.medium) for one that is none, or whose file system is damaged."""
    carrier = examine(image)
    gpt, mbr = read_gpt(image), read_mbr(image)
    uefi = {
        name: _uefi(image, offset, length) for name, offset, length in file_systems(image, carrier.catalog)
    }
    processors = tuple(sorted({each for found, _ in uefi.values() for each in found}))
    if carrier.kind is Kind.iso and any(
        each.platform is Platform.bios and each.bootable
        for each in (carrier.catalog.images if carrier.catalog else ())
    ):
        processors = tuple(sorted({*processors, "x86_64"}))
    ways: list[Way] = []
    if carrier.kind is Kind.iso:
        ways += [_bios_cd(carrier), _uefi_cd(carrier, uefi), _bios_stick(image, mbr)]
    if carrier.kind is not Kind.initrd:
        ways.append(_uefi_stick(image, carrier, gpt, mbr, uefi))
    problems, notes = _tables(image, carrier, gpt, mbr)
    problems += [*_configurations(image, carrier), *_area(image, carrier)]
    return Diagnosis(
        kind=carrier.kind,
        label=carrier.volume.label if carrier.volume else None,
        processors=processors,
        ways=tuple(ways),
        problems=tuple(dict.fromkeys(problems)),
        notes=tuple(notes),
    )


def _uefi(image: Image, offset: int, length: int) -> tuple[list[str], list[str]]:
    """Processors that a file system has a program for, and what is wrong with it."""
    part = image.part(offset, length, f"file system at byte {offset}")
    try:
        system = fat.read_fat(part)
        if system is None:
            return [], ["it holds no FAT file system"]
        folder = fat.find(part, system, "EFI/BOOT")
        names = (
            {entry.name.upper(): entry for entry in fat.entries(part, system, folder.extents)}
            if folder
            else {}
        )
        found, problems = [], []
        for name, processor in PROGRAMS.items():
            if entry := names.get(name):
                found.append(processor)
                if not fat.content(part, entry).startswith(b"MZ"):
                    problems.append(f"EFI/BOOT/{name} is no program")
    except HyperError as error:
        return [], [error.why]
    return found, problems if found else ["there is no EFI/BOOT/BOOT….EFI in it"]


def _catalog_problems(carrier: Carrier) -> tuple[str, ...]:
    return carrier.catalog.problems if carrier.catalog else ()


def _bios_cd(carrier: Carrier) -> Way:
    images = (
        [each for each in carrier.catalog.images if each.platform is Platform.bios]
        if carrier.catalog
        else []
    )
    if not any(each.bootable for each in images):
        return Way(
            Firmware.bios,
            Medium.cd,
            "",
            (),
            (*_catalog_problems(carrier), "the boot catalog has no image for a BIOS"),
        )
    problems = list(_catalog_problems(carrier))
    if images[0].emulates:
        problems.append("its image emulates a floppy or hard disk, which isolinux does not expect")
    return Way(Firmware.bios, Medium.cd, "El Torito", ("x86_64",), tuple(problems))


def _uefi_cd(carrier: Carrier, systems: dict[str, tuple[list[str], list[str]]]) -> Way:
    found = {name: each for name, each in systems.items() if name.startswith("El Torito")}
    if not found:
        return Way(
            Firmware.uefi,
            Medium.cd,
            "",
            (),
            (*_catalog_problems(carrier), "the boot catalog has no image for UEFI"),
        )
    processors, problems = next(iter(found.values()))
    return Way(
        Firmware.uefi, Medium.cd, "El Torito", tuple(processors), (*_catalog_problems(carrier), *problems)
    )


def _bios_stick(image: Image, mbr: tuple[MbrPartition, ...] | None) -> Way:
    if mbr is None:
        return Way(Firmware.bios, Medium.stick, "", (), ("there is no MBR",))
    if not any(image.read(0, 440)):
        return Way(Firmware.bios, Medium.stick, "", (), ("the MBR has no program",))
    problems = []
    if not any(partition.active for partition in mbr):
        problems.append("no partition is marked active; some BIOSes start nothing then")
    problems += _covers(image, mbr, None)
    return Way(Firmware.bios, Medium.stick, "MBR", ("x86_64",), tuple(problems))


def _uefi_stick(
    image: Image,
    carrier: Carrier,
    gpt: Gpt | None,
    mbr: tuple[MbrPartition, ...] | None,
    systems: dict[str, tuple[list[str], list[str]]],
) -> Way:
    found = {name: each for name, each in systems.items() if "partition" in name}
    if not found:
        why = "no partition holds a boot loader for UEFI" if gpt or mbr else "there is no partition table"
        return Way(Firmware.uefi, Medium.stick, "", (), (why,))
    started = {name: each for name, each in found.items() if each[0]}
    name, (processors, problems) = next(iter((started or found).items()))
    through = name.removeprefix("El Torito and ")
    problems = [*problems, *(_covers(image, mbr or (), gpt) if carrier.kind is Kind.iso else [])]
    return Way(Firmware.uefi, Medium.stick, through, tuple(processors), tuple(dict.fromkeys(problems)))


def _covers(image: Image, mbr: tuple[MbrPartition, ...], gpt: Gpt | None) -> list[str]:
    """The live system mounts the partition with its label: the whole file system must be in it."""
    found: list[tuple[str, int, int]] = []
    for each in mbr:
        if each.kind not in (MBR_EFI, MBR_PROTECTIVE):
            found.append((f"MBR partition {each.number}", each.start, each.end))
    for entry in gpt.partitions if gpt else ():
        # isohybrid leaves the copy of the GPT out, which lies behind the last file.
        room = GPT_COPY if entry.start == 0 else 0
        if entry.kind != EFI_SYSTEM:
            found.append((f"GPT partition {entry.number}", entry.start, entry.last + 1 + room))
    problems = []
    for name, start, end in found:
        if start * SECTOR >= image.size:
            continue
        part = image.part(start * SECTOR, image.size - start * SECTOR, name)
        if part.size < iso9660.SYSTEM_AREA or not iso9660.is_iso(part):
            continue
        needed = start + iso9660.read_volume(part).size // SECTOR
        if end < needed:
            problems.append(
                f"{name} ends at sector {end}, and the file system in it at {needed}: mounting it fails"
            )
    return problems


def _tables(
    image: Image, carrier: Carrier, gpt: Gpt | None, mbr: tuple[MbrPartition, ...] | None
) -> tuple[list[str], list[str]]:
    problems, notes = [], []
    sectors = image.size // SECTOR
    if gpt is not None:
        problems += [f"GPT: {each}" for each in gpt.problems]
        copy = read_gpt(image, gpt.other)
        if copy is None:
            problems.append(
                f"the copy of the GPT should be in sector {gpt.other} of {sectors} and is not there"
            )
        else:
            problems += [f"copy of the GPT: {each}" for each in copy.problems]
            if copy.table != gpt.table:
                problems.append("the copy of the GPT has other partitions")
            if gpt.other != sectors - 1:
                notes.append("the copy of the GPT is not at the end: the image is on a larger medium")
        parts = gpt.partitions
        if any(each.last >= sectors for each in parts):
            problems.append("a partition of the GPT ends behind the image")
        if any(each.start < gpt.first_usable for each in parts):
            notes.append(
                "a partition of the GPT begins at sector 0, as isohybrid does; Linux reads the MBR of such a medium"
            )
        if carrier.kind is Kind.iso and not any(each.kind == EFI_SYSTEM for each in parts):
            notes.append(
                "the boot partition has the type of data in the GPT; UEFI finds it by the MBR's type EF"
            )
            if not any(each.kind == MBR_EFI for each in mbr or ()):
                problems.append("no table marks a partition as UEFI's")
        if any(each.kind not in (EFI_SYSTEM, BASIC_DATA) for each in parts) and carrier.kind is Kind.iso:
            notes.append("the GPT has partitions of other kinds")
    for partition in mbr or ():
        # A protective entry may claim more than there is (UEFI 2.10, 5.2.3).
        if partition.kind != MBR_PROTECTIVE and partition.end > sectors:
            problems.append(f"MBR partition {partition.number} ends behind the image")
    return problems, notes


def _configurations(image: Image, carrier: Carrier) -> list[str]:
    problems: list[str] = []
    if carrier.volume is None:
        return problems
    if not carrier.configurations:
        return ["no configuration of a boot loader was found"]
    texts = {each.place: each.content.decode("utf-8", "replace") for each in carrier.configurations}
    for place, text in texts.items():
        files = _KERNEL.findall(text) + [
            file for line in _INITRD.findall(text) for file in re.split(r"[\s,]+", line.strip())
        ]
        for file in dict.fromkeys(files):
            path = re.sub(r"^\([^)]*\)", "", file)
            if path and "$" not in path and iso9660.find(image, carrier.volume, path) is None:
                problems.append(f"{place} names {path}, which is not there")
        for label in _LABEL.findall(text):
            if label != carrier.volume.label:
                problems.append(
                    f"{place} looks for a medium called {label}, and this one is called {carrier.volume.label}"
                )
        if any(len(line) > LONGEST - 128 for line in _ARGUMENTS.findall(text)):
            problems.append(
                f"{place} has kernel arguments of about {LONGEST} characters: the kernel cuts them off"
            )
    grub = [text for place, text in texts.items() if place not in CONFIGURATIONS[:1] and "grub.cfg" in place]
    if len(set(grub)) > 1:
        problems.append(
            "GRUB's configuration in the EFI image is another than the one in the ISO file system: a stick may boot with "
            "other arguments than a CD"
        )
    if len({pad.arguments for pad in carrier.pads}) > 1:
        problems.append("boot entries have different arguments in the place that is made for them")
    return problems


def _area(image: Image, carrier: Carrier) -> list[str]:
    area = area_of(image, carrier)
    if area is None:
        return []
    try:
        embed.unpack(area)
    except HyperError as error:
        return [f"the embed area is not taken: {error.why}"]
    return []
