"""Whether the features of a host go together; what the NixOS modules would refuse is refused here already."""

from collections.abc import Iterator
from difflib import get_close_matches

from installer.answers.catalogue import (
    FEATURES,
    POINTS,
    TIERS,
    TOLERANCES,
    asked,
    enabled,
    fitting_tolerance,
)
from installer.answers.model import HypervisorAnswers
from installer.answers.problems import Path, Problem

_FEATURES: Path = ("hypervisor", "features")


def check_features(answers: HypervisorAnswers) -> Iterator[Problem]:
    """Unknown names; else what contradicts, lacks or excludes another, and more risk than is tolerated."""
    unknown = [name for name in answers.features if name not in FEATURES]
    for name in unknown:
        close = get_close_matches(name, FEATURES, n=1)
        known = f"did you mean `{close[0]}`?" if close else "there are: " + ", ".join(FEATURES)
        yield Problem((*_FEATURES, name), "is no feature of the catalogue", known)
    if unknown:
        return
    yield from _contradictions(answers)
    on = enabled(answers)
    for name in on:
        for required in FEATURES[name].requires:
            if required not in on:
                yield Problem(
                    _source(answers, name),
                    f"the feature {name} needs the feature {required}, which is off",
                    f"write `features.{required} = true`, or leave {name} out",
                )
        for other in FEATURES[name].conflicts:
            if other in on and name < other:
                yield Problem(
                    _source(answers, name),
                    f"the features {name} and {other} conflict",
                    "leave one of the two out",
                )
    yield from _risk(answers, on)


def _contradictions(answers: HypervisorAnswers) -> Iterator[Problem]:
    for name, field in asked(answers).items():
        if answers.features.get(name) is False:
            yield Problem(
                (*_FEATURES, name), f"`hypervisor.{field}` asks for it", f"remove it, or `{field}`"
            )


def _risk(answers: HypervisorAnswers, on: tuple[str, ...]) -> Iterator[Problem]:
    tolerance = TOLERANCES[answers.risk_tolerance]
    fitting = fitting_tolerance(on)
    beyond = [name for name in on if FEATURES[name].points > POINTS[tolerance.highest]]
    for name in beyond:
        yield Problem(
            _source(answers, name),
            f"the risk of the feature {name} is {FEATURES[name].risk}, and risk_tolerance "
            f"`{answers.risk_tolerance}` takes at most {tolerance.highest}",
            f'write `features.{name} = false`, or `risk_tolerance = "{fitting}"`',
        )
    total = sum(FEATURES[name].points for name in on)
    if not beyond and tolerance.total is not None and total > tolerance.total:
        parts = ", ".join(f"{name} {FEATURES[name].points}" for name in on)
        yield Problem(
            ("hypervisor", "risk_tolerance"),
            f"takes features of {tolerance.total} points together, and these have {total}: {parts}",
            f'leave some out, or write `risk_tolerance = "{fitting}"`',
        )


def _source(answers: HypervisorAnswers, name: str) -> Path:
    """The field that has a feature on."""
    if answers.features.get(name):
        return (*_FEATURES, name)
    if name in TIERS[answers.tier].features:
        return ("hypervisor", "tier")
    return ("hypervisor", asked(answers)[name])
