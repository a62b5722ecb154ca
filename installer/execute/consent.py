"""Consent: a plan is carried out only if a person confirmed this very one, or said so beforehand in the answers."""

from pathlib import Path

from pydantic import ValidationError

from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.execute.live import LiveSystem
from installer.plan.model import Plan
from installer.plan.token import confirm_token


def _shown(live: LiveSystem, token: str) -> Path:
    return live.runtime / "shown" / f"{token}.json"


def remember_shown(live: LiveSystem, plan: Plan) -> None:
    """Keep a plan that was shown, so that a token that no longer fits can be explained. Best effort: not for users."""
    path = _shown(live, confirm_token(plan))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(plan.model_dump_json())
    except OSError:
        return


def is_confirmed(live: LiveSystem, plan: Plan, answers: Answers, token: str | None) -> bool:
    """Whether this plan may be carried out; False: nobody confirmed anything.

    Raises:
        HyperError: what was confirmed is another plan.
    """
    own = confirm_token(plan)
    if token is None:
        return answers.storage.destroy == "matched"
    if token.strip().lower() == own:
        return True
    try:
        earlier = Plan.model_validate_json(_shown(live, token.strip().lower()).read_bytes())
        why = "; ".join(differences(earlier, plan))
    except (OSError, ValidationError, ValueError):
        why = "no plan with that token was shown on this live system; answers, medium or machine are others"
    raise HyperError(
        f"the token {token} does not fit the plan, and nothing was written",
        why=why,
        remedy=f"read the plan again (`--plan`); its token now is {own}",
        code=Exit.consent,
    )


def differences(earlier: Plan, now: Plan) -> list[str]:
    """What is different between two plans, for a person."""
    found = []
    if earlier.hostname != now.hostname:
        found.append(f"the host was {earlier.hostname}, is {now.hostname}")
    before = {disk.key: disk for disk in earlier.disks}
    for disk in now.disks:
        old = before.get(disk.key)
        if old is not None and old != disk:
            found.append(
                f"the disk `{disk.key}` was {old.name} ({old.size} bytes), is {disk.name} ({disk.size} bytes)"
            )
    if earlier.destroyed != now.destroyed:
        lost = "; ".join(loss for each in now.destroyed for loss in each.losses)
        found.append(f"what would be lost changed, now: {lost}")
    if earlier.inputs_digest != now.inputs_digest:
        found.append("the answers or the medium changed")
    steps = {step.id: step for step in earlier.steps}
    changed = [step.id for step in now.steps if steps.pop(step.id, None) != step]
    if changed or steps:
        found.append(f"steps changed: {', '.join((*changed, *steps))}")
    return found or ["the machine is described differently (`--plan --json` of both tells)"]
