"""Booting: loader, where kernels lie, console."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from installer.answers.text_kinds import SizeText
from installer.frozen import Frozen


class BootLoader(StrEnum):
    """Which loader."""

    auto = "auto"
    """systemd-boot under UEFI, GRUB under BIOS."""
    systemd_boot = "systemd-boot"
    grub = "grub"


class KernelsPlace(StrEnum):
    """Under UEFI: where kernels and initrds of the generations lie."""

    auto = "auto"
    """On the EFI system partition; beside a shared one that is too small on a partition of their own."""
    esp = "esp"
    """On the EFI system partition."""
    xbootldr = "xbootldr"
    """On a partition of their own (XBOOTLDR), which systemd-boot reads too; one disk."""


class BootAnswers(Frozen):
    """Booting."""

    loader: BootLoader = BootLoader.auto
    """Which loader."""
    firmware: Literal["auto", "uefi", "bios"] = "auto"
    """What to install for; `auto` is what the live system was booted with. A mismatch is refused."""
    esp_size: SizeText | None = Field(default=None, examples=["2GiB"])
    """Size of the EFI system partition, or of the one that `kernels` names; at least 1 GiB, since every generation's kernel
    and initrd go there. Without it what the kept generations and the one being written take, at least 2 GiB."""
    kernels: KernelsPlace = KernelsPlace.auto
    """Under UEFI: where kernels and initrds lie."""
    secure_boot: bool = False
    """Under UEFI with systemd-boot: prepare Secure Boot. The host makes keys of its own at its first boot and signs what it
    starts from at every rebuild; `hv secure-boot enrol` then gives them to the firmware."""
    generations: int = Field(default=10, ge=2, le=50)
    """How many generations the boot menu keeps."""
    serial_console: (
        Annotated[
            str,
            StringConstraints(pattern=r"^tty(S|AMA)[0-9]+(,[0-9]+)?$"),
            Field(title="a serial port, with or without its speed", examples=["ttyS0,115200"]),
        ]
        | None
    ) = None
    """Serial console of the installed host, e.g. `ttyS0,115200`; it gets the kernel's messages and a login."""
    kernel_params: tuple[
        Annotated[
            str,
            StringConstraints(pattern=r"^\S+$"),
            Field(title="one kernel parameter, without blanks", examples=["mitigations=auto"]),
        ],
        ...,
    ] = ()
    """Further kernel parameters, one an element."""
