"""Which system the host gets: a ready one of the medium where the answers permit it, else one of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from installer.errors import HyperError
from installer.facts import Facts
from installer.guided.preview import complete
from installer.guided.situation import changed, said
from installer.guided.told import told
from installer.guided.words import _
from installer.medium import Medium
from installer.plan.model import Plan
from installer.plan.planner import make_plan


@dataclass(frozen=True)
class Chosen:
    """A plan, with the system that it installs."""

    plan: Plan
    raw: Mapping[str, Any]
    """The answer file that comes to this plan."""
    reasons: tuple[str, ...]
    """Which system, and why: a paragraph each."""


def choose(facts: Facts, medium: Medium, raw: Mapping[str, Any]) -> Chosen:
    """The plan for the answers; what they say of the system themselves is what holds.

    Raises:
        HyperError: there is no plan for them.
    """
    own = make_plan(facts, complete(raw), medium)
    if "system" in raw:
        return Chosen(own, raw, ())
    tier = said(raw, ("hypervisor", "tier"), "standard")
    ready = next((each for each in medium.closures if each.tier == tier), None)
    if ready is None:
        why = _("The medium has no ready system of tier {tier}, so one is built for this host.")
        return Chosen(own, raw, (why.format(tier=tier),))
    taken = changed(raw, {("system",): {"source": "closure", "closure": ready.name}})
    try:
        plan = make_plan(facts, complete(taken), medium)
    except HyperError as error:
        head = _("The system is built for this host, since the medium's ready one does not fit:")
        return Chosen(own, raw, (head, *(f"  * {told(reason)}" for reason in error.why.splitlines())))
    words = _(
        "The medium's ready system {name} fits, and is copied: nothing is built, no network is needed."
    )
    return Chosen(plan, taken, (words.format(name=ready.name),))
