"""Whoever follows an installation: told of it step by step, and asked once, before anything is written."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from installer.execute.context import Context
from installer.execute.executor import Result
from installer.execute.log import Log
from installer.execute.progress import Moment, Screen, State
from installer.facts import Facts
from installer.plan.model import Plan


class Watcher:
    """Follows an installation and does nothing; others do."""

    def planned(self, facts: Facts, plan: Plan, *, resumed: bool) -> None:
        """The plan is made, and nothing is written. Raises HyperError if it must not be carried out."""

    def begins(self, context: Context) -> None:
        """The first step is next. Raises HyperError if something is missing."""

    def step(self, at: Moment, total: int, state: State) -> None:
        """A step changed its state."""

    def finished(self, context: Context, result: Result) -> None:
        """All is installed and proved; what comes at the end is next."""

    def notes(self) -> tuple[str, ...]:
        """What a person should know of what the watcher did, since the last time."""
        return ()


@dataclass
class WatchedScreen:
    """Shows progress on another screen, and tells a watcher."""

    screen: Screen
    watcher: Watcher
    log: Log
    total: int = 0

    def step(self, at: Moment, state: State) -> None:
        """A step changed its state."""
        self.screen.step(at, state)
        self.watcher.step(at, self.total, state)
        for note in self.watcher.notes():
            self.log.write(f"# {note}")

    def inside(self, at: Moment, fraction: float, text: str) -> None:
        """The current step came further."""
        self.screen.inside(at, fraction, text)

    def tick(self, percent: float) -> None:
        """Time passed."""
        self.screen.tick(percent)

    def say(self, text: str) -> None:
        """One line for people."""
        self.screen.say(text)

    def shown(self) -> AbstractContextManager[object]:
        """Shows progress while it is entered."""
        return self.screen.shown()
