"""What a machine must have for what was asked; each function answers, or says what is missing."""

from typing import Literal

from installer.answers.catalogue import FEATURES, TIERS, enabled
from installer.answers.login import lockout
from installer.answers.model import Answers, BootLoader, Tier, TokenKind
from installer.answers.sizes import GIB, MIB, format_size, parse_size
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.common import Unknown, Verdict
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


def require_kexec(facts: Facts, answers: Answers) -> None:
    """HyperError (Exit.unsuitable) where the kernel would refuse to start another one that is not signed."""
    if answers.at_end == "kexec" and facts.firmware.secure_boot.verdict is Verdict.yes:
        raise HyperError(
            'at_end = "kexec" does not work with Secure Boot',
            why="the kernel is locked down then and starts signed kernels only, and the host's is not signed",
            remedy='switch Secure Boot off, or write `at_end = "reboot"`',
            code=Exit.unsuitable,
        )


def counts_as(nominal: int) -> int:
    """Bytes that a machine sold with so much memory must show to be taken as one.

    MemTotal is less than what is built in: the firmware keeps a part, graphics on the board up to some hundred MiB,
    and the kernel a sixty-fourth to account for the rest (a `struct page` of 64 bytes for each 4096) and itself.
    """
    return nominal * 7 // 8


def require_memory(facts: Facts, answers: Answers) -> None:
    """HyperError (Exit.unsuitable) for less memory than the tier is made for, or than reserved pages leave a host.

    A machine that does not tell how much it has passes; the plan warns.
    """
    found = facts.memory.total
    if not found:
        return
    asked = answers.hypervisor
    needed = TIERS[asked.tier].memory
    if found < counts_as(needed):
        fitting = [tier.value for tier, values in TIERS.items() if found >= counts_as(values.memory)]
        raise HyperError(
            f"hypervisor.tier = {asked.tier.value!r} does not fit this machine",
            why=f"the tier is for {needed // GIB} GB of memory and more; the kernel finds {format_size(found)}, "
            f"and {format_size(counts_as(needed))} would do, since firmware and kernel keep a part",
            remedy=f'write hypervisor.tier = "{fitting[-1]}", or add memory' if fitting else "add memory",
            code=Exit.unsuitable,
        )
    sizes = facts.memory.hugepage_sizes
    for field, pages, size in (
        ("hugepages_1g", asked.hugepages_1g, GIB),
        ("hugepages_2m", asked.hugepages_2m, 2 * MIB),
    ):
        if pages and sizes and size not in sizes:
            raise HyperError(
                f"hypervisor.{field} = {pages} does not fit this machine",
                why=f"its kernel has huge pages of {', '.join(map(format_size, sizes))} alone",
                remedy="write 0, or leave it out",
                code=Exit.unsuitable,
            )
    reserved = asked.hugepages_1g * GIB + asked.hugepages_2m * 2 * MIB
    least = counts_as(TIERS[Tier.minimal].memory)
    if reserved and found - reserved < least:
        raise HyperError(
            f"hypervisor.hugepages_1g = {asked.hugepages_1g} and hugepages_2m = {asked.hugepages_2m} "
            "leave the host too little memory",
            why=f"they reserve {format_size(reserved)} of {format_size(found)}, and the host needs "
            f"{format_size(least)} to start and work",
            remedy="write smaller numbers, or add memory",
            code=Exit.unsuitable,
        )


