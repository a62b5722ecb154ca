"""Kernel modules that stage 1 needs to reach a disk."""

from installer.facts import Facts
from installer.facts.disks import Disk, Transport
from installer.facts.pci import PciDevice

TRANSPORTS = {
    Transport.nvme: ("nvme",),
    Transport.sata: ("ahci", "sd_mod"),
    Transport.sas: ("sd_mod",),
    Transport.scsi: ("sd_mod",),
    Transport.usb: ("xhci_pci", "usb_storage", "uas", "sd_mod"),
    Transport.virtio: ("virtio_pci", "virtio_blk"),
    Transport.mmc: ("sdhci_pci", "mmc_block"),
    Transport.fibre_channel: ("sd_mod",),
    Transport.iscsi: ("iscsi_tcp", "sd_mod"),
    Transport.other: (),
    Transport.unknown: (),
}
"""What every disk of a kind needs, besides the driver of its controller."""
MODULES = {"xhci_hcd": "xhci_pci", "ehci-pci": "ehci_pci", "pcieport": None, "vfio-pci": None}
"""Drivers whose module has another name, or none that an initrd should load."""
STORAGE_CLASSES = ("01", "0c00", "0c03")
"""PCI classes of mass storage, FireWire and USB controllers: what nixos-generate-config looks at."""


def module_of(device: PciDevice) -> str | None:
    """The module of a function's driver, or of the first that would fit."""
    name = device.driver or next(iter(device.modules), None)
    return MODULES.get(name, name.replace("-", "_")) if name else None


def modules_of(device: PciDevice) -> tuple[str, ...]:
    """The same, and behind virtio's common module those for what it carries."""
    module = module_of(device)
    if module is None:
        return ()
    return (module, *device.modules) if module == "virtio_pci" else (module,)


def root_modules(facts: Facts, disk: Disk) -> tuple[str, ...]:
    """Modules without which the disk is not reached, sorted."""
    controller = next((device for device in facts.pci if device.address == disk.pci_address), None)
    found = {*TRANSPORTS[disk.transport]}
    if controller and (modules := modules_of(controller)):
        # A SATA disk may hang on something other than AHCI.
        found = {*modules, "sd_mod"} if disk.transport is Transport.sata else found | {*modules}
    return tuple(sorted(found))


def controller_modules(facts: Facts) -> tuple[str, ...]:
    """Modules of all storage and USB controllers, so that the disk may move to another port; keyboards need them too."""
    devices = (device for device in facts.pci if device.class_code.startswith(STORAGE_CLASSES))
    return tuple(sorted({module for device in devices for module in modules_of(device)}))
