"""What the machine starts with."""

from installer.facts.common import Judgement, Unknown
from installer.frozen import Frozen
from installer.kinds import ChassisKind, FirmwareKind

__all__ = ["ChassisKind", "Firmware", "FirmwareKind", "Hibernation", "SerialConsole", "Tpm"]


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


class Hibernation(Frozen):
    """What the firmware was told when a system began to hibernate (EFI variable HibernateLocation, systemd 255 and later)."""

    uuid: str
    """UUID of the file system or swap device in which the memory lies, lower case."""
    system: str | None
    """`ID` of the system's os-release: `debian`, `nixos`."""


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
    hibernation: Hibernation | None = None
    """A system that hibernates, wherever its memory lies; none: the firmware knows of none."""
