"""Operating systems that are on the disks already, as far as signatures tell; nothing is mounted."""

from installer.probe.blocks import Blocks
from installer.probe.draft import Disk, InstalledSystem, Partition

TYPES = {
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": ("Windows", "Microsoft reserved"),
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": ("Windows", "Windows recovery environment"),
    "7c3457ef-0000-11aa-aa11-00306543ecac": ("macOS", "Apple APFS"),
    "48465300-0000-11aa-aa11-00306543ecac": ("macOS", "Apple HFS+"),
    "516e7cb4-6ecf-11d6-8ff8-00022d09712b": ("FreeBSD", "FreeBSD data"),
    "516e7cb6-6ecf-11d6-8ff8-00022d09712b": ("FreeBSD", "FreeBSD UFS"),
    "516e7cba-6ecf-11d6-8ff8-00022d09712b": ("FreeBSD", "FreeBSD ZFS"),
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": ("Linux", "Linux root (x86-64)"),
    "b921b045-1df0-41c3-af44-4c6f280d3fae": ("Linux", "Linux root (ARM 64-bit)"),
    "8484680c-9521-48c6-9c11-b0720656f69e": ("Linux", "Linux /usr (x86-64)"),
    "aa31e02a-400f-11db-9590-000c2911d1b8": ("VMware ESXi", "VMware VMFS"),
    "9d275380-40ad-11db-bf97-000c2911d1b8": ("VMware ESXi", "VMware kcore"),
}
"""GPT partition type to system and name of the type (Discoverable Partitions Specification; gdisk's list)."""
SIGNATURES = {"BitLocker": "Windows", "apfs": "macOS", "VMFS": "VMware ESXi"}
"""File system that only one system makes."""


def probe_systems(blocks: Blocks, disks: tuple[Disk, ...]) -> tuple[InstalledSystem, ...]:
    """In order of disks and partitions; one entry for each system on a disk, by its best evidence."""
    found: dict[tuple[str, str], InstalledSystem] = {}
    running = _running(blocks, disks)
    if running is not None:
        found[running.disk, running.name] = running
    for disk in disks:
        if disk.install_medium:
            continue
        for partition in disk.partitions:
            told = _told(partition)
            if told is not None and (disk.name, told[0]) not in found:
                if running is not None and disk.name == running.disk and told[0] in ("Linux", "NixOS"):
                    continue
                found[disk.name, told[0]] = InstalledSystem(
                    name=told[0], disk=disk.name, partition=partition.name, evidence=told[1], running=False
                )
    return tuple(found.values())


def _told(partition: Partition) -> tuple[str, str] | None:
    """System and evidence that a partition gives."""
    if partition.type_uuid in TYPES:
        name, kind = TYPES[partition.type_uuid]
        return name, f"partition type {kind}"
    if partition.filesystem is None:
        return None
    if partition.filesystem.kind in SIGNATURES:
        return SIGNATURES[partition.filesystem.kind], f"file system {partition.filesystem.kind}"
    label = partition.filesystem.label or ""
    if label.lower() == "nixos":
        return "NixOS", f"file system label {label} (weak: a label is only a name)"
    return None


def _running(blocks: Blocks, disks: tuple[Disk, ...]) -> InstalledSystem | None:
    """The running system, unless it is a live one."""
    if blocks.live:
        return None
    root = next((mount for mount in reversed(blocks.mounts) if mount.point == "/"), None)
    block = blocks.of_mount(root) if root else None
    names = {disk.name for disk in disks}
    carriers = sorted(blocks.disks_under(block.name) & names) if block else []
    if block is None or not carriers:
        return None
    release = blocks.root.text("/etc/os-release")
    fields = dict(line.split("=", 1) for line in (release or "").splitlines() if "=" in line)
    name = fields.get("PRETTY_NAME") or fields.get("NAME") or "Linux"
    return InstalledSystem(
        name=name.strip("\"'"),
        disk=carriers[0],
        partition=block.name if block.partition is not None else None,
        evidence="running system's /etc/os-release" if release else "running system",
        running=True,
    )
