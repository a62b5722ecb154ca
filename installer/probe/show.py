"""Facts for people: lines of at most 80 columns, one block for each topic."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from textwrap import wrap

from installer.kinds import GpuKind, HolderKind, Passthrough, Verdict
from installer.probe.draft import Disk, Facts, Filesystem, Gpu, Holder, Judgement, Nic, PciDevice, Unknown
from installer.probe.passthrough import NO_IOMMU, platform_part

WIDTH = 80
LABEL = 16
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
MARKS = {Passthrough.yes: "good", Passthrough.with_group: "fair", Passthrough.no: "bad"}

COMPANY = (" Co Ltd", " Corporation", " Corp.", ", Inc.", " Electronics")
"""Endings of vendors' names that tell nothing, in the order they are taken off."""

Line = tuple[str, str]
"""Style (`title`, `plain`, `quiet`, `good`, `fair`, `bad`) and text."""


def lines(facts: Facts, topics: Iterable[str] = ()) -> list[Line]:
    """The topics named (keys of `TOPICS`), or all."""
    found: list[Line] = []
    for topic, block in TOPICS.items():
        if topics and topic not in topics:
            continue
        if found:
            found.append(("plain", ""))
        found += [(style, clean(text)) for style, text in block(facts)]
    return found


def clean(text: str) -> str:
    """What a device says of itself must not steer the terminal; and no line is wider than 80 columns."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    width = 0
    for place, character in enumerate(shown):
        width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width > WIDTH:
            return shown[: place - 1] + "…"
    return shown.rstrip()


def size(count: int) -> str:
    """Bytes in the unit that leaves one to four digits."""
    amount = float(count)
    for unit in UNITS:
        if amount < 1024 or unit == UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.3g} {unit}"
        amount /= 1024
    raise AssertionError(count)


def _field(label: str, text: str, style: str = "plain") -> Iterator[Line]:
    """A label, and the text beside it, wrapped."""
    folded = wrap(text, WIDTH - LABEL - 2, break_on_hyphens=False) or [""]
    yield style, f"  {label:<{LABEL}}{folded[0]}"
    for more in folded[1:]:
        yield style, " " * (LABEL + 2) + more


def _below(text: str, style: str = "quiet", indent: int = 4, *, sign: str = "") -> Iterator[Line]:
    start = " " * indent + sign
    folded = wrap(text, WIDTH - len(start), break_on_hyphens=False)
    for place, part in enumerate(folded):
        yield style, (start if place == 0 else " " * len(start)) + part


def _judged(judgement: Judgement) -> str:
    return f"{judgement.verdict}: {judgement.because}"


def _machine(facts: Facts) -> Iterator[Line]:
    firmware = facts.firmware
    yield "title", "MACHINE"
    names = [name for name in (firmware.vendor, firmware.product) if not isinstance(name, Unknown)]
    yield from _field("Model", " ".join(names) or "unknown")
    guest = f", guest of {firmware.hypervisor}" if firmware.hypervisor else ""
    yield from _field("Kind", f"{firmware.chassis}{guest}")
    yield from _field("Firmware", firmware.kind)
    yield from _field("Secure Boot", _judged(firmware.secure_boot))
    if firmware.setup_mode.verdict is Verdict.yes:
        yield from _field("Setup mode", _judged(firmware.setup_mode), "fair")
    tpm = firmware.tpm
    yield from _field("TPM", "none found" if tpm is None else f"version {tpm.version} ({tpm.device})")
    if asleep := firmware.hibernation:
        yield from _field(
            "Hibernates", f"{asleep.system or 'a system'}, its memory in {asleep.uuid}", "fair"
        )
    ports = [
        f"{port.name}{' (console' + (f' at {port.speed}' if port.speed else '') + ')' if port.active else ''}"
        for port in firmware.serial_consoles
    ]
    yield from _field("Serial ports", ", ".join(ports) or "none found")
    memory = facts.memory
    available = "" if isinstance(memory.available, Unknown) else f", {size(memory.available)} available"
    yield from _field("Memory", f"{size(memory.total)}{available}")
    yield from _field("ECC", _judged(memory.ecc))
    yield from _field("Huge pages", ", ".join(size(pages) for pages in memory.hugepage_sizes) or "unknown")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _processor(facts: Facts) -> Iterator[Line]:
    cpu = facts.cpu
    yield "title", "PROCESSOR"
    yield from _field("Model", f"{cpu.model} ({cpu.architecture})")
    parts = (
        (cpu.sockets, "socket"),
        (cpu.cores, "core"),
        (cpu.threads, "thread"),
        (cpu.numa_nodes, "NUMA node"),
    )
    yield from _field("Topology", ", ".join(_count(number, word) for number, word in parts))
    state = cpu.virtualization.state
    yield from _field("Virtualization", state, "good" if state in ("ready", "nested guest") else "bad")
    for evidence in cpu.virtualization.evidence:
        yield from _below(evidence, indent=LABEL + 2, sign="- ")
    yield from _field("Features", ", ".join(f"{name} {judged.verdict}" for name, judged in _features(facts)))


def _features(facts: Facts) -> tuple[tuple[str, Judgement], ...]:
    cpu = facts.cpu
    return (
        ("EPT/NPT", cpu.second_level_paging),
        ("nested", cpu.nested),
        ("APICv/AVIC", cpu.apic_virtualization),
        ("1-GiB-pages", cpu.pages_1gib),
        ("SEV", cpu.sev),
        ("SEV-ES", cpu.sev_es),
        ("SEV-SNP", cpu.sev_snp),
        ("TDX", cpu.tdx),
    )


def _iommu(facts: Facts) -> Iterator[Line]:
    iommu = facts.iommu
    yield "title", "IOMMU"
    yield from _field("State", iommu.state, "good" if iommu.state == "on" else "bad")
    for evidence in iommu.evidence:
        yield from _below(evidence, indent=LABEL + 2, sign="- ")
    if iommu.units:
        yield from _field("Units", ", ".join(iommu.units))


def _graphics(facts: Facts) -> Iterator[Line]:
    yield "title", "GRAPHICS"
    for gpu in facts.gpus:
        yield "plain", f"  {gpu.address}  {gpu.name}"
        yield from _below(", ".join(_about(gpu)))
        yield from _verdict(gpu)
    if not facts.gpus:
        yield "quiet", "  none found"


def _short(vendor: str) -> str:
    """`AMD` of `Advanced Micro Devices, Inc. [AMD]`, `Intel` of `Intel Corporation`."""
    if vendor.endswith("]") and "[" in vendor:
        return vendor[vendor.rindex("[") + 1 : -1]
    for suffix in COMPANY:
        vendor = vendor.removesuffix(suffix)
    return vendor


def _about(gpu: Gpu) -> Iterator[str]:
    yield gpu.kind if gpu.kind is not GpuKind.management else "server management"
    if gpu.boot:
        yield "boot display"
    if gpu.only:
        yield "the only one"
    if gpu.connectors:
        yield f"screens on {', '.join(gpu.connectors)}"


def _verdict(device: Gpu | PciDevice, shown_once: Iterable[str] = ()) -> Iterator[Line]:
    """Whether a guest can have it, and why; what may go wrong is told of what can be given."""
    found = device.passthrough
    reasons = [reason for reason in found.reasons if reason not in shown_once]
    if not reasons:
        return
    start = f"pass through: {found.verdict}, "
    style = MARKS[found.verdict]
    for place, reason in enumerate(reasons):
        yield from _below(reason, style, indent=4, sign=start if place == 0 else " " * len(start))
    for caution in found.cautions if found.verdict is not Passthrough.no else ():
        yield from _below(caution, sign="caution: ")


def _disks(facts: Facts) -> Iterator[Line]:
    yield "title", "DISKS"
    for disk in facts.disks:
        model = " ".join(word for word in (disk.model,) if word) or "no model"
        yield "plain", f"  {disk.name:<10}{size(disk.size):>9}  {disk.transport:<7} {model}"
        serial = f"serial {disk.serial}" if disk.serial else "no serial"
        yield from _below(f"{serial}{', ' + disk.wwn if disk.wwn else ''}")
        yield from _below(_condition(disk))
        # What is part of what shows below, in the stack; here is what would break.
        ends = [use for use in disk.in_use if " is part of " not in use]
        for use in ends or disk.in_use:
            yield from _below(use, "bad", sign="in use: ")
        if disk.filesystem is not None:
            yield from _below(_signature(disk.filesystem))
        yield from _stack(disk.holders, 4)
        for part in disk.partitions:
            contents = _signature(part.filesystem) if part.filesystem else "no signature"
            label = f" [{part.label}]" if part.label else ""
            yield "plain", f"    {part.name:<12}{size(part.size):>9}  {contents}{label}"
            yield from _stack(part.holders, 6)
    if not facts.disks:
        yield "quiet", "  none found"


def _condition(disk: Disk) -> str:
    kind = "unknown medium"
    if not isinstance(disk.rotational, Unknown):
        kind = "hard disk" if disk.rotational and disk.transport != "virtio" else "solid state"
        kind = "virtual disk" if disk.transport == "virtio" else kind
    health = "health unknown" if isinstance(disk.health, Unknown) else f"health {disk.health.summary}"
    sectors = f"sectors of {disk.logical_sector}/{disk.physical_sector} bytes"
    words = [kind, f"table {disk.table}" if disk.table else "no partition table", sectors, health]
    words += ["removable"] if disk.removable else []
    words += ["read-only"] if disk.read_only else []
    return ", ".join(words)


def _signature(found: Filesystem) -> str:
    label = f" {found.label!r}" if found.label else ""
    points = f" at {', '.join(found.mountpoints)}" if found.mountpoints else ""
    return f"{found.kind}{label}{points}"


def _stack(holders: Iterable[Holder], indent: int) -> Iterator[Line]:
    for holder in holders:
        name = holder.name if holder.kind not in (HolderKind.filesystem, HolderKind.swap) else ""
        kind = holder.kind if name else holder.name
        idle = "" if holder.active or not name else ", not active"
        points = f" at {', '.join(holder.mountpoints)}" if holder.mountpoints else ""
        spans = f", also on {', '.join(holder.spans)}" if holder.spans else ""
        yield from _below(f"{kind} {name}{points}{spans}{idle}", "fair", indent=indent, sign="> ")
        yield from _stack(holder.layers, indent + 2)


def _network(facts: Facts) -> Iterator[Line]:
    yield "title", "NETWORK"
    for nic in facts.nics:
        yield (
            "plain",
            f"  {nic.name:<14}{nic.mac or 'no address':<19}{nic.driver or 'no driver':<12}{_link(nic)}",
        )
        words = (
            [f"always {nic.permanent_name}"] if nic.permanent_name and nic.permanent_name != nic.name else []
        )
        words += ["Wi-Fi"] if nic.wireless else []
        words += [f"{nic.sriov_total} virtual functions"] if nic.sriov_total else []
        words += list(nic.addresses)
        words += ["default route"] if nic.default_route else []
        yield from _below(", ".join(words))
    if not facts.nics:
        yield "quiet", "  none found"


def _link(nic: Nic) -> str:
    if isinstance(nic.link, Unknown):
        return "link unknown"
    if not nic.link:
        return "no link"
    return "link" if isinstance(nic.speed, Unknown) else f"{nic.speed} Mbit/s"


def _systems(facts: Facts) -> Iterator[Line]:
    yield "title", "SYSTEMS ON THE DISKS"
    for system in facts.systems:
        where = system.partition or system.disk
        running = ", running now" if system.running else ""
        yield "plain", f"  {where:<14}{system.name}{running}"
        yield from _below(system.evidence, indent=16)
    if not facts.systems:
        yield "quiet", "  none found"


def _passthrough(facts: Facts) -> Iterator[Line]:
    """Devices by IOMMU group; bridges and parts of the platform are only counted."""
    yield "title", "WHAT GUESTS CAN BE GIVEN"
    kept = [device for device in facts.pci if device.is_bridge or platform_part(device) is not None]
    others = [device for device in facts.pci if device not in kept]
    general = NO_IOMMU.get(facts.iommu.state, "")
    if general and others:
        yield from _below(f"no device: {general}", "bad", indent=2)
    for device in others:
        group = "no group" if device.iommu_group is None else f"group {device.iommu_group}"
        driver = f", {device.driver}" if device.driver else ""
        yield "plain", f"  {device.address}  {_short(device.vendor_name)} {device.device_name}"
        yield "quiet", f"    {device.class_name} [{device.vendor_id}:{device.device_id}]{driver}, {group}"
        yield from _verdict(device, (general,))
    if kept:
        yield (
            "quiet",
            f"  and {_count(len(kept), 'bridge')} or part{'' if len(kept) == 1 else 's'} of the platform",
        )
    if not facts.pci:
        yield "quiet", "  no PCI devices found"


TOPICS: Mapping[str, Callable[[Facts], Iterator[Line]]] = {
    "machine": _machine,
    "processor": _processor,
    "iommu": _iommu,
    "graphics": _graphics,
    "disks": _disks,
    "network": _network,
    "systems": _systems,
    "passthrough": _passthrough,
}
"""Name of each topic to what prints it, in order."""
