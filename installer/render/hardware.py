"""hardware-configuration.nix: what this machine needs of kernel, initrd and firmware."""

from installer.answers.model import Answers
from installer.facts import Facts
from installer.facts.cpu import VirtualizationState
from installer.facts.pci import IommuState
from installer.medium import Medium
from installer.plan.model import Plan
from installer.render.nix import Nix, default

KEYBOARD_MODULES = ("hid_generic", "usbhid")
"""For the passphrase prompt; the plan has the modules of the controllers."""
GUEST_MODULES = ("virtio_blk", "virtio_net", "virtio_pci", "virtio_scsi")
"""What a guest of QEMU needs, whichever of its controllers it gets later (nixpkgs' profiles/qemu-guest.nix)."""
QEMU = {"bochs", "kvm", "qemu"}
VENDORS = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}
"""cpuid's vendor to NixOS's name."""


def hardware(facts: Facts, answers: Answers, plan: Plan, medium: Medium) -> dict[str, Nix]:
    """Options that follow from the machine."""
    vendor = VENDORS.get(facts.cpu.vendor)
    physical = facts.firmware.hypervisor is None
    can_virtualize = facts.cpu.virtualization.state is not VirtualizationState.lacking
    boot: dict[str, Nix] = {
        "initrd": {"availableKernelModules": initrd_modules(facts, plan)},
        "kernelParams": kernel_params(facts, answers),
    }
    if vendor and can_virtualize:
        boot["kernelModules"] = [f"kvm-{vendor}"]
    options: dict[str, Nix] = {"nixpkgs": {"hostPlatform": default(medium.system)}, "boot": boot}
    if physical:
        microcode: dict[str, Nix] = {"cpu": {vendor: {"updateMicrocode": True}}} if vendor else {}
        options["hardware"] = {"enableRedistributableFirmware": True, **microcode}
    return options


def initrd_modules(facts: Facts, plan: Plan) -> list[str]:
    """Modules that stage 1 may load: what the plan says reaches the root, and keyboards. Sorted."""
    guest = GUEST_MODULES if facts.firmware.hypervisor in QEMU else ()
    return sorted({*plan.host.initrd_modules, *KEYBOARD_MODULES, *guest})


def kernel_params(facts: Facts, answers: Answers) -> list[str]:
    """Kernel parameters: IOMMU, then consoles, then the answers' own.

    The kernel takes the last `console=` as /dev/console (admin-guide/serial-console), so the serial one stands last;
    the screen keeps its messages and its login.
    """
    params = []
    if facts.iommu.state is not IommuState.absent and facts.cpu.architecture == "aarch64":
        params.append("iommu.passthrough=1")  # the others are x86's (admin-guide/kernel-parameters)
    elif facts.iommu.state is not IommuState.absent:
        amd = any(unit.startswith("ivhd") for unit in facts.iommu.units)
        known = bool(facts.iommu.units)
        if not amd and (known or VENDORS.get(facts.cpu.vendor) != "amd"):
            params.append("intel_iommu=on")  # AMD's is on whenever the firmware describes it
        params.append("iommu=pt")
    if answers.boot.serial_console:
        params += ["console=tty0", f"console={answers.boot.serial_console}"]
    return [*params, *answers.boot.kernel_params]
