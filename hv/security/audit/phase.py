"""Checks of the phase: where the host stands, and where its next boot leads."""

from collections.abc import Iterator

from hv.firstrun.phase import HARDENED, boot_default
from hv.guard.state import FOLDER, StateFolder
from hv.security import phases
from hv.security.audit.check import Check, Severity
from hv.security.audit.view import NotLookedAtError, View


def _phase(view: View) -> Iterator[str]:
    if view.declared.phase != HARDENED:
        yield f"phase {view.declared.phase} runs"


def _waiting(view: View) -> Iterator[str]:
    waiting = StateFolder(view.path(FOLDER)).pending()
    if waiting:
        yield f"{waiting.what or waiting.kind} waits to be confirmed until {waiting.until:%H:%M:%S} UTC"


def _next_boot(view: View) -> Iterator[str]:
    now = phases.running(view.world)
    default = boot_default(view.world)
    if now is None or default is None:
        raise NotLookedAtError("the boot loader's files do not say what boots next")
    following = next(
        (each for each in phases.systems(view.world) if f"{each.toplevel}/init" == default), None
    )
    if now.phase == HARDENED and (following is None or following.phase != HARDENED):
        yield f"the next boot starts {following.title if following else default}"


CHECKS: tuple[Check, ...] = (
    Check(
        "phase",
        "The host is in phase hardened",
        Severity.high,
        "What is only needed to finish installing stays open.",
        "hv security harden",
        _phase,
    ),
    Check(
        "phase-waiting",
        "No change waits to be confirmed",
        Severity.low,
        "The host goes back by itself to what ran before.",
        "hv security confirm, or hv security revert",
        _waiting,
    ),
    Check(
        "phase-next-boot",
        "What boots next is hardened too",
        Severity.medium,
        "A reboot lowers the phase, unnoticed.",
        "hv security harden, then hv security confirm",
        _next_boot,
    ),
)
