"""Job hardware: does the booted host find what was planned for? KVM, IOMMU, devices kept for guests.

A difference is a warning and never a failure: no VM of the hand-off takes a device, and one without KVM still runs,
slowly. What it means and what to do about it is said.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hv.firstrun.world import World
from installer.facts import Facts
from installer.handoff import Expectations, Handoff

VFIO = "vfio-pci"
KVM_REMEDIES = {
    "lacking": "guests run emulated, many times slower; use a processor with VT-x or AMD-V",
    "off in firmware": "switch on VT-x (Intel) or SVM (AMD) in the firmware setup",
    "module missing": "load kvm_intel or kvm_amd, and see `dmesg | grep -i kvm` for why it did not load",
    "nested guest": "let the outer hypervisor pass virtualization on",
    "unknown": "see `hv probe` for the evidence",
}
"""By state of the virtualization in the facts, other than `ready`."""
IOMMU_REMEDIES = {
    "absent": "no device can be passed through on this hardware",
    "off in firmware": "switch on VT-d (Intel) or AMD-Vi/IOMMU in the firmware setup",
    "unknown": "see `hv probe` for the evidence",
    "off in kernel": "boot with intel_iommu=on (Intel); amd_iommu must not be off (AMD)",
}
"""By state of the IOMMU in the facts, other than `on`."""


@dataclass(frozen=True)
class HardwareJob:
    """Compares."""

    expected: Expectations
    name: str = "hardware"
    requires: tuple[str, ...] = ()
    timeout: float = 120

    def applies(self, handoff: Handoff) -> str | None:  # noqa: ARG002
        """Always."""
        return None

    def run(self, world: World) -> None:
        """Probe, compare, and say every difference."""
        facts = world.probe(world.root)
        virtualization = facts.cpu.virtualization
        world.say(f"KVM: {virtualization.state} (planned: {self.expected.virtualization})")
        world.say(
            f"IOMMU: {facts.iommu.state}, {len(facts.iommu.groups)} groups (planned: {self.expected.iommu})"
        )
        for difference in differences(self.expected, facts):
            world.warn(difference)

    def verify(self, world: World) -> None:
        """The facts were the reading back; there is nothing this job changed."""


def differences(expected: Expectations, facts: Facts) -> Iterator[str]:
    """A sentence for each thing that is not as planned, with what to do."""
    state, evidence = facts.cpu.virtualization.state, "; ".join(facts.cpu.virtualization.evidence)
    if state != expected.virtualization:
        remedy = KVM_REMEDIES.get(state, "nothing: it is better than planned")
        yield f"KVM is {state}, planned was {expected.virtualization} ({evidence}): {remedy}"
    if facts.iommu.state != expected.iommu:
        remedy = IOMMU_REMEDIES.get(facts.iommu.state, "nothing: it is better than planned")
        yield (
            f"the IOMMU is {facts.iommu.state}, planned was {expected.iommu} "
            f"({'; '.join(facts.iommu.evidence)}): {remedy}"
        )
    devices = {device.address: device for device in facts.pci}
    for address in expected.passthrough:
        if address not in devices:
            yield f"{address}, kept for guests, is not there: was it moved or taken out? See `hv probe`"
            continue
        device = devices[address]
        if device.driver != VFIO:
            yield (
                f"{address} ({device.vendor_name} {device.device_name}) is bound to {device.driver or 'no driver'}, "
                f"planned was {VFIO}: no guest can have it; see `dmesg | grep -i vfio` and the kernel's command line"
            )
        elif device.iommu_group is None:
            yield f"{address} is bound to {VFIO} but has no IOMMU group: no guest can have it until the IOMMU is on"
