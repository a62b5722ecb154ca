"""What a migration remembers: for the check of its first boot, and for going back."""

from datetime import datetime
from typing import Literal

from installer.frozen import Frozen
from installer.migrate.fallback import Fallback

FOLDER = "/var/lib/hyper-nixos/migration"
"""On the host."""
TRIAL = f"{FOLDER}/trial.json"
"""The migration that its first boot has not proved yet."""
DONE = f"{FOLDER}/migration.json"
"""The same record once it is proved, so that it can still be undone."""
PROGRAM = f"{FOLDER}/hv"
"""`hv` of the migrated system: the old one, which the machine may go back to, has none."""
VERDICT = f"{FOLDER}/health.json"
"""What the checks said."""
SOURCE_ROOT = "/nix/var/nix/gcroots/hyper-nixos-source"
"""Keeps the modules that the new file imports."""
ATTEMPTS = 3
"""Boots after which a trial that keeps failing is left alone."""


class Changed(Frozen):
    """A file of theirs."""

    path: str
    """Absolute."""
    backup: str | None
    """Where it is as it was; none: it was not there."""
    written: str
    """SHA-256 of what was written."""
    literal: str | None = None
    """The import that was added; none: the file is ours as a whole."""


class Expected(Frozen):
    """What was so before, and must be so after the first boot."""

    administrators: tuple[str, ...]
    """Accounts of which one at least must be able to log in."""
    ssh: bool
    """Whether that was possible over SSH."""
    ports: tuple[int, ...]
    """Where the SSH server listened."""
    addresses: tuple[str, ...]
    """Global addresses with prefix; in the network of one of them the host must have an address again."""
    routed: bool
    """Whether there was a default route."""
    guests: tuple[str, ...]
    """Guests that started with the host and ran."""


class Trial(Frozen):
    """A migration."""

    version: Literal[1] = 1
    """Format."""
    began: datetime
    """When, UTC."""
    before: str
    """Toplevel to go back to."""
    after: str
    """Toplevel of the migrated host."""
    fallback: Fallback
    """What takes the machine back by itself."""
    files: tuple[Changed, ...]
    """Files that were written."""
    repository: str | None = None
    """Git repository that has a commit of them."""
    expected: Expected
    """What the first boot is measured by."""


class Verdict(Frozen):
    """What the last check said."""

    version: Literal[1] = 1
    """Format."""
    at: datetime
    """When, UTC."""
    attempts: int
    """Which boot of the trial it was."""
    system: str
    """Toplevel that ran."""
    well: bool
    """Whether everything held."""
    lines: tuple[str, ...]
    """One for each thing that was looked at."""
