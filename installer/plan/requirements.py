"""What a machine must have for what was asked; each function answers, or says what is missing."""

from typing import Literal

from installer.answers.login import lockout
from installer.answers.model import Answers, BootLoader
from installer.answers.sizes import format_size, parse_size
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.common import Unknown
from installer.facts.disks import Disk
from installer.facts.firmware import FirmwareKind
from installer.medium import Medium
from installer.plan.storage import luks


def require_administrator(answers: Answers) -> None:
    """HyperError (Exit.lockout) if nobody could log in as an administrator; hash files are looked at before writing."""
    if problems := lockout(answers):
        raise HyperError(
            "nobody could log in to the installed host",
            why="; ".join(problem.wrong for problem in problems),
            remedy=problems[0].remedy,
            code=Exit.lockout,
        )


def require_architecture(facts: Facts, medium: Medium) -> None:
    """HyperError (Exit.unsuitable) if the medium's systems do not run on this processor."""
    architecture = medium.system.split("-")[0]
    if facts.cpu.architecture != architecture:
        raise HyperError(
            f"{medium.label} is for {architecture} machines",
            why=f"this processor is {facts.cpu.architecture}",
            remedy=f"use a medium for {facts.cpu.architecture}",
            code=Exit.unsuitable,
        )


def firmware_to_use(facts: Facts, answers: Answers) -> Literal["uefi", "bios"]:
    """What to install for: what this system was booted with.

    Raises:
        HyperError: the answers ask for the other, or for a loader that cannot be (Exit.unsuitable).
    """
    if facts.firmware.kind is FirmwareKind.uefi32:
        raise HyperError(
            "32-bit UEFI is not supported",
            why="the firmware loads 32-bit boot loaders only, and NixOS's are 64-bit",
            remedy="start the live system in BIOS mode (CSM, legacy), if the firmware has one",
            code=Exit.unsuitable,
        )
    booted: Literal["uefi", "bios"] = "bios" if facts.firmware.kind is FirmwareKind.bios else "uefi"
    wanted = answers.boot.firmware
    if wanted not in ("auto", booted):
        reason = (
            "boot entries can only be written where UEFI runs"
            if wanted == "uefi"
            else "whether its BIOS mode works, or is there at all, cannot be seen from UEFI"
        )
        raise HyperError(
            f"boot.firmware = {wanted!r} does not fit this machine",
            why=f"the live system was booted by {booted.upper()}; {reason}",
            remedy=f'start the live system by {wanted.upper()}, or write boot.firmware = "{booted}" or "auto"',
            code=Exit.unsuitable,
        )
    if booted == "bios" and answers.boot.loader is BootLoader.systemd_boot:
        raise HyperError(
            "boot.loader = 'systemd-boot' does not fit this machine",
            why="systemd-boot is a UEFI program, and the live system was booted by BIOS",
            remedy='write boot.loader = "auto" or "grub", or start the live system by UEFI',
            code=Exit.unsuitable,
        )
    return booted


def loader_to_use(firmware: str, answers: Answers) -> Literal["systemd-boot", "grub"]:
    """Which boot loader."""
    if firmware == "bios" or answers.boot.loader is BootLoader.grub:
        return "grub"
    return "systemd-boot"


def require_sectors(disk: Disk, title: str) -> None:
    """HyperError (Exit.unsuitable) if the disk has sectors that nothing can use."""
    if disk.logical_sector not in (512, 4096):
        raise HyperError(
            f"{title} has sectors of {disk.logical_sector} bytes",
            why="partition tables and file systems need sectors of 512 or 4096 bytes",
            remedy="format the disk for 512 or 4096 bytes (sg_format, nvme format), or choose another",
            code=Exit.unsuitable,
        )


def pbkdf_memory(facts: Facts, answers: Answers) -> int:
    """Bytes for argon2id; what the answers say, or what fits.

    Raises:
        HyperError: too little memory (Exit.unsuitable), or a size outside cryptsetup's limits (Exit.answers).
    """
    encryption = answers.storage.encryption
    if not encryption.enable:
        return 0
    available = None if isinstance(facts.memory.available, Unknown) else facts.memory.available
    if not encryption.pbkdf_memory:
        if fitted := luks.fitted_memory(facts.memory.total, available):
            return fitted
        free = "an unknown part" if available is None else format_size(available)
        raise HyperError(
            "too little memory for encryption",
            why=f"argon2id needs {format_size(luks.LEAST_MEMORY)}, now and at every boot; "
            f"of {format_size(facts.memory.total)} {free} is free",
            remedy="add memory, or write storage.encryption.enable = false",
            code=Exit.unsuitable,
        )
    asked = parse_size(encryption.pbkdf_memory)
    least, most = luks.LIMITS
    if not least <= asked <= most:
        raise HyperError(
            f"storage.encryption.pbkdf_memory = {encryption.pbkdf_memory!r} is out of bounds",
            why=f"cryptsetup takes {format_size(least)} to {format_size(most)}",
            remedy="leave it out to have it fitted, or write a size within these bounds",
            code=Exit.answers,
        )
    if asked > (facts.memory.total // 2 if available is None else available):
        free = (
            "half of it is counted on" if available is None else f"{format_size(available)} of it are free"
        )
        raise HyperError(
            f"storage.encryption.pbkdf_memory = {encryption.pbkdf_memory!r} does not fit this machine",
            why=f"it has {format_size(facts.memory.total)} of memory, {free}, "
            "and every boot needs that much again",
            remedy="leave it out to have it fitted, or add memory",
            code=Exit.unsuitable,
        )
    return asked
