"""PCI functions and display controllers, without verdicts."""

from installer.kinds import GpuKind, Passthrough
from installer.probe.draft import Gpu, PassthroughVerdict, PciDevice, Unknown
from installer.probe.root import Root, number

DEVICES = "/sys/bus/pci/devices"
BRIDGES = frozenset({"0600", "0604", "0609"})
"""Host, PCI-to-PCI and semi-transparent bridges (PCI code and ID assignment specification)."""
DISPLAY = "03"
ENCRYPTION = "1080"
INSIDE = ("0403",)
ALONG = (*INSIDE, "0c03", "0c80")
"""Functions that belong to a display controller: audio; on a card USB-C and its controller as well, while the USB
beside graphics inside a processor is the machine's own."""
VIRTIO = "1af4"
INTEL, AMD = "8086", "1002"
VIRTUAL_VENDORS = frozenset({VIRTIO, "1b36", "1234", "1013", "15ad", "80ee", "1414", "5853"})
"""Red Hat (virtio, QXL), Bochs, Cirrus (as QEMU has it), VMware, VirtualBox, Hyper-V, XenServer."""
MANAGEMENT = {"1a03": ("",), "102b": ("0522", "053"), "18ca": ("",), "19e5": ("1711",), "1002": ("515e",)}
"""Vendor to the beginnings of its devices that are a server's management controller: ASPEED, Matrox G200e/eW/eH/eR,
XGI Volari, Huawei iBMC, ES1000."""
CLASSES = {
    "0000": "Unclassified device",
    "0100": "SCSI storage controller",
    "0101": "IDE interface",
    "0104": "RAID bus controller",
    "0106": "SATA controller",
    "0107": "Serial Attached SCSI controller",
    "0108": "Non-Volatile memory controller",
    "0180": "Mass storage controller",
    "0200": "Ethernet controller",
    "0207": "Infiniband controller",
    "0280": "Network controller",
    "0300": "VGA compatible controller",
    "0302": "3D controller",
    "0380": "Display controller",
    "0401": "Multimedia audio controller",
    "0403": "Audio device",
    "0480": "Multimedia controller",
    "0500": "RAM memory",
    "0580": "Memory controller",
    "0600": "Host bridge",
    "0601": "ISA bridge",
    "0604": "PCI bridge",
    "0609": "Semi-transparent PCI-to-PCI bridge",
    "0680": "Bridge",
    "0700": "Serial controller",
    "0780": "Communication controller",
    "0800": "PIC",
    "0801": "DMA controller",
    "0802": "Timer",
    "0803": "RTC",
    "0805": "SD Host controller",
    "0806": "IOMMU",
    "0880": "System peripheral",
    "0b40": "Co-processor",
    "0c03": "USB controller",
    "0c04": "Fibre Channel",
    "0c05": "SMBus",
    "0c80": "Serial bus controller",
    "0d11": "Bluetooth",
    "1080": "Encryption controller",
    "1180": "Signal processing controller",
    "1200": "Processing accelerators",
    "1300": "Non-Essential Instrumentation",
}
"""Base class and subclass to the words of pci.ids, for those that a virtualization host meets."""
UNDECIDED = PassthroughVerdict(verdict=Passthrough.no, reasons=(), cautions=())
HEXADECIMAL = frozenset("0123456789abcdef")


def is_address(name: str) -> bool:
    """Whether a name is domain:bus:device.function as sysfs writes it."""
    parts = name.replace(".", ":").split(":")
    return (
        [len(part) for part in parts[1:]] == [2, 2, 1]
        and len(parts[0]) >= 4
        and name[-2] == "."
        and parts[3] in "01234567"
        and all(HEXADECIMAL.issuperset(part) for part in parts)
    )


def slot(address: str) -> str:
    """The device without its function."""
    return address.rpartition(".")[0]


def address_in(path: str) -> str | None:
    """The PCI function that a device path below /sys hangs on most closely."""
    return next((part for part in reversed(path.split("/")) if is_address(part)), None)


def probe_pci(root: Root) -> list[PciDevice]:
    """All functions in address order; the verdicts are still to be decided."""
    addresses = [name for name in root.names(DEVICES) if is_address(name)]
    return [_device(root, address, addresses) for address in sorted(addresses, key=_order)]


def _order(address: str) -> tuple[int, str]:
    return len(address), address


def _device(root: Root, address: str, addresses: list[str]) -> PciDevice:
    path = root.real(f"{DEVICES}/{address}") or f"{DEVICES}/{address}"
    properties = root.udev(path)
    names = root.names(path)
    vendor, device = _id(root, f"{path}/vendor"), _id(root, f"{path}/device")
    code = (root.text(f"{path}/class") or "0x000000").removeprefix("0x").rjust(6, "0")[:6]
    group = number(root.target(f"{path}/iommu_group")) if "iommu_group" in names else None
    node = root.number(f"{path}/numa_node")
    driver = root.target(f"{path}/driver") if "driver" in names else None
    return PciDevice(
        address=address,
        class_code=code,
        class_name=properties.get("ID_PCI_SUBCLASS_FROM_DATABASE") or CLASSES.get(code[:4]) or code,
        vendor_id=vendor or "0000",
        device_id=device or "0000",
        subsystem_vendor_id=_id(root, f"{path}/subsystem_vendor"),
        subsystem_device_id=_id(root, f"{path}/subsystem_device"),
        vendor_name=properties.get("ID_VENDOR_FROM_DATABASE") or _name(root, vendor) or vendor or "unknown",
        device_name=properties.get("ID_MODEL_FROM_DATABASE")
        or _name(root, vendor, device)
        or device
        or "unknown",
        driver=driver,
        modules=_modules(root, path, vendor, names, driver),
        iommu_group=group,
        reset_methods=_reset_methods(root, path, names),
        resizable_bars=_resizable_bars(root, path, names),
        sriov_total=max(0, root.number(f"{path}/sriov_totalvfs") or 0) if "sriov_totalvfs" in names else 0,
        sriov_active=max(0, root.number(f"{path}/sriov_numvfs") or 0) if "sriov_numvfs" in names else 0,
        is_virtual_function="physfn" in names,
        numa_node=None if node is None or node < 0 else node,
        boot_vga="boot_vga" in names and root.text(f"{path}/boot_vga") == "1",
        is_bridge=code[:4] in BRIDGES,
        companions=tuple(other for other in addresses if slot(other) == slot(address) and other != address),
        passthrough=UNDECIDED,
    )


