"""What the machine starts with."""

from enum import StrEnum

from installer.facts.common import Judgement, Unknown
from installer.frozen import Frozen


class FirmwareKind(StrEnum):
    """How this system was booted; what the installed one must be made for."""

    uefi64 = "UEFI 64-bit"
    uefi32 = "UEFI 32-bit"
    bios = "BIOS"


class ChassisKind(StrEnum):
    """What kind of machine it is (DMI chassis type, SMBIOS specification 7.4.1, and hypervisor signs)."""

    server = "server"
    desktop = "desktop"
    laptop = "laptop"
    virtual = "virtual machine"
    other = "other"
    unknown = "unknown"


class Tpm(Frozen):
    """A Trusted Platform Module."""

    version: int
    """1 or 2 (`tpm_version_major`)."""
    device: str
    """Kernel name, `tpm0`."""


class SerialConsole(Frozen):
    """A serial port that could carry a console."""

    name: str
    """Kernel name, `ttyS0`."""
    active: bool
    """Whether the running kernel uses it as console."""
    speed: int | None
    """Baud of the active console, if the kernel command line says."""


class Firmware(Frozen):
    """Firmware and chassis."""

    kind: FirmwareKind
    """How the running system was booted."""
    secure_boot: Judgement
    """Secure Boot enforcing (EFI variable SecureBoot)."""
    setup_mode: Judgement
    """Secure Boot in setup mode: own keys can be enrolled (EFI variable SetupMode)."""
    tpm: Tpm | None
    """The TPM, if there is one."""
    chassis: ChassisKind
    """Server, desktop, laptop, virtual machine."""
    vendor: str | Unknown
    """System vendor (DMI)."""
    product: str | Unknown
    """Product name (DMI)."""
    hypervisor: str | None
    """What this machine is a guest of (`kvm`, `qemu`, `vmware`, ...); none on bare metal."""
    serial_consoles: tuple[SerialConsole, ...]
    """Ports with hardware behind them."""
