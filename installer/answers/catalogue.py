"""The catalogues of features and tiers: data that the NixOS modules read too (nix/modules/core)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from installer.answers.model import Answers, HypervisorAnswers, Tier

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Feature:
    """Something that can be added to a virtualization host."""

    summary: str
    """What it does, in a sentence."""
    risk: str
    """How much it adds to what an attacker can reach; a key of POINTS."""
    impacts: tuple[str, ...]
    """What it costs, a sentence each."""
    mitigations: tuple[str, ...]
    """What is done against that, or can be."""
    requires: tuple[str, ...]
    """Features without which it means nothing."""
    conflicts: tuple[str, ...]
    """Features that cannot be on with it; these name it back."""
    systems: tuple[str, ...] = ()
    """Systems that have it (`x86_64-linux`); none: all."""

    @property
    def points(self) -> int:
        """What its risk counts."""
        return POINTS[self.risk]


@dataclass(frozen=True)
class Tolerance:
    """How much risk a host takes."""

    summary: str
    """For which guests."""
    highest: str
    """The highest risk that a single feature may have."""
    total: int | None
    """Points that all features together may have; none: any."""

    def takes(self, features: tuple[str, ...]) -> bool:
        """Whether all these may be on together."""
        points = [FEATURES[name].points for name in features]
        return max(points, default=0) <= POINTS[self.highest] and (
            self.total is None or sum(points) <= self.total
        )


@dataclass(frozen=True)
class TierValues:
    """What a tier sets by default, as far as the installer has to know; the rest is for nix/modules/core/tiers.nix."""

    summary: str
    """For which host."""
    memory: int
    """Least nominal memory, bytes."""
    features: tuple[str, ...]
    """Features that are on."""
    zram_percent: int
    """Size of zram in percent of the memory."""


def _read(name: str) -> Any:
    return json.loads((HERE / name).read_text())


def tier_values() -> dict[str, dict[str, Any]]:
    """All that a tier sets, as the modules read it."""
    values: dict[str, dict[str, Any]] = _read("tiers.json")
    return values


def _feature(entry: dict[str, Any]) -> Feature:
    plain: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    return Feature(**plain)


_FEATURES = _read("features.json")
POINTS: Mapping[str, int] = MappingProxyType(_FEATURES["points"])
"""What each risk counts, from the lowest."""
TOLERANCES: Mapping[str, Tolerance] = MappingProxyType(
    {name: Tolerance(**entry) for name, entry in _FEATURES["tolerances"].items()}
)
"""From the least to the most."""
FEATURES: Mapping[str, Feature] = MappingProxyType(
    {name: _feature(entry) for name, entry in _FEATURES["features"].items()}
)
"""By name, in order."""
TIERS: Mapping[Tier, TierValues] = MappingProxyType(
    {
        Tier(name): TierValues(
            summary=entry["summary"],
            memory=entry["memoryGiB"] * 2**30,
            features=tuple(entry["features"]),
            zram_percent=entry["zramPercent"],
        )
        for name, entry in tier_values().items()
    }
)
"""From the smallest."""


def asked(answers: HypervisorAnswers) -> dict[str, str]:
    """Features that other fields ask for, each with the field that does."""
    found = {}
    if answers.nested:
        found["nested-virtualization"] = "nested"
    for field, pages in (("hugepages_1g", answers.hugepages_1g), ("hugepages_2m", answers.hugepages_2m)):
        if pages:
            found["hugepages"] = field
    if answers.passthrough:
        found["passthrough"] = "passthrough"
    return found


def enabled(answers: HypervisorAnswers) -> tuple[str, ...]:
    """Every feature that the host will have on, in the catalogue's order, as the modules will see it."""
    wanted = dict.fromkeys((*TIERS[answers.tier].features, *asked(answers)), True) | answers.features
    return tuple(name for name in FEATURES if wanted.get(name))


def fitting_tolerance(features: tuple[str, ...]) -> str:
    """The name of the strictest tolerance that takes all these."""
    return next(name for name, tolerance in TOLERANCES.items() if tolerance.takes(features))


def zram_percent(answers: Answers) -> int:
    """What the answers say, or the tier."""
    said = answers.storage.swap.zram_percent
    return TIERS[answers.hypervisor.tier].zram_percent if said is None else said
