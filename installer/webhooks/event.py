"""What a webhook is told (docs/webhooks.md), and how it is signed."""

import hashlib
import hmac
from datetime import datetime
from typing import Literal

from installer import VERSION
from installer.frozen import Frozen
from installer.probe.identity import Identity

EventKind = Literal["started", "step", "succeeded", "failed", "first-run"]
SIGNATURE = "Hyper-NixOS-Signature"
"""Header with the signature: `t=SECONDS,v1=HEX`."""
KIND = "Hyper-NixOS-Event"
"""Header with the kind of event."""


class StepTold(Frozen):
    """Where the installation is."""

    id: str
    """Stable name of the step, as in plan and journal."""
    summary: str
    """The same in words."""
    number: int
    """From 1."""
    of: int
    """How many there are."""
    state: Literal["started", "verified", "skipped", "failed"]
    """What happened to it; `skipped`: an earlier run had done it."""


class ErrorTold(Frozen):
    """Why it failed; secrets are taken out."""

    what: str
    """What happened."""
    why: str
    """Why."""
    remedy: str
    """What to do."""
    code: int
    """Exit code, see the table of exit codes."""


class BundleTold(Frozen):
    """The support bundle."""

    file: str
    """Path on the live system."""
    addresses: tuple[str, ...]
    """The same for scp(1), one an address of the machine: `root@192.0.2.5:/run/…`."""


class JobTold(Frozen):
    """How a job of the first run stands."""

    name: str
    """Stable name, as `hv firstrun status` has it."""
    state: str
    """`done`, `skipped`, `failed` or `waiting`."""
    error: ErrorTold | None = None
    """Why it failed."""


class Event(Frozen):
    """One event: the body of the request."""

    version: Literal[1] = 1
    """Format of this body."""
    id: str
    """UUID of this event; the same one may come twice."""
    time: datetime
    """When it happened, in UTC."""
    installation: str
    """UUID of this run of the installer; with `first-run`, of the host's first run."""
    event: EventKind
    """What happened."""
    hyper_nixos: str = VERSION
    """Version of the installer."""
    host: str
    """Name of the host, or of the host to be."""
    identity: Identity
    """Which machine it is."""
    percent: float | None = None
    """Share of the whole that is done."""
    step: StepTold | None = None
    """With `step`."""
    missed: int = 0
    """Steps before this event that could not be told."""
    seconds: float | None = None
    """With `succeeded`: how long it took."""
    host_keys: tuple[str, ...] = ()
    """With `succeeded` and `first-run`: fingerprints of the host's SSH keys, as far as it has them."""
    recovery_key: str | None = None
    """With `succeeded`: the recovery key of encrypted disks, encrypted for its recipients (age(1), armoured)."""
    error: ErrorTold | None = None
    """With `failed`."""
    jobs: tuple[JobTold, ...] = ()
    """With `first-run`: all jobs but the one that tells this."""
    authority: str | None = None
    """With `first-run`: SHA-256 of the certificate of the host's own authority."""
    bundle: BundleTold | None = None
    """With `failed`: where the support bundle is."""


def sign(body: bytes, secret: bytes, seconds: int) -> str:
    """Value of the signature header: HMAC-SHA-256 (RFC 2104) over `SECONDS.BODY`.

    The time is inside, so that a server can refuse what somebody recorded and sends again later.
    """
    digest = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def is_signed(body: bytes, secret: bytes, header: str, now: float, tolerance: float = 3600.0) -> bool:
    """Whether a signature header fits the body and is not older than `tolerance` seconds."""
    values = dict(piece.split("=", 1) for piece in header.split(",") if "=" in piece)
    seconds = values.get("t", "")
    if not seconds.isdecimal() or len(seconds) > 12 or abs(now - int(seconds)) > tolerance:
        return False
    return hmac.compare_digest(header.encode(), sign(body, secret, int(seconds)).encode())
