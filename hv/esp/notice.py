"""What the login prompt says when the ESPs do not agree; agetty(8) shows /run/issue.d/*.issue above it."""

from pathlib import Path

from hv.esp.status import Report
from hv.firstrun.world import write_atomically

NOTICE_FILE = "run/issue.d/hyper-nixos-esp.issue"
"""Below the root; gone after a reboot."""


def notify(report: Report, root: Path = Path("/")) -> None:
    """Put the notice up, or take it away. Anyone at the console can read it: mount points and counts only."""
    path = root / NOTICE_FILE
    bad = [state.mount_point for state in report.states if state.trouble]
    if not bad:
        path.unlink(missing_ok=True)
        return
    text = (
        f"Boot partitions do not agree: {', '.join(bad)}\n  details: hv esp status   mend: hv esp sync\n\n"
    )
    # A backslash starts an escape sequence in issue files.
    write_atomically(path, text.replace("\\", "\\\\"))
