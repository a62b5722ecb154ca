"""Reads what a machine is: `probe(root)`; `draft(root)` gives the same without pydantic (see `draft`)."""

from installer.probe.blocks import Blocks
from installer.probe.cpu import Processors, probe_cpu
from installer.probe.disks import probe_disks
from installer.probe.draft import Facts
from installer.probe.firmware import probe_firmware
from installer.probe.hypervisor import hypervisor
from installer.probe.iommu import probe_iommu
from installer.probe.memory import probe_memory
from installer.probe.nics import probe_nics
from installer.probe.passthrough import gpu_verdict, held, verdicts
from installer.probe.pci import probe_gpus, probe_pci
from installer.probe.root import Root
from installer.probe.systems import probe_systems

VERSION = 1
"""`installer.facts.FACTS_VERSION`, which costs pydantic to import; a test holds them equal."""


def draft(root: Root) -> Facts:
    """Everything known about a machine; at run time a mapping in the shape of `Facts`."""
    cpus = Processors(root)
    guest_of = hypervisor(root, cpus.flags)
    firmware = probe_firmware(root, guest_of)
    iommu = probe_iommu(root, cpus, guest_of)
    blocks = Blocks(root)
    disks = probe_disks(blocks)
    nics = probe_nics(root)
    devices = probe_pci(root)
    gpus = probe_gpus(root, devices)
    consoles = firmware.serial_consoles
    needed = held(devices, gpus, disks, nics, consoles)
    decided = verdicts(devices, gpus, iommu, needed, consoles)
    devices = [device.model_copy(update={"passthrough": decided[device.address]}) for device in devices]
    gpus = [gpu.model_copy(update={"passthrough": gpu_verdict(gpu, devices)}) for gpu in gpus]
    return Facts(
        version=VERSION,
        cpu=probe_cpu(root, cpus, guest_of),
        memory=probe_memory(root),
        firmware=firmware,
        iommu=iommu,
        pci=tuple(devices),
        gpus=tuple(gpus),
        disks=disks,
        nics=nics,
        systems=probe_systems(blocks, disks),
    )


def probe(root: Root) -> "Facts":
    """The same as validated, frozen values."""
    from installer import facts

    return facts.Facts.model_validate(draft(root))
