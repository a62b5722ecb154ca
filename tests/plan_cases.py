"""Small machines, answers and a medium for the tests of planning."""

from typing import Any

from installer.answers.model import Answers
from installer.answers.sizes import GIB
from installer.facts import Facts
from installer.facts.common import Judgement, Unknown, Verdict
from installer.facts.cpu import Cpu, Memory, Virtualization, VirtualizationState
from installer.facts.disks import Disk, Filesystem, Partition, Transport
from installer.facts.firmware import ChassisKind, Firmware, FirmwareKind
from installer.facts.nics import Nic
from installer.facts.pci import Iommu, IommuGroup, IommuState, Passthrough, PassthroughVerdict, PciDevice
from installer.facts.systems import InstalledSystem
from installer.medium import FlakeSource, Medium, ReadyClosure

NO = Judgement(verdict=Verdict.no, because="not in this test")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDyzw1AbAScRfcfgmQXDQfAsJf3ho0gI8VTuYkSCjQVZ alice@example"
HASH = "$6$saltsaltsaltsalt$" + "a" * 86
SERIAL = "S6Z2NJ0TB12345X"


def blank_disk(**changes: Any) -> Disk:
    """An empty NVMe disk."""
    return Disk(
        **{
            "name": "nvme0n1",
            "wwn": "eui.0025384b21404e6f",
            "serial": SERIAL,
            "by_id": ("nvme-Samsung_SSD_990_PRO_1TB_" + SERIAL, "nvme-eui.0025384b21404e6f"),
            "model": "Samsung SSD 990 PRO 1TB",
            "transport": Transport.nvme,
            "pci_address": "0000:01:00.0",
            "size": 1_000_204_886_016,
            "logical_sector": 512,
            "physical_sector": 512,
            "rotational": False,
            "removable": False,
            "read_only": False,
            "health": Unknown(unknown_because="not in this test"),
            "table": None,
            "install_medium": False,
            "in_use": (),
        }
        | changes
    )


def used_disk(**changes: Any) -> Disk:
    """A SATA disk with an old Windows and an old Linux on it."""
    return blank_disk(
        **{
            "name": "sda",
            "wwn": "0x5000c500a1b2c3d4",
            "serial": "ZA1234AB",
            "by_id": ("ata-ST4000NM0035-1V4107_ZA1234AB", "wwn-0x5000c500a1b2c3d4"),
            "model": "ST4000NM0035-1V4107",
            "transport": Transport.sata,
            "pci_address": "0000:00:17.0",
            "size": 4_000_787_030_016,
            "rotational": True,
            "table": "gpt",
            "partitions": (
                Partition(
                    number=1,
                    name="sda1",
                    start=1 << 20,
                    size=512 << 20,
                    type_uuid="c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
                    filesystem=Filesystem(kind="vfat", uuid="A1B2-C3D4", label="EFI"),
                ),
                Partition(
                    number=2,
                    name="sda2",
                    start=513 << 20,
                    size=300 * GIB,
                    filesystem=Filesystem(kind="ntfs", uuid="01D0C0FFEE", label="Windows"),
                ),
                Partition(
                    number=3,
                    name="sda3",
                    start=(513 << 20) + 300 * GIB,
                    size=1000 * GIB,
                    filesystem=Filesystem(kind="crypto_LUKS", uuid="11111111-2222-3333-4444-555555555555"),
                ),
            ),
        }
        | changes
    )


def pci(address: str, class_code: str, driver: str | None, group: int, **changes: Any) -> PciDevice:
    """A PCI function that guests can have."""
    return PciDevice(
        **{
            "address": address,
            "class_code": class_code,
            "class_name": class_code,
            "vendor_id": "1234",
            "device_id": "5678",
            "vendor_name": "Example",
            "device_name": f"device {class_code}",
            "driver": driver,
            "iommu_group": group,
            "reset_methods": ("flr",),
            "resizable_bars": {},
            "sriov_total": 0,
            "sriov_active": 0,
            "numa_node": None,
            "boot_vga": False,
            "is_bridge": False,
            "companions": (),
            "passthrough": PassthroughVerdict(verdict=Passthrough.yes, reasons=()),
        }
        | changes
    )


