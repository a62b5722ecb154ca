"""`make bench`: measures, prints, and fails when a goal is missed."""

import os
import platform
import sys
from math import isfinite
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from installer.errors import HyperError
from tests.bench import media, planning, rollout, virtual_machines
from tests.bench.command_line import contests
from tests.bench.contest import Result, hold, spread
from tests.bench.installation import GOAL, measure

ROLLOUT = rollout.Rollout(machines=10_000, spread=400, down=10, limit=900)
ROW = "{:<22} {:>24} {:>24} {:>7} {:>6}"


def main() -> int:
    """Print a table: medians with quartiles in milliseconds, their ratio, the goal."""
    load = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} processors, load {load:.1f} before the first round"
    )
    print(ROW.format("", "ours, ms", "theirs, ms", "ratio", "goal"))
    results = []
    for contest in contests():
        results.append(hold(contest))
        tell(results[-1])
    print(
        "theirs: python3 -c pass of the same interpreter; for hv probe, lshw -json; for VMs, virsh and virt-install",
        flush=True,
    )
    planned = planning.measure()
    slow = median(planned.seconds) > planning.GOAL
    print(
        f"{planning.title()}: {1000 * median(planned.seconds):.0f} ms, with a quarter of them "
        f"{1000 * median(planned.quarter):.0f} ms, goal {1000 * planning.GOAL:.0f} ms{', missed' if slow else ''}",
        flush=True,
    )
    of_media = media.measure()
    for result in of_media:
        tell(result)
    print(media.told(of_media), flush=True)
    results += of_media
    installed = measure()
    results.append(installed.probing)
    tell(results[-1])
    missed = [result.name for result in results if not result.met]
    missed += [planning.title()] if slow else []
    print(
        f"installing {installed.closure >> 20} MiB in the lab: hv install {seconds(installed.ours)}, a shell script "
        f"{seconds(installed.theirs)}, ratio {installed.ratio:.2f}, goal {GOAL:g}"
        f"{'' if installed.ratio <= GOAL else ', missed'}; before its first write hv takes {seconds(installed.before)}"
    )
    if installed.ratio > GOAL:
        missed.append("installing in the lab")
    machines = virtual_machines.measure()
    for result in machines.results:
        results.append(result)
        tell(result)
    print(
        f"hv vm list while one QEMU is stopped: {1000 * median(machines.stuck):.0f} ms, "
        f"goal {1000 * virtual_machines.STUCK_GOAL:.0f} ms"
    )
    missed += virtual_machines.missed(machines)
    with TemporaryDirectory() as folder:
        seen = rollout.run(ROLLOUT, Path(folder))
    print(rollout.told(ROLLOUT, seen))
    problems = rollout.wrong(ROLLOUT, seen)
    for problem in problems[:10]:
        print(f"  {problem}")
    if problems or seen.quantile(0.99) > rollout.GOAL:
        missed.append("rollout")
    return 1 if missed else 0


def tell(result: Result) -> None:
    """One line of the table."""
    ratio = (f"{result.ratio:.2f}", f"{result.goal:g}" if isfinite(result.goal) else "none")
    line = ROW.format(result.name, spread(result.ours), spread(result.theirs), *ratio)
    print(line if result.met else f"{line}  missed", flush=True)


def seconds(values: tuple[float, ...]) -> str:
    """Median, with every round behind it."""
    return f"{median(values):.1f} s ({', '.join(f'{each:.1f}' for each in values)})"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HyperError as error:
        sys.exit(str(error))
