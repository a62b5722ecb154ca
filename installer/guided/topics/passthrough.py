"""Devices for guests: each explained in terms of this machine, those that cannot go too."""

from collections.abc import Iterator
from typing import Any

from installer.answers.select import device_title
from installer.answers.select import title as disk_title
from installer.facts import Facts
from installer.facts.pci import Gpu, IommuState, Passthrough, PciDevice
from installer.guided.questions import Dialogue, Many, Notice, Option
from installer.guided.situation import Situation
from installer.guided.told import told
from installer.guided.topics import disk_choice
from installer.guided.words import _

KINDS = ("01", "02", "03", "04", "0b", "0c03", "12")
"""Classes of devices that people hand to guests: storage, network, display, sound, processors, USB, accelerators."""


def title() -> str:
    """For the head of the page."""
    return _("Devices for guests")


def dialogue(situation: Situation) -> Dialogue:
    """Which devices the host keeps its hands off."""
    facts = situation.facts
    if facts.iommu.state is not IommuState.on:
        yield Notice(
            title=_("No device can be handed to guests"),
            prompt=_("Noted?"),
            lines=(
                _("The IOMMU is {state}: {evidence}.").format(
                    state=told(facts.iommu.state), evidence="; ".join(map(told, facts.iommu.evidence))
                ),
                _(
                    "Way on: switch VT-d or AMD-Vi on in the firmware's set-up; the host can be changed later."
                ),
            ),
        )
        return {("hypervisor", "passthrough"): None}
    devices = [
        device for device in facts.pci if device.class_code.startswith(KINDS) and not device.is_bridge
    ]
    options = tuple(
        Option(device.address, _named(device), _refused(device) or _needed(device, situation))
        for device in devices
    )
    if not any(option.refused is None for option in options):
        yield Notice(
            title=_("No device can be handed to guests"),
            prompt=_("Noted?"),
            lines=tuple(f"{option.title}: {option.refused}" for option in options),
        )
        return {("hypervisor", "passthrough"): None}
    chosen = yield Many(
        title=_("Devices for guests"),
        prompt=_("Which devices does the host leave to guests?"),
        lines=(
            *_gpus(facts),
            _("Recommended: none, unless you know which guest shall have it. It can be changed later."),
        ),
        more=(
            _(
                "A guest that has a device of its own uses it at full speed, a graphics card for example. The "
                "host cannot use it then. The IOMMU keeps such a device from the memory of others; devices of one "
                "group can only go together."
            ),
        ),
        options=options,
        field=("hypervisor", "passthrough"),
    )
    return {
        ("hypervisor", "passthrough"): [{"address": address} for address in _leaders(chosen, facts)] or None
    }


def _leaders(chosen: tuple[Any, ...], facts: Facts) -> Iterator[str]:
    """One device for each group: the rest of its group goes along by itself."""
    seen: set[int | None] = set()
    for device in facts.pci:
        if device.address in chosen and (device.iommu_group is None or device.iommu_group not in seen):
            seen.add(device.iommu_group)
            yield device.address


def _named(device: PciDevice) -> str:
    return f"{device.address.removeprefix('0000:')} {device.vendor_name} {device.device_name}"


def _refused(device: PciDevice) -> str | None:
    if device.passthrough.verdict is not Passthrough.no:
        return None
    return "; ".join(map(told, device.passthrough.reasons)) or _("The host needs it.")


def _needed(device: PciDevice, situation: Situation) -> str | None:
    """What the answers so far need a device, or something of its group, for."""
    group = {
        each.address
        for each in situation.facts.pci
        if each is device or (each.iommu_group == device.iommu_group is not None and not each.is_bridge)
    }
    for disk in disk_choice.chosen(situation):
        if disk.pci_address in group:
            return _("{disk} hangs on it, which the host is installed on.").format(disk=disk_title(disk))
    macs = {each["match"].get("mac") for each in situation.said("network", "ethernets", default=())}
    for nic in situation.facts.nics:
        if nic.pci_address in group and nic.mac in macs:
            return _("It is the network port {name}, which you gave to the host.").format(name=nic.name)
    return None


def _gpus(facts: Facts) -> Iterator[str]:
    """What is worth knowing of each graphics card."""
    by_address = {device.address: device for device in facts.pci}
    for gpu in facts.gpus:
        device = by_address.get(gpu.address)
        if device is not None:
            yield " ".join(_gpu(gpu, device, facts))


def _gpu(gpu: Gpu, device: PciDevice, facts: Facts) -> Iterator[str]:
    others = [
        each
        for each in facts.pci
        if each.iommu_group == device.iommu_group and each.address != device.address and not each.is_bridge
    ]
    own = [each for each in others if each.address in gpu.functions]
    if device.iommu_group is None:
        yield _("{name} is in no IOMMU group.").format(name=gpu.name)
    elif not others:
        yield _("{name} is alone in IOMMU group {group}.").format(name=gpu.name, group=device.iommu_group)
    elif len(own) == len(others):
        yield _("{name} shares IOMMU group {group} with its own other functions only.").format(
            name=gpu.name, group=device.iommu_group
        )
    else:
        yield _("{name} shares IOMMU group {group} with {others}: all of it goes, or nothing.").format(
            name=gpu.name,
            group=device.iommu_group,
            others=", ".join(device_title(each) for each in others if each not in own),
        )
    match gpu.passthrough.verdict:
        case Passthrough.no:
            yield _("It cannot be handed over: {reasons}.").format(
                reasons="; ".join(map(told, gpu.passthrough.reasons))
            )
        case _ if gpu.only:
            yield _("It is also the only display: the host's console would be the serial line alone.")
        case _:
            yield _("It can be handed over.")
    if gpu.passthrough.cautions:
        yield _("Mind: {cautions}.").format(cautions="; ".join(map(told, gpu.passthrough.cautions)))
