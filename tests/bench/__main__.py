"""`make bench`: measures, prints, and fails when a goal is missed."""

import os
import platform
import sys

from installer.errors import HyperError
from tests.bench.command_line import contests
from tests.bench.contest import hold, spread

ROW = "{:<22} {:>24} {:>24} {:>7} {:>6}"


def main() -> int:
    """Print a table: medians with quartiles in milliseconds, their ratio, the goal."""
    load = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} processors, load {load:.1f} before the first round"
    )
    print(ROW.format("", "ours, ms", "theirs, ms", "ratio", "goal"))
    missed = []
    for contest in contests():
        result = hold(contest)
        print(
            ROW.format(
                result.name,
                spread(result.ours),
                spread(result.theirs),
                f"{result.ratio:.2f}",
                f"{result.goal:g}",
            )
            + ("" if result.met else "  missed"),
            flush=True,
        )
        if not result.met:
            missed.append(result.name)
    print("theirs: python3 -c pass of the same interpreter; for hv probe, lshw -json")
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HyperError as error:
        sys.exit(str(error))
