"""Whole disks by identity, with partitions, stacks and uses."""

from installer.kinds import HolderKind, Transport
from installer.probe.blocks import Block, Blocks, decoded
from installer.probe.draft import Disk, Filesystem, Health, Holder, Partition, Unknown
from installer.probe.mounts import SWAP
from installer.probe.pci import address_in
from installer.probe.root import Root
from installer.probe.stacks import stack

SECTOR = 512
"""sysfs counts sizes and starts in these bytes, whatever the disk's own sector is (sysfs-block)."""
NOT_DISKS = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "bcache", "nbd", "mtdblock", "drbd", "zd")
BY_NAME = {"nvme": Transport.nvme, "vd": Transport.virtio, "mmcblk": Transport.mmc}
BY_PATH = (
    ("/usb", Transport.usb),
    ("/rport-", Transport.fibre_channel),
    ("/session", Transport.iscsi),
    ("/ata", Transport.sata),
    ("/end_device-", Transport.sas),
)
KELVIN = 273
TELLING = frozenset({Transport.sata, Transport.sas, Transport.scsi, Transport.usb, Transport.fibre_channel})
"""Transports over which smartctl reaches a disk."""
SMART_WORDS = {
    "worn": "{} % worn",
    "reallocated": "{} sectors replaced",
    "pending": "{} sectors unreadable",
    "celsius": "{} °C",
}
"""What is told of a value that is not 0."""


def probe_disks(blocks: Blocks) -> tuple[Disk, ...]:
    """All disks that something could be installed on, sorted by transport, then by name."""
    found = [_disk(blocks, block) for block in blocks.all.values() if _is_disk(block)]
    return tuple(sorted(found, key=lambda disk: (disk.transport.value, len(disk.name), disk.name)))


def _is_disk(block: Block) -> bool:
    """Not a partition, nothing virtual, not empty (card readers), not a hidden path of NVMe multipath."""
    if block.name.startswith(NOT_DISKS) or "partition" in block.entries or not block.entries:
        return False
    return block.root.text(f"{block.path}/size") != "0" and block.root.text(f"{block.path}/hidden") != "1"


def _disk(blocks: Blocks, block: Block) -> Disk:
    root, path = block.root, block.path
    partitions = tuple(
        _partition(blocks, blocks.all[name]) for name in block.partitions if name in blocks.all
    )
    signature = blocks.signature(block)
    properties = block.udev
    links = properties.get("DEVLINKS", "").split()
    by_path = [
        link.removeprefix("/dev/disk/by-path/") for link in links if link.startswith("/dev/disk/by-path/")
    ]
    holders = stack(blocks, block)
    medium = block.name in blocks.medium
    wwn, serial = _wwn(block), _serial(block)
    rotational = root.number(f"{path}/queue/rotational")
    reason = root.why(f"{path}/queue/rotational")
    return Disk(
        name=block.name,
        wwn=wwn,
        serial=serial,
        by_id=tuple(
            sorted(
                link.removeprefix("/dev/disk/by-id/")
                for link in links
                if link.startswith("/dev/disk/by-id/")
            )
        ),
        model=_model(block),
        vendor=decoded(properties.get("ID_VENDOR_ENC")) or root.text(f"{path}/device/vendor") or None,
        transport=_transport(block),
        path=min(by_path, default=None),
        # Whoever has an identity is not read, let alone spun up, for a hash that nobody needs.
        ends=None if wwn or serial else root.ask("disk ends", block.name),
        pci_address=address_in(path),
        size=max(0, root.number(f"{path}/size") or 0) * SECTOR,
        logical_sector=root.number(f"{path}/queue/logical_block_size") or SECTOR,
        physical_sector=root.number(f"{path}/queue/physical_block_size") or SECTOR,
        rotational=Unknown(unknown_because=reason) if rotational is None else rotational == 1,
        removable=root.text(f"{path}/removable") == "1",
        read_only=root.text(f"{path}/ro") == "1",
        health=_health(block),
        table=properties.get("ID_PART_TABLE_TYPE") or ("unknown" if root.silent(f"{path}/ro") else None),
        filesystem=signature,
        partitions=partitions,
        holders=holders,
        install_medium=medium,
        in_use=tuple(dict.fromkeys(_uses(block.name, signature, holders, partitions, medium))),
    )


def _wwn(block: Block) -> str | None:
    properties = block.udev
    kernel = block.root.text(f"{block.path}/wwid")
    return properties.get("ID_WWN_WITH_EXTENSION") or properties.get("ID_WWN") or _kernel_wwn(block, kernel)


def _kernel_wwn(block: Block, name: str | None) -> str | None:
    """What the kernel itself knows: `eui.…`, `nvme.…` of a namespace, `naa.…` of a SCSI device."""
    name = name or block.root.text(f"{block.path}/device/wwid")
    if name is None:
        return None
    if name.startswith("naa."):
        return f"0x{name.removeprefix('naa.')}"
    return name if name.startswith(("eui.", "nvme.", "uuid.")) else None


