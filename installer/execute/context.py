"""What the handlers of actions and checks are given."""

from contextlib import ExitStack
from dataclasses import dataclass, field

from installer.answers.model import Answers
from installer.execute.journal import Journal
from installer.execute.live import LiveSystem
from installer.execute.progress import Progress
from installer.execute.runner import Runner
from installer.execute.secrets import Secrets
from installer.medium import Medium
from installer.plan.model import DiskIdentity, Plan
from installer.render import RenderedHost

TOPLEVEL = "toplevel"
"""What the journal calls the realised system's store path."""


@dataclass(frozen=True)
class Context:
    """One installation at work."""

    plan: Plan
    """What is done."""
    answers: Answers
    """What it is done for."""
    medium: Medium
    """What the live medium carries."""
    rendered: RenderedHost
    """The host's configuration."""
    live: LiveSystem
    """Where the live system's folders are."""
    runner: Runner
    """Runs programs."""
    progress: Progress
    """Shows how far it is."""
    journal: Journal
    """Remembers what was done."""
    secrets: Secrets
    """Values of the plan's secrets."""
    held: ExitStack = field(default_factory=ExitStack)
    """Partitions that are kept open for as long as steps are carried out, so that none goes away."""

    def disk(self, key: str) -> DiskIdentity:
        """A disk of the plan."""
        return next(disk for disk in self.plan.disks if disk.key == key)

    @property
    def toplevel(self) -> str | None:
        """The realised system; none before that step."""
        return self.journal.learned(TOPLEVEL)
