"""Which disks and devices of a machine the answers mean: exactly those, or an error that shows all candidates."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from installer.answers.model import Answers, DiskSelector, PassthroughDevice
from installer.answers.problems import printable, shown
from installer.answers.sizes import format_size, parse_size
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.common import Unknown
from installer.facts.disks import Disk
from installer.facts.pci import IommuState, Passthrough, PciDevice


class Condition(NamedTuple):
    """One condition of a selector, held against one disk."""

    asked: str
    """As the answer file writes it, e.g. `serial = "S5GX"`."""
    found: str
    """What the disk has, or that it has none."""
    holds: bool
    """Whether it fits; never for a property that the disk lacks."""


def conditions(selector: DiskSelector, disk: Disk) -> tuple[Condition, ...]:
    """Every condition that the selector names, in its order."""
    return tuple(
        _TESTS[name](value, disk)
        for name, value in selector.model_dump(exclude={"count"}, exclude_none=True).items()
    )


def select_disks(selector: DiskSelector, facts: Facts, field: str = "storage.disk") -> tuple[Disk, ...]:
    """The disks that are meant: exactly `count`, writable, and told apart from all others.

    The install medium, read-only media and empty card readers are not candidates. A disk in use is one, so that
    of two disks that fit the free one is not taken by guess; that what uses a chosen one is freed first is for
    `installer.plan.reach` to see, which looks at all chosen disks together. `field` is what messages call the selector.
    Raises HyperError: Exit.selection, or Exit.busy for disks that fit but must not be touched.
    """
    fitting = [
        disk for disk in facts.disks if all(condition.holds for condition in conditions(selector, disk))
    ]
    barred = {disk.name: reason for disk in fitting if (reason := _barred(disk))}
    matched = [disk for disk in fitting if disk.name not in barred]
    if not matched and barred:
        raise _busy(fitting, barred, field)
    if len(matched) != selector.count:
        raise _wrong_count(selector, facts, matched, field)
    alike = _by_identity(facts.disks)
    for disk in matched:
        _require_told_apart(disk, facts, alike)
    return tuple(matched)


Identity = tuple[int, str | None, str | None]
"""Size, WWN, serial number."""


def _by_identity(disks: Iterable[Disk]) -> dict[Identity, list[Disk]]:
    """Disks by what is read again before a write: size, WWN and serial number, each also without one of the last two."""
    found: dict[Identity, list[Disk]] = {}
    for disk in disks:
        for identity in dict.fromkeys(
            ((disk.size, disk.wwn, disk.serial), (disk.size, disk.wwn, None), (disk.size, None, disk.serial))
        ):
            found.setdefault(identity, []).append(disk)
    return found


def _require_told_apart(disk: Disk, facts: Facts, alike: Mapping[Identity, list[Disk]]) -> None:
    """HyperError (Exit.selection) if reading its identity again before a write could take another disk for it: a
    bridge gives every disk one serial number, a controller all its volumes, or there are two paths to one disk.
    """
    if disk.wwn or disk.serial:
        same = alike[disk.size, disk.wwn or None, disk.serial or None]
        reason = "; ".join(
            f"{title(other)} has the same serial number, WWN and size"
            for other in same
            if other.name != disk.name
        )
    else:
        candidates = [other for other in facts.disks if other.name != disk.name and not _barred(other)]
        reason = _unpinned(disk, candidates)
    if reason:
        raise HyperError(
            f"{title(disk)} cannot be told from any other disk",
            why=reason,
            remedy="give a virtual disk a serial (QEMU: `-device virtio-blk-pci,serial=…`; libvirt: "
            "`<serial>…</serial>`); use another real disk, or another adapter for it, or take the other disks out "
            "until the host is installed",
            code=Exit.selection,
        )


def _unpinned(disk: Disk, candidates: list[Disk]) -> str:
    """Why a disk without serial number and WWN cannot be known by place and content; empty: it can."""
    nameless = "it has neither a WWN nor a serial number"
    if candidates:
        return (
            f"{nameless}, and kernel names such as {disk.name} change between boots; without a name it is taken only "
            f"if it is the only disk that could be meant, and there is also {', '.join(map(title, candidates))}"
        )
    if disk.path is None:
        return f"{nameless}, nor a name in /dev/disk/by-path by which its place would be known"
    if disk.ends is None:
        return f"{nameless}, and its first and last MiB, by which it would be known again, were not read (needs root)"
    return ""


def may_destroy(disk: Disk) -> bool:
    """Whether a disk is free, writable, not the install medium, and can be told from others."""
    return not _barred(disk) and not disk.in_use and bool(disk.wwn or disk.serial)


def telling(disk: Disk, facts: Facts) -> tuple[str, str]:
    """The condition that tells a disk from all others: its serial, unless another disk has the same."""
    serials = [other.serial for other in facts.disks]
    if disk.serial and serials.count(disk.serial) == 1:
        return "serial", disk.serial
    return ("wwn", disk.wwn) if disk.wwn else ("serial", disk.serial or "")


def title(disk: Disk) -> str:
    """A disk for a person: name now, model, size, serial."""
    serial = f"serial {disk.serial}" if disk.serial else "no serial"
    words = ", ".join(word for word in (disk.model, format_size(disk.size), serial) if word)
    return f"{disk.name} ({printable(words)})"


def _barred(disk: Disk) -> str | None:
    if disk.install_medium:
        return "carries the install medium"
    if disk.read_only:
        return "is read-only"
    return "has no medium in it" if disk.size == 0 else None


def _busy(disks: list[Disk], reasons: dict[str, str], field: str) -> HyperError:
    return HyperError(
        "the disk that the answers name must not be touched"
        if len(reasons) == 1
        else "the disks that the answers name must not be touched",
        why="\n".join(f"{title(disk)} {reasons[disk.name]}" for disk in disks if disk.name in reasons),
        remedy=f"name another disk in `{field}`, or free this one (unmount, stop what uses it) and run again",
        code=Exit.busy,
    )


def _wrong_count(selector: DiskSelector, facts: Facts, matched: list[Disk], field: str) -> HyperError:
    if not facts.disks:
        why = "this machine shows no disks at all"
        remedy = "check the disk's cable and the controller's mode (a RAID mode can hide NVMe disks), then `hv probe`"
    else:
        why = "\n".join(_candidate(selector, disk) for disk in facts.disks)
        remedy = f"correct `{field}`; a serial number or WWN fits exactly one disk"
    count = len(matched)
    number = "no disk" if count == 0 else "1 disk" if count == 1 else f"{count} disks"
    return HyperError(
        f"{field} matches {number}, must match exactly {selector.count}",
        why=why,
        remedy=remedy,
        code=Exit.selection,
    )


def _candidate(selector: DiskSelector, disk: Disk) -> str:
    """A disk with every condition: what fits and what does not."""
    held = conditions(selector, disk)
    reason = _barred(disk) or ("is in use: " + "; ".join(disk.in_use) if disk.in_use else None)
    verdict = "fits" if all(condition.holds for condition in held) else "does not fit"
    lines = [f"{title(disk)} {verdict}" + (f"; it {reason}" if reason else "")]
    lines += [
        f"  {'yes' if condition.holds else 'no '} {condition.asked}"
        + ("" if condition.holds else f": {condition.found}")
        for condition in held
    ]
    return "\n".join(lines)


def _equal(name: str, has: Callable[[Disk], str | None]) -> Callable[[str, Disk], Condition]:
    def test(asked: str, disk: Disk) -> Condition:
        value = has(disk)
        return Condition(f"{name} = {shown(asked)}", _found(value), value is not None and value == asked)

    return test


def _found(value: str | None) -> str:
    return "it has none" if value is None else f"it has {shown(value)}"


def _by_id(asked: str, disk: Disk) -> Condition:
    name = asked.removeprefix("/dev/disk/by-id/")
    found = "it has " + ", ".join(map(shown, disk.by_id)) if disk.by_id else "it has none"
    return Condition(f"by_id = {shown(asked)}", found, name in disk.by_id)


def _model(asked: str, disk: Disk) -> Condition:
    pattern = asked.replace("[", "[[]")  # `*` and `?` alone are wildcards
    return Condition(
        f"model = {shown(asked)}",
        _found(disk.model),
        disk.model is not None and fnmatchcase(disk.model.strip(), pattern.strip()),
    )


def _size(name: str, fits: Callable[[int, int], bool]) -> Callable[[str, Disk], Condition]:
    def test(asked: str, disk: Disk) -> Condition:
        return Condition(
            f"{name} = {shown(asked)}",
            f"it has {format_size(disk.size)}",
            fits(disk.size, parse_size(asked)),
        )

    return test


def _rotational(asked: bool, disk: Disk) -> Condition:
    has = disk.rotational
    found = f"unknown, because {has.unknown_because}" if isinstance(has, Unknown) else f"it has {shown(has)}"
    return Condition(f"rotational = {shown(asked)}", found, has is asked)


_TESTS: dict[str, Callable[..., Condition]] = {
    "serial": _equal("serial", lambda disk: disk.serial),
    "wwn": _equal("wwn", lambda disk: disk.wwn),
    "by_id": _by_id,
    "model": _model,
    "transport": _equal("transport", lambda disk: disk.transport.value),
    "size_min": _size("size_min", lambda size, limit: size >= limit),
    "size_max": _size("size_max", lambda size, limit: size <= limit),
    "rotational": _rotational,
}


class PassthroughChoice(NamedTuple):
    """A device for guests, as the machine has it."""

    device: PciDevice
    """What the answers name."""
    functions: tuple[PciDevice, ...]
    """Everything that goes along: the device and the rest of its IOMMU group, without bridges."""


def select_passthrough(
    answers: Answers, facts: Facts, targets: tuple[Disk, ...] = ()
) -> tuple[PassthroughChoice, ...]:
    """The devices to keep free for guests; `targets` are the disks that the host is installed on.

    Raises HyperError with every device refused and why: Exit.selection when one is named wrongly, else
    Exit.unsuitable when the machine or the host cannot spare it.
    """
    asked = answers.hypervisor.passthrough
    if asked and facts.iommu.state is not IommuState.on:
        raise HyperError(
            f"no device can be passed through: the IOMMU is {facts.iommu.state}",
            why="\n".join(facts.iommu.evidence) or "there are no IOMMU groups",
            remedy=_IOMMU_REMEDIES.get(facts.iommu.state, "remove `hypervisor.passthrough`"),
            code=Exit.unsuitable,
        )
    chosen = []
    refused: list[tuple[Exit, str]] = []
    for number, wanted in enumerate(asked):
        field = f"hypervisor.passthrough[{number}]"
        found = [device for device in facts.pci if _names(wanted, device)]
        if len(found) != 1:
            refused.append((Exit.selection, f"{field} {_wanted(wanted)} {_not_one(found, facts)}"))
            continue
        choice = _with_group(found[0], facts)
        refused += [
            (Exit.unsuitable, f"{field} {device_title(choice.device)}: {reason}")
            for reason in _conflicts(wanted, choice, targets)
        ]
        chosen.append(choice)
    if refused:
        codes = {code for code, _ in refused}
        raise HyperError(
            "devices that the answers name cannot be kept for guests",
            why="\n".join(reason for _, reason in refused),
            remedy="choose other devices: `hv probe` says of each whether a guest can have it, and why not",
            code=Exit.selection if Exit.selection in codes else Exit.unsuitable,
        )
    return tuple(chosen)


_IOMMU_REMEDIES = {
    IommuState.off_in_firmware: "switch VT-d or AMD-Vi (IOMMU) on in the firmware, or remove `hypervisor.passthrough`",
    IommuState.off_in_kernel: "start the live system with `intel_iommu=on` (Intel) or without `iommu=off`, or remove "
    "`hypervisor.passthrough`",
}


def device_title(device: PciDevice) -> str:
    """A device for a person: address, names, ids."""
    return (
        f"{device.address} {device.vendor_name} {device.device_name} [{device.vendor_id}:{device.device_id}]"
    )


def _names(wanted: PassthroughDevice, device: PciDevice) -> bool:
    if wanted.address is not None:
        full = wanted.address if wanted.address.count(":") == 2 else f"0000:{wanted.address}"
        return device.address == full
    return wanted.ids == f"{device.vendor_id}:{device.device_id}"


def _wanted(wanted: PassthroughDevice) -> str:
    return f"(address {wanted.address})" if wanted.address is not None else f"(ids {wanted.ids})"


def _not_one(found: list[PciDevice], facts: Facts) -> str:
    if found:
        return f"matches {len(found)} devices, give the address instead: " + ", ".join(
            map(device_title, found)
        )
    listed = [device_title(device) for device in facts.pci if not device.is_bridge]
    return "matches no device; there are:" + "".join(f"\n  {line}" for line in listed)


def _with_group(device: PciDevice, facts: Facts) -> PassthroughChoice:
    members = [
        other
        for other in facts.pci
        if other is device
        or (
            other.iommu_group == device.iommu_group
            and device.iommu_group is not None
            and not other.is_bridge
        )
    ]
    return PassthroughChoice(device, tuple(members))


def _conflicts(
    wanted: PassthroughDevice, choice: PassthroughChoice, targets: tuple[Disk, ...]
) -> Iterator[str]:
    device, functions = choice
    companions = [other for other in functions if other is not device]
    for other in functions:
        if other.passthrough.verdict is Passthrough.no:
            along = "" if other is device else f"{device_title(other)} of the same group: "
            yield along + ("; ".join(other.passthrough.reasons) or "cannot be passed through")
    if companions and not wanted.whole_group:
        names = ", ".join(map(device_title, companions))
        yield f"shares IOMMU group {device.iommu_group} with {names}, and `whole_group` is false"
    for disk in targets:
        if disk.pci_address in {other.address for other in functions}:
            yield f"is the controller of {title(disk)}, which the host is installed on"
