"""Machines whose disks are the point: told apart badly, or holding together what nobody must tear apart."""

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256

from tests.machines.build import GIB, INTEL, INTEL_FLAGS, LINUX_TYPE, RAID_TYPE, REDHAT, Machine

TIB = 1 << 40
GROUP = "pQ3xYz-aB3d-eF5g-hI7j-kL9m-nO1p-qR3sTu"
MAPPED_GROUP = "LVM-" + "pQ3xYzaB3deF5ghI7jkL9mnO1pqR3sTu" + "0" * 28 + "{:04x}"
ARRAY = "3c4d5e6f-0a1b-4c2d-8e3f-405162738495"
POOL = "13207654321098765432"
BTRFS = "9f8e7d6c-5b4a-4392-8170-6f5e4d3c2b1a"
LUKS = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f"


def _small() -> Machine:
    """A machine with nothing worth telling, started by BIOS."""
    machine = Machine()
    machine.processor("GenuineIntel", "Intel(R) Xeon(R) E-2236 CPU @ 3.40GHz", INTEL_FLAGS, cores=6)
    machine.kvm("kvm_intel", enable_apicv="Y")
    machine.memory(32, correction=6)
    machine.board("Example", "Server", 23)
    return machine


def _ahci(machine: Machine) -> str:
    return machine.pci("0000:00:17.0", "010601", "8086:a182", (INTEL, "SATA Controller"), driver="ahci")


def _usb(machine: Machine) -> str:
    return machine.pci("0000:00:14.0", "0c0330", "8086:a12f", (INTEL, "USB 3.0 xHCI"), driver="xhci_hcd")


def _ends(machine: Machine, name: str) -> None:
    """What the probe is told of a disk's first and last MiB."""
    machine.record.answers[f"disk ends {name}"] = sha256(name.encode()).hexdigest()


def two_disks(names: str) -> Machine:
    """Two disks of one model; which the kernel found first is up to chance."""
    machine = _small()
    ahci = _ahci(machine)
    for port, letter in enumerate(names, start=1):
        machine.sata(ahci, port, f"sd{letter}", f"WD-WCC4N000000{port}", "WDC WD40EFRX", 4 * TIB)
    return machine


def _bridge(machine: Machine, port: int, name: str, serial: str) -> None:
    """A disk in a USB enclosure whose bridge gives every disk the same serial number."""
    path = f"/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}/1-{port}:1.0/host{port}/target{port}:0:0/{port}:0:0:0/block/{name}"
    machine.disk(
        path,
        2 * TIB,
        {
            "DEVLINKS": f"by-id/usb-JMicron_Tech_{serial}-0:0 by-path/pci-0000:00:14.0-usb-0:{port}:1.0-scsi-0:0:0:0",
            "ID_BUS": "usb",
            "ID_MODEL": "Tech",
            "ID_SERIAL": f"JMicron_Tech_{serial}-0:0",
            "ID_SERIAL_SHORT": serial,
        },
    )


def usb_bridge() -> Machine:
    """One disk in such an enclosure."""
    machine = _small()
    _usb(machine)
    _bridge(machine, 1, "sda", "0123456789ABCDEF")
    return machine


def usb_bridge_twins() -> Machine:
    """Two equal disks in two such enclosures."""
    machine = _small()
    _usb(machine)
    _bridge(machine, 1, "sda", "0123456789ABCDEF")
    _bridge(machine, 2, "sdb", "0123456789ABCDEF")
    return machine


def raid_controller(*, wwn: bool) -> Machine:
    """Two volumes of a RAID controller, which gives both its own serial number; whether they have WWNs depends on it."""
    machine = _small()
    card = machine.pci(
        "0000:18:00.0",
        "010400",
        "1000:0016",
        ("Broadcom / LSI", "MegaRAID Tri-Mode SAS3508"),
        driver="megaraid_sas",
    )
    for place, name in enumerate(("sda", "sdb")):
        number = f"600605b00a1b2c3d4e5f60718293a4b{place}"
        named = {
            "ID_WWN": f"0x{number[:16]}",
            "ID_WWN_WITH_EXTENSION": f"0x{number}",
            "ID_SERIAL": f"3{number}",
            "ID_SERIAL_SHORT": number,
        }
        links = f"by-path/pci-0000:18:00.0-scsi-0:2:{place}:0"
        machine.disk(
            f"{card}/host0/target0:2:{place}/0:2:{place}:0/block/{name}",
            4 * TIB,
            {
                "DEVLINKS": f"by-id/scsi-3{number} by-id/wwn-0x{number} {links}" if wwn else links,
                "ID_BUS": "scsi",
                "ID_MODEL": "MR9560-8i",
                "ID_SCSI_SERIAL": "00b4a39281706f5e4d3c2b1a0ab00506",
                **(named if wwn else {}),
            },
        )
    return machine


