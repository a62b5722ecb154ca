"""The examples become plans for recorded machines, and what a plan asks of stage 1 fits the machine."""

from pathlib import Path

import pytest

from installer.answers.load import load
from installer.answers.sizes import GIB
from installer.facts.disks import Transport
from installer.facts.firmware import FirmwareKind
from installer.plan.planner import make_plan
from tests import machines
from tests import plan_cases as cases

EXAMPLES = Path(__file__).parents[1] / "examples"
MACHINES = {
    "beside-windows.toml": "laptop-bitlocker",
    "encrypted-server-unattended.toml": "lab-uefi",
    "encrypted-remote.toml": "lab-uefi",
    "home-lab.toml": "lab-uefi",
    "workstation-passthrough.toml": "workstation",
    "fast-system-big-data.toml": "many-disks",
    "many-disks-zfs.toml": "many-disks",
    "mirror-btrfs-luks.toml": "many-disks",
    "mirror-md-lvm.toml": "many-disks",
}
MEDIUM = cases.medium(estimated_closure=GIB, images={"router": "/payload/images/router.qcow2"})


@pytest.mark.parametrize("name", [path.name for path in sorted(EXAMPLES.glob("*.toml"))])
def test_examples_become_plans(name: str) -> None:
    answers = load((EXAMPLES / name).read_bytes(), name)
    facts = machines.load(MACHINES[name])
    plan = make_plan(facts, answers, MEDIUM)
    assert plan == make_plan(facts, answers, MEDIUM)
    assert plan.hostname == answers.hostname
    assert bool(plan.host.luks) is answers.storage.encryption.enable
    assert len(plan.handoff.expectations.passthrough) >= len(answers.hypervisor.passthrough)
    assert [vm.name for vm in plan.handoff.vms] == [vm.name for vm in answers.first_run.vms]


@pytest.mark.parametrize(
    ("transport", "driver", "modules", "expected"),
    [
        (Transport.nvme, "nvme", (), {"nvme"}),
        (Transport.nvme, None, ("nvme",), {"nvme"}),
        (Transport.sata, "ahci", (), {"ahci", "sd_mod"}),
        (Transport.sata, "ata_piix", (), {"ata_piix", "sd_mod"}),
        (Transport.sata, None, (), {"ahci", "sd_mod"}),
        (Transport.sas, "megaraid_sas", (), {"megaraid_sas", "sd_mod"}),
        (
            Transport.scsi,
            "virtio-pci",
            ("virtio_pci", "virtio_scsi"),
            {"virtio_pci", "virtio_scsi", "sd_mod"},
        ),
        (Transport.virtio, "virtio-pci", ("virtio_pci", "virtio_blk"), {"virtio_pci", "virtio_blk"}),
        (Transport.usb, "xhci_hcd", (), {"xhci_pci", "usb_storage", "uas", "sd_mod"}),
        (Transport.unknown, "ehci-pci", (), {"ehci_pci"}),
    ],
)
def test_stage_one_has_what_reaches_the_disk(
    transport: Transport, driver: str | None, modules: tuple[str, ...], expected: set[str]
) -> None:
    controller = cases.pci("0000:01:00.0", "010000", driver, 14, modules=modules)
    facts = cases.machine(
        cases.blank_disk(transport=transport), firmware=FirmwareKind.uefi64, pci=(controller,)
    )
    plan = make_plan(facts, cases.answers(), cases.medium())
    (proof,) = next(step for step in plan.steps if step.id == "boot-loader").checks
    assert proof.kind == "boot-proof"
    assert set(proof.initrd_modules) == expected | {"ext4"}
    assert set(proof.initrd_modules) <= set(plan.host.initrd_modules)
