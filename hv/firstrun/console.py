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
    """The lines for the login prompt."""
    names = {status: [state.job for state in states if state.status is status] for status in Status}
    settled = sum(state.status in SETTLED for state in states)
    if names[Status.running]:
        head = f"First run: {settled} of {len(states)} jobs done, now {names[Status.running][0]}"
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

    def listener(states: Sequence[JobState]) -> None:
        try:
            write_atomically(world.path(ISSUE_FILE), notice(states))
            # Prompts on screen are drawn anew; who is typing a name is left alone.
            world.attempt(("agetty", "--reload"), timeout=5)
        except (OSError, HyperError):
            return

    return listener


def clear(world: World) -> None:
    """Nothing to tell any more."""
    world.path(ISSUE_FILE).unlink(missing_ok=True)
