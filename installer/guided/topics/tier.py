"""How much host, and which features on top."""

from typing import Any

from installer.answers.catalogue import FEATURES, TIERS
from installer.answers.feature_check import check_features
from installer.answers.model import HypervisorAnswers, Tier
from installer.answers.sizes import GIB, format_size
from installer.guided.questions import Dialogue, Many, One, Option
from installer.guided.situation import Situation
from installer.guided.told import told
from installer.guided.words import _
from installer.plan.requirements import counts_as

ELSEWHERE = {"hugepages", "passthrough"}
"""Features that other answers switch on."""


def title() -> str:
    """For the head of the page."""
    return _("Tier and features")


def dialogue(situation: Situation) -> Dialogue:
    """Which tier, then which features."""
    total = situation.facts.memory.total
    fitting = [tier for tier, values in TIERS.items() if not total or total >= counts_as(values.memory)]
    tier = yield One(
        title=_("Tier"),
        prompt=_("How much host?"),
        lines=(
            _("This machine has {memory} of memory.").format(memory=format_size(total)),
            _("Recommended: standard. A tier only sets defaults; everything in it can be changed later."),
        ),
        options=tuple(
            Option(each.value, f"{each.value}: {_(values.summary)}", _too_little(each, total, fitting))
            for each, values in TIERS.items()
        ),
        default="standard" if Tier.standard in fitting else "minimal",
        field=("hypervisor", "tier"),
    )
    usual = TIERS[Tier(tier)].features
    chosen = yield Many(
        title=_("Features"),
        prompt=_("What shall the host be able to do?"),
        lines=(
            _(
                "Recommended: what the tier {tier} has by itself. Each feature adds to what an attacker can reach."
            ).format(tier=tier),
        ),
        more=(
            "\n".join(
                " ".join((f"{name}:", _(feature.summary), *map(_, feature.impacts)))
                for name, feature in FEATURES.items()
                if name not in ELSEWHERE
            ),
        ),
        options=tuple(
            Option(
                name,
                _("{name} (risk {risk}): {summary}").format(
                    name=name, risk=_(feature.risk), summary=_(feature.summary)
                ),
                _wrong_system(feature.systems, situation),
            )
            for name, feature in FEATURES.items()
            if name not in ELSEWHERE
        ),
        default=tuple(name for name in FEATURES if name in usual),
        check=lambda names: _problem(tier, names),
        field=("hypervisor", "features"),
    )
    return {("hypervisor", "tier"): tier, ("hypervisor", "features"): _changed(tier, chosen) or None}


def _changed(tier: str, chosen: tuple[Any, ...]) -> dict[str, bool]:
    """What is otherwise than the tier has it."""
    usual = TIERS[Tier(tier)].features
    return {
        name: name in chosen
        for name in FEATURES
        if name not in ELSEWHERE and (name in chosen) != (name in usual)
    }


def _problem(tier: str, chosen: tuple[Any, ...]) -> str | None:
    answers = HypervisorAnswers(tier=Tier(tier), features=_changed(tier, chosen))
    found = [f"{told(problem.wrong)}: {told(problem.remedy)}" for problem in check_features(answers)]
    return "; ".join(found).replace("`", "") or None


def _too_little(tier: Tier, total: int, fitting: list[Tier]) -> str | None:
    # The plan refuses the smallest tier too, where it has to; here there must be something to choose.
    if tier in fitting or tier is Tier.minimal:
        return None
    return _("It is made for {least} GB of memory or more; this machine has {memory}.").format(
        least=TIERS[tier].memory // GIB, memory=format_size(total)
    )


def _wrong_system(systems: tuple[str, ...], situation: Situation) -> str | None:
    if not systems or situation.medium.system in systems:
        return None
    return _("It is there on {systems} only.").format(systems=", ".join(systems))
