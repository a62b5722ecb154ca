"""PCI functions kept free for guests, as far as planning adds to what the answers' own selection refuses."""

from installer.answers.model import Answers
from installer.answers.select import device_title, select_passthrough
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk


def kept_for_guests(facts: Facts, answers: Answers, disks: tuple[Disk, ...]) -> tuple[str, ...]:
    """Addresses of all functions to be bound to vfio-pci, in order: what the answers name, and its IOMMU groups.

    Raises:
        HyperError: no such device (Exit.selection), or one that the host needs or cannot give (Exit.unsuitable).
    """
    choices = select_passthrough(answers, facts, disks)
    kept = {function.address: function for choice in choices for function in choice.functions}
    names = {
        ethernet.match.mac.lower(): ethernet.name
        for ethernet in answers.network.ethernets
        if ethernet.match.mac
    }
    for nic in facts.nics:
        if nic.pci_address in kept and nic.mac in names:
            raise HyperError(
                f"{device_title(kept[nic.pci_address])} cannot be kept for guests",
                why=f"the host uses it as network interface {names[nic.mac]}",
                remedy="take it out of `hypervisor.passthrough`, or give the host another interface in `network`",
                code=Exit.unsuitable,
            )
    return tuple(sorted(kept))
