"""What of the machine a guest can be given: the verdict on each PCI function, with its reasons.

A group is viable for VFIO when everything in it except bridges can leave the host (docs.kernel.org, driver-api/vfio).
"""

from collections.abc import Iterable, Mapping

from installer.kinds import GpuKind, IommuState, Passthrough
from installer.probe.draft import (
    Disk,
    Gpu,
    Iommu,
    Nic,
    PassthroughVerdict,
    PciDevice,
    SerialConsole,
    Unknown,
)
from installer.probe.mounts import SWAP
from installer.probe.pci import AMD, slot

PLATFORM = {
    "05": "is a memory controller of the platform",
    "0601": "is the ISA bridge: firmware, timers and serial ports hang on it",
    "0680": "is a bridge of the platform",
    "08": "is a part of the platform",
    "0c05": "is the SMBus: memory modules and sensors hang on it",
}
"""Beginning of the class code to why the host keeps such a device."""
PORTABLE = ("0805",)
"""SD host controllers are of base class 08 and yet ordinary devices."""
NO_IOMMU = {
    IommuState.absent: "there is no IOMMU in this machine",
    IommuState.off_in_firmware: "the IOMMU is off: switch on VT-d or AMD-Vi (IOMMU) in the firmware settings",
    IommuState.off_in_kernel: "the kernel does not use the IOMMU: boot with intel_iommu=on (Intel) or without "
    "amd_iommu=off (AMD)",
    IommuState.unknown: "whether there is an IOMMU is unknown",
}


def held(
    devices: list[PciDevice],
    gpus: list[Gpu],
    disks: Iterable[Disk],
    nics: Iterable[Nic],
    serial_consoles: Iterable[SerialConsole],
) -> dict[str, list[str]]:
    """Address to why the host cannot do without it now."""
    reasons: dict[str, list[str]] = {}

    def hold(address: str | None, reason: str) -> None:
        if address is not None and reason not in reasons.setdefault(address, []):
            reasons[address].append(reason)

    for device in devices:
        if (reason := platform_part(device)) is not None:
            hold(device.address, reason)
    serial = [console.name for console in serial_consoles if console.active]
    for gpu in gpus:
        if gpu.kind is GpuKind.management:
            hold(gpu.address, "is the server's management display: remote consoles show it")
        elif gpu.only and not serial:
            hold(gpu.address, "is the only display, and no serial console is active")
    for disk in disks:
        if disk.install_medium:
            hold(disk.pci_address, f"carries the install medium ({disk.name})")
        elif "/" in _mountpoints(disk):
            hold(disk.pci_address, f"carries the root disk ({disk.name})")
        elif disk.in_use:
            hold(disk.pci_address, f"carries a disk in use ({disk.name})")
    cards = [nic for nic in nics if nic.pci_address is not None]
    for nic in cards:
        if len({other.pci_address for other in cards}) == 1:
            hold(nic.pci_address, f"is the only network card ({nic.name})")
        elif nic.default_route:
            hold(nic.pci_address, f"carries the default route ({nic.name})")
    return reasons


def platform_part(device: PciDevice) -> str | None:
    """Why a device is a part of the machine that no guest can have."""
    if device.class_code.startswith(PORTABLE):
        return None
    return next((reason for start, reason in PLATFORM.items() if device.class_code.startswith(start)), None)


def _mountpoints(disk: Disk) -> set[str]:
    """Everything mounted from a disk, through all stacks."""
    found: set[str] = set()
    pending = [*disk.holders, *(holder for partition in disk.partitions for holder in partition.holders)]
    for signature in (disk.filesystem, *(partition.filesystem for partition in disk.partitions)):
        found.update(signature.mountpoints if signature else ())
    while pending:
        holder = pending.pop()
        found.update(holder.mountpoints)
        pending += holder.layers
    return found - {SWAP}


def verdicts(
    devices: list[PciDevice],
    gpus: list[Gpu],
    iommu: Iommu,
    reasons: Mapping[str, list[str]],
    serial_consoles: Iterable[SerialConsole],
) -> dict[str, PassthroughVerdict]:
    """Address to verdict."""
    by_group: dict[int, list[PciDevice]] = {}
    for device in devices:
        if device.iommu_group is not None:
            by_group.setdefault(device.iommu_group, []).append(device)
    shown = {gpu.address: gpu for gpu in gpus}
    serial = [console.name for console in serial_consoles if console.active]
    return {
        device.address: _verdict(
            device,
            by_group,
            iommu,
            reasons,
            _cautions(device, devices, reasons, shown.get(device.address), serial),
        )
        for device in devices
    }


