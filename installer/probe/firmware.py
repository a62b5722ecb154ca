"""Firmware, Secure Boot, TPM, chassis, serial consoles."""

from installer.kinds import ChassisKind, FirmwareKind, Verdict
from installer.probe.draft import Firmware, Hibernation, Judgement, SerialConsole, Tpm, Unknown
from installer.probe.hypervisor import DMI
from installer.probe.root import Root, number

EFI = "/sys/firmware/efi"
EFI_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""Vendor GUID of the variables that the UEFI specification defines (3.3)."""
CHASSIS = {
    **dict.fromkeys((3, 4, 5, 6, 7, 13, 15, 16, 24, 34, 35, 36), ChassisKind.desktop),
    **dict.fromkeys((8, 9, 10, 14, 30, 31, 32), ChassisKind.laptop),
    **dict.fromkeys((17, 22, 23, 25, 27, 28, 29), ChassisKind.server),
    **dict.fromkeys((1, 11, 12, 18, 19, 20, 21, 26, 33), ChassisKind.other),
}
"""Chassis types (SMBIOS specification 7.4.1) to what matters here."""
SERIAL_DRIVERS = ("ttyS", "ttyAMA", "hvc", "ttysclp")


def probe_firmware(root: Root, guest_of: str | None) -> Firmware:
    """Firmware and chassis."""
    return Firmware(
        kind=_kind(root),
        secure_boot=_variable(root, "SecureBoot", "Secure Boot is enforced", "Secure Boot is not enforced"),
        setup_mode=_variable(root, "SetupMode", "own keys can be enrolled", "a platform key is enrolled"),
        tpm=_tpm(root),
        chassis=_chassis(root, guest_of),
        vendor=_dmi(root, "sys_vendor"),
        product=_dmi(root, "product_name"),
        hypervisor=guest_of,
        serial_consoles=_serial_consoles(root),
        hibernation=_hibernation(root),
    )


def _kind(root: Root) -> FirmwareKind:
    size = root.number(f"{EFI}/fw_platform_size")
    if size is None and not root.names(EFI):
        return FirmwareKind.bios
    return FirmwareKind.uefi32 if size == 32 else FirmwareKind.uefi64


def _variable(root: Root, name: str, when_set: str, when_clear: str) -> Judgement:
    """An EFI variable of one byte; efivarfs puts four bytes of attributes before it."""
    if _kind(root) is FirmwareKind.bios:
        because = "the system was started by a BIOS"
        if root.silent(EFI):
            return Judgement(verdict=Verdict.unknown, because=root.why(EFI))
        return Judgement(verdict=Verdict.no, because=because)
    path = f"{EFI}/efivars/{name}-{EFI_GLOBAL}"
    content = root.data(path)
    if content is None or len(content) < 5:
        return Judgement(verdict=Verdict.unknown, because=root.why(path))
    if content[4]:
        return Judgement(verdict=Verdict.yes, because=f"EFI variable {name} is {content[4]}: {when_set}")
    return Judgement(verdict=Verdict.no, because=f"EFI variable {name} is 0: {when_clear}")


def _tpm(root: Root) -> Tpm | None:
    for device in root.names("/sys/class/tpm"):
        version = root.number(f"/sys/class/tpm/{device}/tpm_version_major")
        if version is None:
            # Kernels before 5.6 have no such file; only a TPM 2 has a resource-managed device.
            version = 2 if root.names("/sys/class/tpmrm") else 1
        return Tpm(version=version, device=device)
    return None


def _hibernation(root: Root) -> Hibernation | None:
    uuid, _, system = (root.ask("hibernation", "location") or "").partition(" ")
    return (
        Hibernation(uuid=uuid.lower(), system=None if system == "-" else system) if uuid and system else None
    )


def _chassis(root: Root, guest_of: str | None) -> ChassisKind:
    if guest_of is not None:
        return ChassisKind.virtual
    kind = root.number(f"{DMI}/chassis_type")
    return ChassisKind.unknown if kind is None else CHASSIS.get(kind, ChassisKind.unknown)


def _dmi(root: Root, field: str) -> str | Unknown:
    path = f"{DMI}/{field}"
    return root.text(path) or Unknown(unknown_because=root.why(path))


def _serial_consoles(root: Root) -> tuple[SerialConsole, ...]:
    active = (root.text("/sys/class/tty/console/active") or "").split()
    speeds = {}
    for parameter in (root.text("/proc/cmdline") or "").split():
        device, _, options = parameter.removeprefix("console=").partition(",")
        if parameter.startswith("console="):
            digits = options[: len(options) - len(options.lstrip("0123456789"))]
            speeds[device] = number(digits)
    found = []
    for name in root.names("/sys/class/tty"):
        if not name.startswith(SERIAL_DRIVERS):
            continue
        # An 8250 port without hardware says type 0 (PORT_UNKNOWN, linux/serial_core.h).
        kind = root.number(f"/sys/class/tty/{name}/type")
        if name in active or (kind or 0) > 0:
            found.append(SerialConsole(name=name, active=name in active, speed=speeds.get(name)))
    return tuple(found)