def require_features(facts: Facts, answers: Answers, medium: Medium) -> None:
    """HyperError (Exit.unsuitable) for a feature that this machine cannot have."""
    for name in enabled(answers.hypervisor):
        systems = FEATURES[name].systems
        if systems and medium.system not in systems:
            raise HyperError(
                f"the feature {name} does not fit this machine",
                why=f"it is for {', '.join(systems)} alone, and this will be {medium.system}",
                remedy=f"write hypervisor.features.{name} = false, or leave it out",
                code=Exit.unsuitable,
            )
    if "memory-encryption" in enabled(answers.hypervisor) and facts.cpu.sev.verdict is Verdict.no:
        raise HyperError(
            "the feature memory-encryption does not fit this machine",
            why=f"the processor has no SEV: {facts.cpu.sev.because}",
            remedy="write hypervisor.features.memory-encryption = false, or leave it out",
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
    if booted == "bios" and answers.boot.secure_boot:
        raise HyperError(
            "boot.secure_boot = true does not fit this machine",
            why="Secure Boot is a part of UEFI, and the live system was booted by BIOS",
            remedy="leave it out, or start the live system by UEFI",
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


def require_hibernation(facts: Facts, answers: Answers, firmware: str) -> None:
    """HyperError (Exit.unsuitable) for hibernating to a file where no UEFI variable can tell stage 1 where it lies, or with
    more memory reserved than the kernel can copy.

    The kernel copies all memory that is in use into what is free before it writes it (Documentation/power/swsusp.rst), and
    huge pages can neither be given back nor be swapped out.
    """
    swap, asked, found = answers.storage.swap, answers.hypervisor, facts.memory.total
    if not swap.hibernate:
        return
    if swap.kind == "file" and firmware == "bios":
        raise HyperError(
            "storage.swap.hibernate = true does not fit this machine",
            why="it was booted by BIOS, and where the image lies in a swap file is told to stage 1 by a UEFI variable",
            remedy='write storage.swap.kind = "partition", or start the live system by UEFI',
            code=Exit.unsuitable,
        )
    reserved = asked.hugepages_1g * GIB + asked.hugepages_2m * 2 * MIB
    if found and 2 * reserved >= found:
        raise HyperError(
            "storage.swap.hibernate = true does not fit the huge pages that are reserved",
            why=f"hypervisor.hugepages_1g = {asked.hugepages_1g} and hugepages_2m = {asked.hugepages_2m} reserve "
            f"{format_size(reserved)} of {format_size(found)}, and the kernel copies what is in use into what is free before "
            "it writes it to the disk",
            remedy="reserve less than half of the memory, or write storage.swap.hibernate = false",
            code=Exit.unsuitable,
        )


def require_token(facts: Facts, answers: Answers) -> None:
    """HyperError (Exit.unsuitable) for a TPM that is not there."""
    encryption = answers.storage.encryption
    tpm = facts.firmware.tpm
    if not encryption.enable or encryption.token not in (TokenKind.tpm2, TokenKind.tpm2_pin):
        return
    if tpm is None or tpm.version != 2:
        raise HyperError(
            f"storage.encryption.token = {encryption.token.value!r} does not fit this machine",
            why="it has no TPM" if tpm is None else f"its TPM is of version {tpm.version}, and 2 is needed",
            remedy="switch the TPM on in the firmware setup (fTPM, PTT), or leave the token out: the passphrase opens the "
            "disks",
            code=Exit.unsuitable,
        )


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


def pbkdf_memory(facts: Facts, answers: Answers, devices: int) -> int:
    """Bytes for argon2id; what the answers say, or what fits, for as many devices as stage 1 opens at once.

    Raises:
        HyperError: too little memory (Exit.unsuitable), or a size outside cryptsetup's limits (Exit.answers).
    """
    encryption = answers.storage.encryption
    if not encryption.enable:
        return 0
    available = None if isinstance(facts.memory.available, Unknown) else facts.memory.available
    if not encryption.pbkdf_memory:
        if fitted := luks.fitted_memory(facts.memory.total, available, devices):
            return fitted
        free = "an unknown part" if available is None else format_size(available)
        raise HyperError(
            "too little memory for encryption",
            why=f"argon2id needs {format_size(luks.LEAST_MEMORY * devices)}, now and at every boot; "
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
    if asked * devices > (facts.memory.total // 2 if available is None else available):
        free = (
            "half of it is counted on" if available is None else f"{format_size(available)} of it are free"
        )
        raise HyperError(
            f"storage.encryption.pbkdf_memory = {encryption.pbkdf_memory!r} does not fit this machine",
            why=f"it has {format_size(facts.memory.total)} of memory, {free}, "
            "and every boot needs that much again"
            + (f", for {devices} disks at once" if devices > 1 else ""),
            remedy="leave it out to have it fitted, or add memory",
            code=Exit.unsuitable,
        )
    return asked
