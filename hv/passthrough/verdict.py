"""Whether a device can go to a guest, and what goes along with it: the probe's verdicts, put together for one choice."""

import re
from dataclasses import dataclass

from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.pci import Gpu, PciDevice
from installer.kinds import Passthrough

ADDRESS = re.compile(r"^(?:([0-9a-f]{4,}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$")
"""Domain, bus, device and function; people leave the domain 0000 out, as lspci(8) does."""
VFIO = "vfio-pci"


@dataclass(frozen=True)
class Verdict:
    """The answer on one device."""

    allowed: bool
    """Whether a guest can have it."""
    reason: str
    """Why not, or what makes it possible; one line."""
    companions: tuple[str, ...]
    """Addresses that must leave the host with it: its IOMMU group without bridges, and a display's other functions."""


@dataclass(frozen=True)
class Function:
    """One PCI function that changes hands."""

    address: str
    """With its domain."""
    name: str
    """Vendor and model."""
    driver: str | None
    """Which has it now."""
    ids: str
    """Vendor and device, `10de:2204`; compared again right before the change."""
    group: int | None
    """IOMMU group."""


@dataclass(frozen=True)
class Handover:
    """What taking a device from the host comes to."""

    address: str
    """The one that was asked for."""
    functions: tuple[Function, ...]
    """It and its companions, by address."""
    losses: tuple[str, ...]
    """What the host can no longer use."""
    cautions: tuple[str, ...]
    """What may still go wrong."""
    node: int | None
    """The NUMA node that it hangs on."""

    @property
    def drivers(self) -> dict[str, str | None]:
        """Address to the driver that has it."""
        return {function.address: function.driver for function in self.functions}


def judge(facts: Facts, address: str) -> Verdict:
    """Whether a guest can have the device. Raises HyperError when there is none at the address."""
    device = find(facts, address)
    display = _display(facts, device.address)
    verdict = display.passthrough if display else device.passthrough
    if verdict.verdict is Passthrough.no:
        return Verdict(False, "; ".join(verdict.reasons), ())
    along = _companions(facts, device, display)
    for other in along:
        against = find(facts, other).passthrough
        if against.verdict is Passthrough.no:
            return Verdict(False, f"{other} would go along, and {'; '.join(against.reasons)}", ())
    return Verdict(True, "; ".join(verdict.reasons), along)


def plan(facts: Facts, address: str) -> Handover:
    """What goes along and what the host loses. Raises HyperError when a guest cannot have the device."""
    verdict = judge(facts, address)
    device = find(facts, address)
    if not verdict.allowed:
        raise HyperError(
            f"{device.address} ({_name(device)}) cannot go to a guest.",
            why=verdict.reason,
            remedy="Choose another device, or move what the host needs to another one; "
            "`hv passthrough list` shows each device's verdict.",
            code=Exit.unsuitable,
        )
    return _handover(facts, device, verdict.companions)


def set_of(facts: Facts, address: str) -> Handover:
    """The device with all that goes along, whether or not it could leave the host today; to give it back."""
    device = find(facts, address)
    return _handover(facts, device, _companions(facts, device, _display(facts, device.address)))


def _handover(facts: Facts, device: PciDevice, companions: tuple[str, ...]) -> Handover:
    chosen = sorted({device.address, *companions})
    devices = [find(facts, each) for each in chosen]
    functions = tuple(
        Function(
            each.address, _name(each), each.driver, f"{each.vendor_id}:{each.device_id}", each.iommu_group
        )
        for each in devices
    )
    return Handover(
        address=device.address,
        functions=functions,
        losses=tuple(_losses(facts, set(chosen))),
        cautions=tuple(dict.fromkeys(text for each in devices for text in each.passthrough.cautions)),
        node=device.numa_node,
    )


def find(facts: Facts, address: str) -> PciDevice:
    """The device at an address, with or without its domain. Raises HyperError."""
    parts = ADDRESS.match(address.lower())
    if parts is None:
        raise HyperError(
            f"{address!r} is no PCI address.",
            why="an address is bus:device.function in hexadecimal, 01:00.0, with or without its domain 0000: before it",
            remedy="See `hv passthrough list` for the addresses.",
            code=Exit.usage,
        )
    whole = f"{parts[1] or '0000'}:{parts[2]}:{parts[3]}.{parts[4]}"
    found = next((device for device in facts.pci if device.address == whole), None)
    if found is None:
        raise HyperError(
            f"There is no device at {whole}.",
            why="it was moved or taken out, or the address is another machine's",
            remedy="See `hv passthrough list` for what there is.",
            code=Exit.selection,
        )
    return found


def _name(device: PciDevice) -> str:
    return f"{device.vendor_name} {device.device_name}"


def _display(facts: Facts, address: str) -> Gpu | None:
    """The display controller that a function is a part of: its picture, sound and USB-C go together."""
    return next((gpu for gpu in facts.gpus if address in gpu.functions), None)


def _companions(facts: Facts, device: PciDevice, display: Gpu | None) -> tuple[str, ...]:
    own = {device.address, *(display.functions if display else ())}
    groups = {each.iommu_group for each in facts.pci if each.address in own and not each.is_bridge}
    along = own | {
        each.address
        for each in facts.pci
        if each.iommu_group is not None and each.iommu_group in groups and not each.is_bridge
    }
    return tuple(sorted(along - {device.address}))


def _losses(facts: Facts, addresses: set[str]) -> list[str]:
    found = [f"the network card {nic.name}" for nic in facts.nics if nic.pci_address in addresses]
    found += [f"the disk {disk.name}" for disk in facts.disks if disk.pci_address in addresses]
    found += [f"the display {gpu.name}" for gpu in facts.gpus if gpu.address in addresses]
    # What a guest has already the host lost before.
    return [loss for loss in found if loss]