def _serial(block: Block) -> str | None:
    """The device's own, as it gives it: virtio, NVMe and MMC through sysfs, SCSI and ATA through udev."""
    for attribute in ("serial", "device/serial"):
        if value := block.root.text(f"{block.path}/{attribute}"):
            return value
    for name in ("ID_SCSI_SERIAL", "ID_SERIAL_SHORT"):
        if value := block.udev.get(name):
            return value.strip() or None
    return None


def _model(block: Block) -> str | None:
    udev = decoded(block.udev.get("ID_MODEL_ENC"))
    return udev or block.root.text(f"{block.path}/device/model") or block.udev.get("ID_MODEL") or None


def _transport(block: Block) -> Transport:
    for prefix, transport in BY_NAME.items():
        if block.name.startswith(prefix):
            return transport
    if block.udev.get("ID_BUS") == "ata" and "/usb" not in block.path:
        return Transport.sata
    for part, transport in BY_PATH:
        if part in block.path:
            return transport
    if "/host" in block.path:
        return Transport.scsi
    return Transport.other if "/devices/" in block.path else Transport.unknown


def _health(block: Block) -> Health | Unknown:
    if block.name.startswith("nvme"):
        return _nvme_health(block)
    transport = _transport(block)
    if transport not in TELLING:
        return Unknown(unknown_because=f"disks on {transport} do not tell their health")
    told = block.root.ask("smart health", block.name)
    try:
        values = {name: int(value) for name, value in (word.split("=") for word in (told or "").split())}
    except ValueError:
        values = {}
    if values.get("asleep"):
        return Unknown(unknown_because="the disk sleeps, and was not woken")
    if "passed" not in values:
        return Unknown(unknown_because=f"SMART of {block.name} cannot be read (needs root and smartctl)")
    words = ["passed" if values["passed"] else "says that it is failing"]
    words += [form.format(values[name]) for name, form in SMART_WORDS.items() if values.get(name)]
    return Health(summary=", ".join(words), failing=not values["passed"])


def _nvme_health(block: Block) -> Health | Unknown:
    controller = block.root.target(f"{block.path}/device") or ""
    if controller.startswith("nvme-subsys"):
        parts = block.root.names(f"{block.path}/device")
        controller = next((name for name in parts if name.startswith("nvme") and name[4:].isdigit()), "")
    log = block.root.ask("nvme health", controller) if controller else None
    try:
        warning, low, high, _, _, worn = bytes.fromhex(log or "")
    except ValueError:
        return Unknown(
            unknown_because=f"the SMART log of {controller or block.name} cannot be read (needs root)"
        )
    state = f"critical warning {warning:#04x}" if warning else "passed"
    temperature = low + 256 * high - KELVIN
    return Health(summary=f"{state}, {worn} % worn, {temperature} °C", failing=bool(warning))


def _partition(blocks: Blocks, block: Block) -> Partition:
    root, path = block.root, block.path
    found = blocks.properties(block)
    return Partition(
        number=max(1, block.partition or 1),
        name=block.name,
        start=max(0, root.number(f"{path}/start") or 0) * SECTOR,
        size=max(0, root.number(f"{path}/size") or 0) * SECTOR,
        type_uuid=_lower(found.get("ID_PART_ENTRY_TYPE")),
        part_uuid=_lower(found.get("ID_PART_ENTRY_UUID")),
        label=decoded(found.get("ID_PART_ENTRY_NAME")),
        filesystem=blocks.signature(block),
        holders=stack(blocks, block),
    )


def _lower(text: str | None) -> str | None:
    return text.lower() if text else None


def _uses(
    name: str,
    signature: Filesystem | None,
    holders: tuple[Holder, ...],
    partitions: tuple[Partition, ...],
    medium: bool,
) -> list[str]:
    """Everything that uses a disk now, for a person."""
    found = [f"{name} carries the install medium"] if medium else []
    for where, contents, stacked in (
        (name, signature, holders),
        *((part.name, part.filesystem, part.holders) for part in partitions),
    ):
        if contents is not None:
            found += _points(where, contents.mountpoints)
        pending = [(where, holder) for holder in stacked]
        while pending:
            below, holder = pending.pop(0)
            if not holder.active:
                continue
            leaf = holder.kind in (HolderKind.filesystem, HolderKind.swap)
            if not leaf:
                found.append(f"{below} is part of {holder.kind.value} {holder.name}")
            found += _points(below if leaf else holder.name, holder.mountpoints)
            pending += [(holder.name, layer) for layer in holder.layers]
    return found


def _points(name: str, points: tuple[str, ...]) -> list[str]:
    return [
        f"{name} is active swap" if point == SWAP else f"{name} is mounted at {point}" for point in points
    ]


def by_root(root: Root) -> tuple[Disk, ...]:
    """All disks of a machine, for those who need nothing else: identities read again before a write."""
    return probe_disks(Blocks(root))
