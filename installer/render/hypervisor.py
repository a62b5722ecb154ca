"""hypervisor.nix and passthrough.nix: options of our own modules (nix/modules)."""

from installer.answers.catalogue import FEATURES
from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.pci import PciDevice
from installer.plan.initrd import module_of
from installer.plan.model import Plan
from installer.render.nix import Nix

GUESTS = "/var/lib/libvirt/images"
"""Where the modules look for guests' disks by default."""


def hypervisor(answers: Answers) -> dict[str, Nix]:
    """Tier, features and security. Raises HyperError (exit code `answers`) for a feature that is not there."""
    asked = answers.hypervisor
    for name in asked.features:
        if name not in FEATURES:
            raise HyperError(
                f"hypervisor.features: there is no feature {name!r}",
                why=f"the catalogue has {', '.join(FEATURES)}",
                remedy="use one of these names, or leave the line out",
                code=Exit.answers,
            )
    options: dict[str, Nix] = {
        "enable": True,
        "tier": asked.tier.value,
        "riskTolerance": asked.risk_tolerance,
    }
    features = asked.features | ({"nested-virtualization": True} if asked.nested else {})
    if features:
        options["features"] = {name: {"enable": on} for name, on in sorted(features.items())}
    folders: dict[str, Nix] = (
        {} if answers.first_run.pool == GUESTS else {"guestFolders": [answers.first_run.pool]}
    )
    options["virtualization"] = {
        "cpuModel": asked.cpu_model,
        "hugepages": {"1G": asked.hugepages_1g, "2M": asked.hugepages_2m},
        **folders,
    }
    options["security"] = {
        "profile": answers.security.profile,
        **({"secureBoot": {"enable": True}} if answers.boot.secure_boot else {}),
    }
    return {"hypervisor": options}


def passthrough(facts: Facts, plan: Plan) -> dict[str, Nix]:
    """The devices that the plan keeps for guests, each with the ids that must be found at its address."""
    chosen = set(plan.handoff.expectations.passthrough)
    devices: dict[str, Nix] = {
        device.address: {
            "vendor": device.vendor_id,
            "device": device.device_id,
            "drivers": _drivers(device),
        }
        for device in facts.pci
        if device.address in chosen
    }
    return {"hypervisor": {"passthrough": {"devices": devices}}}


def _drivers(device: PciDevice) -> list[str]:
    """Every module that might take the device on the host, sorted."""
    bound = module_of(device)
    return sorted(
        {name.replace("-", "_") for name in (*device.modules, *([bound] if bound else []))} - {"vfio_pci"}
    )
