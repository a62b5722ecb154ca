"""Two commands run in turn, and what came out."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

from installer.errors import HyperError


@dataclass(frozen=True)
class Contest:
    """What is measured against what."""

    name: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    goal: float
    """Largest ratio of medians, ours to theirs, that is good enough."""
    proof: Callable[[str], bool]
    """Whether our standard output is what it should be: a command that fails is quick."""
    rounds: int = 41


@dataclass(frozen=True)
class Result:
    """Seconds that each round took."""

    name: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    goal: float
    """Largest ratio; infinite: it is only told."""

    @property
    def ratio(self) -> float:
        """Median of ours to median of theirs."""
        return median(self.ours) / median(self.theirs)

    @property
    def met(self) -> bool:
        """Whether the goal is."""
        return self.ratio <= self.goal


def timed(argv: tuple[str, ...]) -> tuple[float, str]:
    """Runs a command to its end: seconds of wall clock, and standard output.

    Raises:
        HyperError: it failed, so that its time means nothing.
    """
    start = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise HyperError(
            f"bench: {' '.join(argv)} failed",
            why=done.stderr.strip() or f"it exited with {done.returncode}",
            remedy="mend that first: the time of a failure means nothing",
        )
    return seconds, done.stdout


def hold(contest: Contest, timed: Callable[[tuple[str, ...]], tuple[float, str]] = timed) -> Result:
    """Runs both in turn, round by round: what slows the machine for a while slows both.

    Args:
        contest: What to run.
        timed: Runs a command to its end, here or on another machine: seconds, and standard output.

    Raises:
        HyperError: our command did not print what it should, or one of them failed.
    """
    ours, theirs = [], []
    for number in range(contest.rounds + 1):
        theirs_seconds, _ = timed(contest.theirs)
        ours_seconds, output = timed(contest.ours)
        if not contest.proof(output):
            raise HyperError(
                f"bench: {' '.join(contest.ours)} did not print what it should",
                why=f"it printed {output[:200]!r}",
                remedy="mend that first: see the tests of the command",
            )
        if number:  # the first round fills the caches
            theirs.append(theirs_seconds)
            ours.append(ours_seconds)
    return Result(contest.name, tuple(ours), tuple(theirs), contest.goal)


def spread(samples: tuple[float, ...]) -> str:
    """Median and quartiles, in milliseconds."""
    low, middle, high = quantiles(samples, n=4)
    return f"{middle * 1000:.1f} ({low * 1000:.1f}-{high * 1000:.1f})"
