"""hypervisor.nix and passthrough.nix: options of our own modules (nix/modules)."""

from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.pci import PciDevice
from installer.plan.initrd import module_of
from installer.plan.model import Plan
from installer.render.nix import Nix

FEATURES = ("containers", "foreign-architectures", "page-sharing", "tpm", "virtiofs")
"""Names in nix/modules/core/features.nix; a test compares."""


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
    options: dict[str, Nix] = {"enable": True, "tier": asked.tier.value}
    if asked.features:
        options["features"] = {name: {"enable": on} for name, on in sorted(asked.features.items())}
    options["virtualization"] = {"nested": asked.nested, "hugepages1G": asked.hugepages_1g}
    options["security"] = {"profile": answers.security.profile}
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