def virtio_nameless(count: int) -> Machine:
    """A guest whose disks were given no serial number."""
    machine = _small()
    for place in range(count):
        block = (REDHAT, "Virtio 1.0 block device")
        pci = machine.pci(f"0000:00:0{place + 2}.0", "010000", "1af4:1042", block, driver="virtio-pci")
        name = f"vd{'abc'[place]}"
        machine.virtio(pci, name, "", 40 * GIB)
        _ends(machine, name)
    return machine


def multipath_asleep() -> Machine:
    """One disk by two paths, and no multipathd that would say so."""
    machine = _small()
    for place, name in enumerate(("sda", "sdb")):
        fibre = machine.pci(
            f"0000:81:00.{place}", "0c0400", "1077:2261", ("QLogic Corp.", "ISP2722"), driver="qla2xxx"
        )
        machine.disk(
            f"{fibre}/host{place}/rport-{place}:0-0/target{place}:0:0/{place}:0:0:1/block/{name}",
            500 * GIB,
            {
                "ID_WWN": "0x600508b1001c1111",
                "ID_WWN_WITH_EXTENSION": "0x600508b1001c1111222233334444aaaa",
                "ID_SERIAL": "3600508b1001c1111222233334444aaaa",
                "ID_SERIAL_SHORT": "600508b1001c1111222233334444aaaa",
                "ID_MODEL": "MSA2050_SAN",
                "DEVLINKS": "by-id/scsi-3600508b1001c1111222233334444aaaa by-id/wwn-0x600508b1001c1111222233334444aaaa "
                f"by-path/pci-0000:81:00.{place}-fc-0x2100-lun-1",
            },
        )
    return machine


def _three(machine: Machine, kind: str, signature: Mapping[str, str], *, whole: bool = False) -> list[str]:
    """Two disks with this signature on their first partition, or on all of them, and a blank one; gives what carries it."""
    ahci = _ahci(machine)
    carriers = []
    for port, name in enumerate(("sda", "sdb", "sdc"), start=1):
        mine = {key: value.format(port) for key, value in signature.items()} if port < 3 else {}
        disk = machine.sata(
            ahci, port, name, f"ZC1{port}0000", "ST1000NM0008", TIB, **(mine if whole else {})
        )
        if port < 3:
            carriers.append(disk if whole else machine.partition(disk, 1, 1, TIB - GIB, kind, **mine))
    return carriers


PV = {"ID_FS_TYPE": "LVM2_member", "ID_FS_UUID": "aaaaa{}-aB3d-eF5g-hI7j-kL9m-nO1p-qR3sTu"}
MD = {"ID_FS_TYPE": "linux_raid_member", "ID_FS_UUID": ARRAY, "ID_FS_LABEL": "box:data"}
ZFS = {"ID_FS_TYPE": "zfs_member", "ID_FS_UUID": POOL, "ID_FS_LABEL": "tank"}
BCACHE = {"ID_FS_TYPE": "bcache", "ID_FS_UUID": "7a6b5c4d-3e2f-4101-9283-74655647382{}"}


def stack_lvm(*, active: bool) -> Machine:
    """A volume group over two disks; asleep, only LVM's own metadata tells that they belong together."""
    machine = _small()
    parts = _three(machine, LINUX_TYPE, PV)
    for part in parts:
        machine.record.answers[f"volume group {part.rpartition('/')[2]}"] = f"{GROUP} data"
    if active:
        volume = machine.mapped(
            0, "data-vms", MAPPED_GROUP.format(1), TIB, parts[:1], ID_FS_TYPE="xfs", ID_FS_UUID=BTRFS
        )
        machine.mount("/srv", volume, "xfs")
    return machine