def _verdict(
    device: PciDevice,
    by_group: Mapping[int, list[PciDevice]],
    iommu: Iommu,
    reasons: Mapping[str, list[str]],
    cautions: tuple[str, ...],
) -> PassthroughVerdict:
    against = []
    companions = []
    if device.is_bridge:
        against.append("is a bridge")
    against += reasons.get(device.address, ())
    if iommu.state is not IommuState.on:
        against.append(NO_IOMMU[iommu.state])
    elif device.iommu_group is None:
        against.append("is in no IOMMU group")
    else:
        for other in by_group[device.iommu_group]:
            if other.address == device.address or other.is_bridge:
                continue
            for reason in reasons.get(other.address, ()):
                against.append(f"shares group {device.iommu_group} with {other.address}, which {reason}")
            companions.append(
                f"{other.address} ({other.class_name}) goes along: same group {device.iommu_group}"
            )
    if against:
        return PassthroughVerdict(verdict=Passthrough.no, reasons=tuple(against), cautions=cautions)
    if companions:
        return PassthroughVerdict(
            verdict=Passthrough.with_group, reasons=tuple(companions), cautions=cautions
        )
    alone = (f"is alone in group {device.iommu_group}",)
    return PassthroughVerdict(verdict=Passthrough.yes, reasons=alone, cautions=cautions)


def _cautions(
    device: PciDevice,
    devices: list[PciDevice],
    reasons: Mapping[str, list[str]],
    gpu: Gpu | None,
    serial: list[str],
) -> tuple[str, ...]:
    """What may still go wrong."""
    if device.is_bridge or platform_part(device) is not None:
        return ()
    found = []
    ids = device.vendor_id, device.device_id
    twins = [
        other.address
        for other in devices
        if (other.vendor_id, other.device_id) == ids
        and other.address != device.address
        and (other.address in reasons or slot(other.address) != slot(device.address))
    ]
    if twins:
        kept = next((f" ({twin} {reasons[twin][0]})" for twin in twins if twin in reasons), "")
        found.append(f"same ids {':'.join(ids)} as {', '.join(twins)}{kept}: bind by address, not by ids")
    if isinstance(device.reset_methods, Unknown):
        found.append("whether it can be reset is unknown")
    elif not device.reset_methods:
        found.append("has no reset method: a guest that stops may leave it unusable until the host restarts")
    elif gpu is not None and device.vendor_id == AMD and device.reset_methods == ("bus",):
        found.append("can only be reset through its bus: some AMD cards do not come back from that")
    if device.sriov_active:
        found.append(f"has {device.sriov_active} virtual functions in use")
    if gpu is not None and gpu.kind is not GpuKind.management:
        if gpu.only and serial:
            found.append(f"is the only display: the host is then left with the serial console {serial[0]}")
        elif gpu.boot:
            found.append("is the boot display: let the firmware start on another one")
    return tuple(found)


def gpu_verdict(gpu: Gpu, devices: list[PciDevice]) -> PassthroughVerdict:
    """The verdict over all functions of a display controller: yes when its groups hold nothing else."""
    functions = [device for device in devices if device.address in gpu.functions]
    own = [function for function in functions if not function.is_bridge]
    cautions = tuple(dict.fromkeys(caution for function in own for caution in function.passthrough.cautions))
    against = [
        reason if function.address == gpu.address else f"{function.address} {reason}"
        for function in own
        if function.passthrough.verdict is Passthrough.no
        for reason in function.passthrough.reasons
    ]
    if against:
        return PassthroughVerdict(verdict=Passthrough.no, reasons=tuple(against), cautions=cautions)
    groups = {function.iommu_group for function in own}
    others = [
        f"{device.address} ({device.class_name}) goes along: same group {device.iommu_group}"
        for device in devices
        if device.iommu_group in groups and device.address not in gpu.functions and not device.is_bridge
    ]
    if others:
        return PassthroughVerdict(verdict=Passthrough.with_group, reasons=tuple(others), cautions=cautions)
    numbers = ", ".join(str(group) for group in sorted(group for group in groups if group is not None))
    alone = f"its functions have group {numbers} to themselves"
    return PassthroughVerdict(verdict=Passthrough.yes, reasons=(alone,), cautions=cautions)
