"""What goes wrong, for people and programs: RFC 9457 problems out of HyperErrors."""

from enum import IntEnum
from typing import Any

from installer.errors import Exit, HyperError


class Status(IntEnum):
    """HTTP statuses that the broker uses (RFC 9110, 15)."""

    bad = 400
    denied = 403
    missing = 404
    conflict = 409
    changed = 412
    too_large = 413
    invalid = 422
    limit = 429
    failed = 500
    unavailable = 503
    timeout = 504


CODES = {
    Status.bad: Exit.usage,
    Status.denied: Exit.privilege,
    Status.missing: Exit.selection,
    Status.conflict: Exit.busy,
    Status.changed: Exit.busy,
    Status.too_large: Exit.unsuitable,
    Status.invalid: Exit.usage,
    Status.limit: Exit.unsuitable,
}
"""Exit code of the command that gets such an answer; others end with Exit.failed."""


class RefusedError(HyperError):
    """An error with its place in HTTP."""

    def __init__(self, kind: str, status: Status, what: str, *, why: str, remedy: str, **more: Any) -> None:
        super().__init__(what, why=why, remedy=remedy, code=CODES.get(status, Exit.failed))
        self.kind = kind
        """A word that programs compare."""
        self.status = status
        self.more = more
        """Members of its own."""


def problem(error: Exception) -> dict[str, Any]:
    """The body, application/problem+json; an error that nobody foresaw shows its kind alone."""
    if isinstance(error, RefusedError):
        kind, status = error.kind, error.status
        more = error.more
    elif isinstance(error, HyperError):
        kind, status, more = "failed", Status.failed, {}
    else:
        return problem(
            RefusedError(
                "defect",
                Status.failed,
                "hvd stopped at an unexpected error.",
                why=f"{type(error).__name__}",
                remedy="This is a defect: see `journalctl -u hvd`, and report what it says there.",
            )
        )
    return {
        "type": f"tag:hyper-nixos,2026:{kind}",
        "title": error.what,
        "status": int(status),
        "detail": error.why,
        "remedy": error.remedy,
        "code": int(error.code),
        **more,
    }