def stack_md(*, active: bool) -> Machine:
    """A mirror over two disks."""
    machine = _small()
    parts = _three(machine, RAID_TYPE, MD)
    if active:
        array = machine.array("md0", TIB, parts, MD_NAME="box:data", ID_FS_TYPE="ext4", ID_FS_UUID=BTRFS)
        machine.mount("/srv", array, "ext4")
    return machine


def stack_zpool(*, active: bool) -> Machine:
    """A pool of two disks."""
    machine = _small()
    _three(machine, "6a898cc3-1dd2-11b2-99a6-080020736631", ZFS)
    if active:
        machine.mount("/srv", "tank/vms", "zfs", "0:44")
    return machine


def stack_btrfs(*, active: bool) -> Machine:
    """A btrfs over two whole disks."""
    machine = _small()
    disks = _three(machine, "", {"ID_FS_TYPE": "btrfs", "ID_FS_UUID": BTRFS}, whole=True)
    if active:
        machine.mount("/srv", disks[0], "btrfs", "0:45")
    return machine


def stack_bcache(*, active: bool) -> Machine:
    """A disk cached by another; asleep, the signatures do not tell that they belong together."""
    machine = _small()
    disks = _three(machine, "", BCACHE, whole=True)
    if active:
        path = machine.bcache("bcache0", TIB, disks, ID_FS_TYPE="ext4", ID_FS_UUID=BTRFS)
        machine.mount("/srv", path, "ext4")
    return machine


def stack_crypt() -> Machine:
    """LUKS, open, with a volume group in it that reaches a second disk."""
    machine = _small()
    parts = _three(machine, LINUX_TYPE, {"ID_FS_TYPE": "crypto_LUKS", "ID_FS_UUID": LUKS[:-1] + "{}"})
    opened = [
        machine.mapped(
            place,
            f"secret{place}",
            f"CRYPT-LUKS2-{LUKS[:-1].replace('-', '')}{place}-secret{place}",
            TIB,
            [part],
            **{key: value.format(place) for key, value in PV.items()},
        )
        for place, part in enumerate(parts)
    ]
    volume = machine.mapped(
        2, "vault-vms", MAPPED_GROUP.format(2), TIB, opened, ID_FS_TYPE="ext4", ID_FS_UUID=BTRFS
    )
    machine.mount("/opt", volume, "ext4")
    return machine


def stack_swap() -> Machine:
    """Active swap."""
    machine = _small()
    parts = _three(machine, LINUX_TYPE, {"ID_FS_TYPE": "swap", "ID_FS_UUID": LUKS[:-1] + "{}"})
    machine.swap(parts[0])
    return machine


def stack_mounts() -> Machine:
    """A plain file system, mounted twice."""
    machine = _small()
    parts = _three(machine, LINUX_TYPE, {"ID_FS_TYPE": "ext4", "ID_FS_UUID": LUKS[:-1] + "{}"})
    machine.mount("/srv", parts[0], "ext4")
    machine.mount("/home", parts[0], "ext4")
    return machine


DISKS: dict[str, Callable[[], Machine]] = {
    "disks-in-order": partial(two_disks, "ab"),
    "disks-reordered": partial(two_disks, "ba"),
    "usb-bridge": usb_bridge,
    "usb-bridge-twins": usb_bridge_twins,
    "raid-controller": partial(raid_controller, wwn=True),
    "raid-controller-without-wwn": partial(raid_controller, wwn=False),
    "virtio-nameless": partial(virtio_nameless, 1),
    "virtio-nameless-pair": partial(virtio_nameless, 2),
    "multipath-asleep": multipath_asleep,
    "stack-lvm": partial(stack_lvm, active=True),
    "stack-lvm-asleep": partial(stack_lvm, active=False),
    "stack-md": partial(stack_md, active=True),
    "stack-md-asleep": partial(stack_md, active=False),
    "stack-zpool": partial(stack_zpool, active=True),
    "stack-zpool-asleep": partial(stack_zpool, active=False),
    "stack-btrfs": partial(stack_btrfs, active=True),
    "stack-btrfs-asleep": partial(stack_btrfs, active=False),
    "stack-bcache": partial(stack_bcache, active=True),
    "stack-bcache-asleep": partial(stack_bcache, active=False),
    "stack-crypt": stack_crypt,
    "stack-swap": stack_swap,
    "stack-mounts": stack_mounts,
}
"""Recorded machines by name, for `tests.machines.build`."""
