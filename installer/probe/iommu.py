"""The IOMMU: state, units, groups."""

from installer.kinds import IommuState
from installer.probe.cpu import Processors
from installer.probe.draft import Iommu, IommuGroup, Unknown
from installer.probe.pci import is_address
from installer.probe.root import Root, number

GROUPS = "/sys/kernel/iommu_groups"
TABLES = "/sys/firmware/acpi/tables"
FIRMWARE_TABLES = {"DMAR": "Intel VT-d", "IVRS": "AMD-Vi"}
CERTAIN_FLAGS = {
    "GenuineIntel": ("clflushopt", "every Intel processor since Skylake has VT-d"),
    "AuthenticAMD": ("clzero", "every AMD processor since Zen has AMD-Vi"),
}
"""Vendor to a cpuinfo flag that came with or after an IOMMU in the whole line."""
PARAMETERS = ("intel_iommu=", "amd_iommu=", "iommu=")


def probe_iommu(root: Root, cpus: Processors, guest_of: str | None) -> Iommu:
    """State and groups."""
    groups = []
    for name in root.names(GROUPS):
        group = number(name)
        if group is not None and group >= 0:
            members = [member for member in root.names(f"{GROUPS}/{name}/devices") if is_address(member)]
            kind = root.text(f"{GROUPS}/{name}/type")
            reason = root.why(f"{GROUPS}/{name}/type")
            groups.append(
                IommuGroup(
                    number=group, kind=kind or Unknown(unknown_because=reason), members=tuple(members)
                )
            )
    groups.sort(key=lambda group: group.number)
    state, evidence = _state(root, len(groups), cpus, guest_of)
    return Iommu(state=state, evidence=evidence, units=root.names("/sys/class/iommu"), groups=tuple(groups))


def _state(
    root: Root, groups: int, cpus: Processors, guest_of: str | None
) -> tuple[IommuState, tuple[str, ...]]:
    tables = [name for name in root.names(TABLES) if name in FIRMWARE_TABLES]
    given = [f"the firmware gives the table {name} ({FIRMWARE_TABLES[name]})" for name in tables]
    if groups:
        return IommuState.on, (f"{groups} groups in {GROUPS}", *given)
    if root.silent(GROUPS) or root.silent(TABLES):
        return IommuState.unknown, (root.why(GROUPS),)
    evidence = ["there are no IOMMU groups", *given]
    if tables:
        words = [word for word in (root.text("/proc/cmdline") or "").split() if word.startswith(PARAMETERS)]
        evidence.append(f"kernel parameters: {' '.join(words) or 'none about the IOMMU'}")
        return IommuState.off_in_kernel, tuple(evidence)
    evidence.append("the firmware gives neither a DMAR nor an IVRS table")
    if guest_of is not None:
        evidence.append(f"the hypervisor ({guest_of}) emulates none")
        return IommuState.absent, tuple(evidence)
    flag, sign = CERTAIN_FLAGS.get(cpus.first.get("vendor_id", ""), ("", ""))
    if flag in cpus.flags:
        evidence.append(f"cpuinfo flag {flag}: {sign}")
        return IommuState.off_in_firmware, tuple(evidence)
    evidence.append("nothing says that the processor has one")
    return IommuState.absent, tuple(evidence)
