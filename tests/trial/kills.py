"""The installer is killed before, in and after every step; each next run goes on, to the end."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from installer.errors import Exit
from installer.facts import Facts
from installer.plan.actions import Run
from installer.plan.model import Step
from tests.trial.layouts import Layout
from tests.trial.payload import draft_of
from tests.trial.site import Run as Installed
from tests.trial.site import Session

WITHIN = 0.02
"""Seconds after a step started its first program, which runs then: all take longer there."""


@dataclass
class Kills:
    """What came of killing one installation."""

    layout: Layout
    reached: list[str] = field(default_factory=list)
    """Step and moment of each kill that came."""
    wanted: int = 0
    """How many were to come."""
    seconds: float = 0.0
    """Of all runs, by the machine's clock."""
    end: Installed | None = None
    """The last run, which was left alone."""

    def __str__(self) -> str:
        steps = len(self.end.steps) if self.end else 0
        return (
            f"{self.layout.name}: {len(self.reached)} of {self.wanted} kills in {steps} steps gone on with, "
            f"{self.seconds:.0f} s"
        )


def moments(step: str, actions: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """When an installer can be killed around a step; the last is right before the next one."""
    yield "begun", {"event": (step, "started")}
    yield "inside", {"inside": (step, WITHIN)}
    for number in range(1, actions):
        yield f"after action {number}", {"between": (step, number)}
    yield "done", {"event": (step, "done")}
    yield "verified", {"event": (step, "verified")}


def shape(step: Step) -> tuple[str, ...]:
    """What kind of step it is: its actions, and the programs that it runs."""
    return tuple(
        " ".join((action.argv[0], *(word for word in action.argv[1:2] if word.isalpha())))
        if isinstance(action, Run)
        else action.kind
        for action in step.actions
    )


def new_kinds(facts: Facts, layout: Layout, covered: Iterable[Layout]) -> frozenset[str]:
    """Ids of the layout's steps of kinds that none of the other layouts has."""
    known = {shape(step) for each in covered for step in draft_of(facts, each).steps}
    return frozenset(step.id for step in draft_of(facts, layout).steps if shape(step) not in known)


def kill_at_every_step(
    session: Session, layout: Layout, *, every_moment: bool, only: frozenset[str] | None = None
) -> Kills:
    """Kill at every moment of every step, or at one of each, by turns; or of these steps alone."""
    kills = Kills(layout)
    # Taking down what another layout's installation left is in its journal, too: the first kill would come there, and its
    # plan's steps be taken for this one's.
    session.shell("rm -rf /run/hyper-nixos/install")
    first = session.install(layout, *(() if only is None else ("--fresh",)), die={"records": 1})
    assert first.status == -9, first.text
    kills.reached.append("before the first step")
    kills.wanted, kills.seconds = 1, first.seconds
    turn = cycle(range(4))
    wanted: list[tuple[str, str, dict[str, Any]]] = []
    for step, actions in first.steps:
        if only is not None and step not in only:
            continue
        found = list(moments(step, actions))
        if not every_moment:
            found = [found[next(turn) % len(found)]]
        wanted += [(step, moment, die) for moment, die in found]
    kills.wanted += len(wanted)
    last: Installed | None = first
    while wanted:
        missed = []
        for step, moment, die in wanted:
            if last and last.verified(step):
                # It went on beside the step of another disk at which the kill came: it has its turn from the beginning.
                missed.append((step, moment, die))
                continue
            before, last = last, session.install(layout, *(() if last else ("--fresh",)), die=die)
            kills.seconds += last.seconds
            print(f"{layout.name}: {step}: {moment}: {last.seconds} s", flush=True)
            if last.status == -9:
                kills.reached.append(f"{step}: {moment}")
                continue
            assert last.status == Exit.ok, (step, moment, last.text)
            if before and before.begun(step):
                # The same, and the kill came before it was verified: what it did was found to stand.
                missed.append((step, moment, die))
            else:
                raise AssertionError(f"{step}: {moment}: the installation ended before the kill came")
        wanted, last = missed, None
    kills.end = session.install(layout)
    kills.seconds += kills.end.seconds
    assert kills.end.status == Exit.ok, kills.end.text
    assert kills.end.finished
    for step, _ in first.steps:
        assert ("verified", step) in kills.end.events, step
    return kills
