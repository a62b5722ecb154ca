"""Main memory."""

from installer.kinds import Verdict
from installer.probe.draft import Judgement, Memory, Unknown
from installer.probe.root import Root, number

EDAC = "/sys/devices/system/edac/mc"
DMI_ARRAY = "/sys/firmware/dmi/entries/16-0/raw"
HUGEPAGES = "/sys/kernel/mm/hugepages"
DMI_CORRECTION = {1: "other", 3: "none", 4: "parity", 5: "single-bit ECC", 6: "multi-bit ECC", 7: "CRC"}
"""Memory Array, Error Correction Types (SMBIOS specification 7.17.3)."""
CORRECTING = frozenset({5, 6})


def probe_memory(root: Root) -> Memory:
    """Main memory as the kernel has it; 0 bytes where /proc/meminfo cannot be read."""
    kibibytes = {}
    for line in (root.text("/proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        kibibytes[name] = number(rest.removesuffix("kB").strip())
    available = kibibytes.get("MemAvailable")
    reason = "/proc/meminfo gives no MemAvailable"
    if not kibibytes or root.silent("/proc/vmstat"):
        reason = root.why("/proc/meminfo")
    sizes = [number(name.removeprefix("hugepages-").removesuffix("kB")) for name in root.names(HUGEPAGES)]
    return Memory(
        total=(kibibytes.get("MemTotal") or 0) * 1024,
        available=Unknown(unknown_because=reason) if available is None else available * 1024,
        ecc=_ecc(root),
        hugepage_sizes=tuple(sorted(size * 1024 for size in sizes if size)),
    )


def _ecc(root: Root) -> Judgement:
    for controller in root.names(EDAC):
        if controller.startswith("mc") and controller != "mc":
            name = root.text(f"{EDAC}/{controller}/mc_name") or controller
            return Judgement(verdict=Verdict.yes, because=f"EDAC watches the memory controller {name}")
    table = root.data(DMI_ARRAY)
    if table is None or len(table) < 7:
        reason = f"no EDAC driver is loaded, and {root.why(DMI_ARRAY)}"
        return Judgement(verdict=Verdict.unknown, because=reason)
    kind = table[6]
    name = DMI_CORRECTION.get(kind, "unknown")
    verdict = (
        Verdict.unknown
        if name in ("unknown", "other")
        else Verdict.yes
        if kind in CORRECTING
        else Verdict.no
    )
    return Judgement(verdict=verdict, because=f"DMI says error correction of the memory array is {name}")