def _id(root: Root, path: str) -> str | None:
    """Four hexadecimal digits; None where unreadable."""
    value = number(root.text(path), 16)
    return f"{value:04x}" if value is not None and 0 <= value <= 0xFFFF else None


def _name(root: Root, vendor: str | None, device: str | None = None) -> str | None:
    if vendor is None:
        return None
    return root.ask("pci name", f"{vendor}:{device}" if device else vendor)


def _modules(
    root: Root, path: str, vendor: str | None, names: tuple[str, ...], driver: str | None
) -> tuple[str, ...]:
    holders = [path] if driver else []
    if vendor == VIRTIO:
        holders += [f"{path}/{name}" for name in names if name.startswith("virtio") and name[6:].isdigit()]
    found = (root.target(f"{holder}/driver/module") for holder in holders)
    return tuple(dict.fromkeys(module for module in found if module))


def _reset_methods(root: Root, path: str, names: tuple[str, ...]) -> tuple[str, ...] | Unknown:
    """`reset_method` is there when the kernel knows a way to reset the function (Linux 5.15, sysfs-bus-pci)."""
    if "reset_method" in names:
        methods = root.text(f"{path}/reset_method")
        if methods is None:
            return Unknown(unknown_because=root.why(f"{path}/reset_method"))
        return tuple(methods.split())
    return (
        Unknown(unknown_because=root.why(f"{path}/reset_method"))
        if root.silent(f"{path}/reset_method")
        else ()
    )


def _resizable_bars(root: Root, path: str, names: tuple[str, ...]) -> dict[int, tuple[int, ...]]:
    """`resourceN_resize`: bit n of the hexadecimal mask stands for 2^n MiB (Linux 6.1, sysfs-bus-pci)."""
    bars = {}
    for name in names:
        bar = number(name.removeprefix("resource").removesuffix("_resize"))
        if name.startswith("resource") and name.endswith("_resize") and bar is not None:
            mask = number(root.text(f"{path}/{name}"), 16) or 0
            bars[bar] = tuple(1 << 20 + bit for bit in range(64) if mask >> bit & 1)
    return bars


def gpu_kind(device: PciDevice, functions: list[PciDevice]) -> GpuKind:
    """Where a display controller sits.

    Intel's integrated ones are function 0000:00:02.x; AMD's hang on the root bus or share their device with the
    platform security processor (class 1080), which no card has.
    """
    if device.device_id.startswith(MANAGEMENT.get(device.vendor_id, ())):
        return GpuKind.management
    if device.vendor_id in VIRTUAL_VENDORS:
        return GpuKind.virtual
    root_bus = device.address.split(":")[1] == "00"
    if root_bus and device.vendor_id in (INTEL, AMD):
        return GpuKind.integrated
    if any(function.class_code.startswith(ENCRYPTION) for function in functions):
        return GpuKind.integrated
    return GpuKind.discrete


def connectors(root: Root, address: str) -> tuple[str, ...]:
    """DRM connectors of a display controller with a screen attached (`card0-DP-1/status`)."""
    path = root.real(f"{DEVICES}/{address}") or f"{DEVICES}/{address}"
    found = []
    for card in root.names(f"{path}/drm"):
        if card.startswith("card"):
            for name in root.names(f"{path}/drm/{card}"):
                if (
                    name.startswith(f"{card}-")
                    and root.text(f"{path}/drm/{card}/{name}/status") == "connected"
                ):
                    found.append(name.removeprefix(f"{card}-"))
    return tuple(found)


def probe_gpus(root: Root, devices: list[PciDevice]) -> list[Gpu]:
    """Display controllers in address order; the verdicts over all their functions are still to be decided."""
    displays = [device for device in devices if device.class_code.startswith(DISPLAY)]
    found = []
    for device in displays:
        siblings = [other for other in devices if slot(other.address) == slot(device.address)]
        kind = gpu_kind(device, siblings)
        along = ALONG if kind is GpuKind.discrete else INSIDE
        functions = [other for other in siblings if other is device or other.class_code.startswith(along)]
        found.append(
            Gpu(
                address=device.address,
                name=f"{device.vendor_name} {device.device_name}",
                kind=kind,
                boot=device.boot_vga,
                only=len(displays) == 1,
                connectors=connectors(root, device.address),
                functions=tuple(function.address for function in functions),
                passthrough=UNDECIDED,
            )
        )
    return found
