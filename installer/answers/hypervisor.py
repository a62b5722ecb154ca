"""What kind of virtualization host, and how strict."""

from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints

from installer.answers.text_kinds import PciAddressAnswer, PciIds
from installer.frozen import Frozen


class Tier(StrEnum):
    """How much host: defaults for a machine of its size, see the page on features and tiers."""

    minimal = "minimal"
    standard = "standard"
    enhanced = "enhanced"
    professional = "professional"
    enterprise = "enterprise"


class PassthroughDevice(Frozen):
    """A PCI device to be kept free for guests."""

    address: PciAddressAnswer | None = None
    """PCI address."""
    ids: PciIds | None = None
    """Vendor and device id; must match exactly one device."""
    whole_group: bool = True
    """Take everything of its IOMMU group along; else the plan is refused when there is more."""


class HypervisorAnswers(Frozen):
    """What kind of virtualization host."""

    tier: Tier = Tier.standard
    """Defaults for a machine of this size; from 2, 4, 8, 16 and 32 GB of memory on."""
    features: dict[str, bool] = Field(default={}, examples=[{"tpm": False}])
    """Single features on or off on top of the tier, by name, see the page on features and tiers."""
    risk_tolerance: Literal["paranoid", "cautious", "balanced", "accepting"] = "balanced"
    """How much risk the features may add up to, see the page on features and tiers."""
    nested: bool = False
    """Let guests run guests: the feature `nested-virtualization`."""
    hugepages_1g: int = Field(default=0, ge=0)
    """Number of 1 GiB pages kept for guests."""
    hugepages_2m: int = Field(default=0, ge=0)
    """Number of 2 MiB pages kept for guests."""
    cpu_model: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
        Field(title="a processor model as libvirt names it", examples=["host-passthrough"]),
    ] = "host-model"
    """Processor of guests that run with KVM: `host-model`, `host-passthrough`, or one of libvirt's models."""
    passthrough: tuple[PassthroughDevice, ...] = ()
    """Devices for guests."""


class Phase(StrEnum):
    """How strict the host is."""

    setup = "setup"
    """Reachable and forgiving, for the first hour."""
    hardened = "hardened"
    """Keys only, least exposure."""


SecurityProfile = Literal["development", "balanced", "strict", "paranoid"]
SECURITY_PROFILES: tuple[SecurityProfile, ...] = get_args(SecurityProfile)
"""Mildest first."""


class SecurityAnswers(Frozen):
    """Security."""

    phase: Phase = Phase.setup
    """Phase to end in; `hardened` is raised by the last first-run job."""
    profile: SecurityProfile = "balanced"
    """How far phase hardened goes; each holds everything of the one before."""
