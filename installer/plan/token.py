"""The confirm token: who types it has seen this very plan for these very disks."""

from hashlib import sha256

from installer.plan.canonical import canonical_json
from installer.plan.model import Plan


def plan_json(plan: Plan) -> str:
    """The plan in its one spelling."""
    return canonical_json(plan.model_dump(mode="json"))


def confirm_token(plan: Plan) -> str:
    """64 bits of a SHA-256 over the plan, disk identities and inputs' digest included: `3f9a-11c0-87d2-e5b4`."""
    digits = sha256(plan_json(plan).encode()).hexdigest()[:16]
    return "-".join(digits[place : place + 4] for place in range(0, len(digits), 4))
