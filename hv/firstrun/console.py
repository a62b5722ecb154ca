"""What the login prompt says: agetty(8) shows /run/issue.d/*.issue above it.

NixOS starts agetty with `--issue-file /etc/issue:/etc/issue.d:/run/issue:/run/issue.d` (nixos/modules/services/
ttys/getty.nix). /etc/issue is generated there, so the notice goes to /run; without that option agetty looks at /run
only where there is no /etc/issue. Anyone at the console can read it: names and counts only.
"""

from collections.abc import Callable, Sequence

from hv.firstrun.state import SETTLED, JobState, Status
from hv.firstrun.world import World, write_atomically
from installer.errors import HyperError

ISSUE_FILE = "/run/issue.d/hyper-nixos.issue"
"""Gone after a reboot, and so is the notice once everything is settled."""


def notice(states: Sequence[JobState]) -> str:
    """The lines for the login prompt: the same from job to job, so that the prompt is drawn anew only for news."""
    names = {status: [state.job for state in states if state.status is status] for status in Status}
    going = any(state.status in (Status.running, Status.pending) for state in states)
    settled = sum(state.status in SETTLED for state in states)
    if going:
        head = f"First run: under way, {len(states)} jobs"
    elif settled == len(states):
        head = f"First run: complete, {len(states)} jobs"
    else:
        head = f"First run: {settled} of {len(states)} jobs done"
    lines = [head]
    if names[Status.failed]:
        lines.append(f"  failed: {', '.join(names[Status.failed])}")
    if names[Status.waiting]:
        lines.append(f"  waiting: {', '.join(names[Status.waiting])}")
    if warned := [state.job for state in states if state.warnings]:
        lines.append(f"  with warnings: {', '.join(warned)}")
    lines.append("  details: hv firstrun status   log: journalctl -u hyper-nixos-firstrun")
    # A backslash starts an escape sequence in issue files.
    return "\n".join(lines).replace("\\", "\\\\") + "\n\n"


def announce(world: World) -> Callable[[Sequence[JobState]], None]:
    """A listener that keeps the notice up to date. A console that cannot be written to is no reason to fail."""

    shown = ""

    def listener(states: Sequence[JobState]) -> None:
        nonlocal shown
        text = notice(states)
        if text == shown:
            return
        try:
            write_atomically(world.path(ISSUE_FILE), text)
            shown = text
            # Prompts are drawn anew, and a name that somebody has begun to type has to be typed again.
            world.attempt(("agetty", "--reload"), timeout=5)
        except (OSError, HyperError):
            return

    return listener


def clear(world: World) -> None:
    """Nothing to tell any more."""
    world.path(ISSUE_FILE).unlink(missing_ok=True)
