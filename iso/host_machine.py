"""The machine that a disk image of an installed host is planned for: nobody knows yet where it will start, so it has one
disk of the wanted size, UEFI or BIOS as was asked for, and the controllers of hypervisors and clouds, each of which stage 1 must be able to drive.
"""

from installer.answers.model import Answers
from installer.answers.sizes import MIB, format_size
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.common import Judgement, Unknown, Verdict
from installer.facts.cpu import Cpu, Memory, Virtualization, VirtualizationState
from installer.facts.disks import Disk, Transport
from installer.facts.firmware import ChassisKind, Firmware, FirmwareKind
from installer.facts.pci import Iommu, IommuState, Passthrough, PassthroughVerdict, PciDevice

SERIAL = "HVIMAGE"
"""Of the disk that is made up; identifiers of file systems follow from it and from the host's name."""
CONTROLLERS = {"010601": "ahci", "010802": "nvme", "010000": "virtio_scsi", "0c0330": "xhci_hcd"}
"""Class code of PCI: the driver that stage 1 gets, besides virtio's block devices."""
INSTEAD = (
    "change them, or install it in a virtual machine, into a file that stays: `qemu-img create -f qcow2 FILE 40G`, then "
    "`hv media try MEDIUM --answers ANSWERS --disk FILE`"
)
"""What else leads to an image."""
_BECAUSE = "the machine is made up: the image is for any"


def facts(size: int, system: str, *, bios: bool = False) -> Facts:
    """What is said of it.

    Args:
        size: Bytes of the disk.
        system: Nix system double of the host.
        bios: It starts by BIOS.
    """
    no = Judgement(verdict=Verdict.no, because=_BECAUSE)
    unknown = Unknown(unknown_because=_BECAUSE)
    return Facts(
        cpu=Cpu(
            architecture=system.partition("-")[0],
            vendor="",
            model="any",
            sockets=1,
            cores=1,
            threads=1,
            numa_nodes=1,
            virtualization=Virtualization(state=VirtualizationState.unknown, evidence=(_BECAUSE,)),
            second_level_paging=no,
            nested=no,
            apic_virtualization=no,
            pages_1gib=no,
            sev=no,
            sev_es=no,
            sev_snp=no,
            tdx=no,
        ),
        memory=Memory(total=0, available=unknown, ecc=no, hugepage_sizes=()),
        firmware=Firmware(
            kind=FirmwareKind.bios if bios else FirmwareKind.uefi64,
            secure_boot=no,
            setup_mode=no,
            tpm=None,
            chassis=ChassisKind.virtual,
            vendor=unknown,
            product=unknown,
            hypervisor="kvm",
            serial_consoles=(),
        ),
        iommu=Iommu(state=IommuState.absent, evidence=(_BECAUSE,), units=(), groups=()),
        pci=tuple(
            _controller(number, code, driver)
            for number, (code, driver) in enumerate(CONTROLLERS.items(), start=1)
        ),
        gpus=(),
        disks=(
            Disk(
                name="vda",
                wwn=None,
                serial=SERIAL,
                by_id=(f"virtio-{SERIAL}",),
                model="disk image",
                transport=Transport.virtio,
                size=size,
                logical_sector=512,
                physical_sector=512,
                rotational=False,
                removable=False,
                read_only=False,
                health=unknown,
                table=None,
                install_medium=False,
                in_use=(),
            ),
        ),
        nics=(),
        systems=(),
    )


def _controller(number: int, code: str, driver: str) -> PciDevice:
    return PciDevice.model_validate(
        {
            "address": f"0000:00:{number:02x}.0",
            "class_code": code,
            "class_name": code,
            "vendor_id": "0000",
            "device_id": "0000",
            "vendor_name": "any",
            "device_name": driver,
            "driver": driver,
            "iommu_group": None,
            "reset_methods": (),
            "resizable_bars": {},
            "sriov_total": 0,
            "sriov_active": 0,
            "numa_node": None,
            "boot_vga": False,
            "is_bridge": False,
            "companions": (),
            "passthrough": PassthroughVerdict(verdict=Passthrough.no, reasons=(_BECAUSE,)),
        }
    )


def on_it(answers: Answers) -> Answers:
    """The answers with the made-up disk for the one that they select.

    Raises:
        HyperError: they want more than one disk, or what stands on it kept (Exit.unsuitable).
    """
    storage = answers.storage
    wrong = {
        "storage.disks: an image is one disk": len(storage.selectors) > 1 or storage.pool_selectors,
        "storage.encryption: all copies of an image would share the key that their data is encrypted with, whatever "
        "their passphrases, so whoever has one opens the others": storage.encryption.enable,
        "hooks: their programs are for the machine": answers.hooks,
        f"storage.existing = {storage.existing.value!r}: there is nothing on it": storage.existing
        != "erase",
    }
    if found := [why for why, holds in wrong.items() if holds]:
        raise HyperError(
            "no disk image can be made from these answers",
            why="\n".join(found),
            remedy=INSTEAD,
            code=Exit.unsuitable,
        )
    given = answers.model_dump(mode="json", exclude_defaults=True)
    return Answers.model_validate(
        given
        | {"version": answers.version}
        | {"storage": given.get("storage", {}) | {"disk": {"serial": SERIAL}, "disks": ()}}
    )


def require_size(size: int) -> None:
    """HyperError (Exit.usage) for a size that no table of partitions can have."""
    if size % MIB or size < 64 * MIB:
        raise HyperError(
            f"an image of {format_size(size)} cannot be",
            why="sizes are whole MiB, and the boot partition alone needs hundreds",
            remedy="write e.g. --size 8GiB; the host grows to its disk's size when it first starts",
            code=Exit.usage,
        )