def machine(*disks: Disk, firmware: FirmwareKind = FirmwareKind.uefi64, **changes: Any) -> Facts:
    """A server with these disks (one blank NVMe disk without any) and a spare GPU with its audio function."""
    group = PassthroughVerdict(verdict=Passthrough.with_group, reasons=("0000:03:00.1 shares its group",))
    devices = (
        pci("0000:00:14.0", "0c0330", "xhci_hcd", 4),
        pci("0000:00:17.0", "010601", "ahci", 5),
        pci("0000:01:00.0", "010802", "nvme", 14),
        pci("0000:02:00.0", "020000", "igc", 15, device_id="125c"),
        pci("0000:03:00.0", "030000", "nouveau", 16, device_id="2684", passthrough=group),
        pci("0000:03:00.1", "040300", "snd_hda_intel", 16, device_id="22ba", passthrough=group),
    )
    return Facts(
        **{
            "cpu": Cpu(
                architecture="x86_64",
                vendor="AuthenticAMD",
                model="AMD EPYC 7302P",
                sockets=1,
                cores=16,
                threads=32,
                numa_nodes=1,
                virtualization=Virtualization(
                    state=VirtualizationState.ready, evidence=("/dev/kvm answers",)
                ),
                second_level_paging=NO,
                nested=NO,
                apic_virtualization=NO,
                pages_1gib=NO,
                sev=NO,
                sev_es=NO,
                sev_snp=NO,
                tdx=NO,
            ),
            "memory": Memory(total=64 * GIB, available=60 * GIB, ecc=NO, hugepage_sizes=(2 << 20, 1 << 30)),
            "firmware": Firmware(
                kind=firmware,
                secure_boot=NO,
                setup_mode=NO,
                tpm=None,
                chassis=ChassisKind.server,
                vendor="Example",
                product="Server",
                hypervisor=None,
                serial_consoles=(),
            ),
            "iommu": Iommu(
                state=IommuState.on,
                evidence=("there are groups",),
                units=("ivhd0",),
                groups=(IommuGroup(number=16, kind="DMA", members=("0000:03:00.0", "0000:03:00.1")),),
            ),
            "pci": devices,
            "gpus": (),
            "disks": disks or (blank_disk(),),
            "nics": (
                Nic(
                    name="enp2s0",
                    permanent_name="enp2s0",
                    mac="3c:ec:ef:00:00:01",
                    driver="igc",
                    pci_address="0000:02:00.0",
                    speed=1000,
                    link=True,
                    wireless=False,
                    sriov_total=0,
                ),
            ),
            "systems": (),
        }
        | changes
    )


WINDOWS = InstalledSystem(name="Windows", disk="sda", partition="sda2", evidence="ntfs")


def answers(**changes: Any) -> Answers:
    """Minimal answers; nested tables are given whole."""
    return Answers.model_validate(
        {
            "version": 1,
            "hostname": "hv1",
            "storage": {"disk": {"serial": SERIAL}},
            "users": [{"name": "alice", "admin": True, "ssh_keys": [KEY], "password_hash": HASH}],
        }
        | changes
    )


def storage(**changes: Any) -> dict[str, Any]:
    """The storage table, for the NVMe disk."""
    return {"disk": {"serial": SERIAL}} | changes


ENCRYPTED = {"enable": True, "passphrase": {"file": "/run/secrets/passphrase"}}


def flake(name: str) -> FlakeSource:
    """A flake input that the medium holds."""
    path = f"/nix/store/{'0' * 32}-{name}-source"
    locked = {"type": "path", "path": path, "narHash": "sha256-" + "A" * 43 + "="}
    return FlakeSource(
        url=f"github:example/{name}", locked=locked, original={"type": "path", "path": path}, store_path=path
    )


def medium(**changes: Any) -> Medium:
    """A medium with one ready closure and one image."""
    return Medium(
        **{
            "label": "Hyper-NixOS 0.1.0",
            "release": "26.05",
            "nixpkgs": flake("nixpkgs"),
            "hyper_nixos": flake("hyper-nixos"),
            "estimated_closure": 6 * GIB,
            "closures": (
                ReadyClosure(
                    name="standard",
                    toplevel=f"/nix/store/{'1' * 32}-nixos-system-standard",
                    cache="file:///payload/cache",
                    nar_size=5 * GIB,
                ),
            ),
            "images": {"marker": "/payload/images/marker.qcow2"},
        }
        | changes
    )


def disks(count: int, **changes: Any) -> tuple[Disk, ...]:
    """Equal NVMe disks, told apart by serial and WWN."""
    return tuple(
        blank_disk(
            **{
                "name": f"nvme{number}n1",
                "serial": f"S{number}",
                "wwn": f"eui.000000000000000{number}",
                "by_id": (f"nvme-EXAMPLE_S{number}", f"nvme-eui.000000000000000{number}"),
                "model": "EXAMPLE",
                "pci_address": "0000:01:00.0",
            }
            | changes
        )
        for number in range(1, count + 1)
    )


def turning(count: int) -> tuple[Disk, ...]:
    """Equal SATA disks that turn."""
    return tuple(
        blank_disk(
            name=f"sd{letter}",
            serial=f"T{number}",
            wwn=f"0x500000000000000{number}",
            by_id=(f"ata-BIG_T{number}", f"wwn-0x500000000000000{number}"),
            model="BIG",
            transport=Transport.sata,
            pci_address="0000:00:17.0",
            size=8_001_563_222_016,
            physical_sector=4096,
            rotational=True,
        )
        for number, letter in enumerate("abcdefgh"[:count], start=1)
    )
