"""How a new recovery key reaches the person it is for: once, past every log, and only when all is installed."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

from installer.answers.model import Answers, RecoveryKind
from installer.answers.recovery import recovery_kind
from installer.errors import Exit, HyperError, paragraph
from installer.execute.files import write_file
from installer.execute.live import LiveSystem

EVENT = "recovery-key"
"""What an installation that runs apart says when the key waits for a screen."""
_MODE = 0o600
_POLL = 0.2


_RULE = "=" * 72


class Disclosure(Protocol):
    """Where the key can be shown."""

    def obstacle(self) -> str | None:
        """Why it cannot be shown here; none: it can."""

    def show(self, host: str, key: str) -> None:
        """Show it; returns once somebody has it, as far as that can be known."""


class Nobody:
    """Nobody watches."""

    def obstacle(self) -> str | None:
        """No terminal."""
        return "there is no terminal that a person looks at"

    def show(self, host: str, key: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Waiting:
    """Leaves the key in memory (a tmpfs, for root alone) until a screen has shown it and takes it away: screens may come
    and go while the installation runs apart from them.
    """

    live: LiveSystem
    """Where it is left."""
    output: TextIO = field(repr=False)
    """Where screens hear of it."""

    def obstacle(self) -> str | None:
        """None: a screen can come at any time."""
        return None

    def show(self, host: str, key: str) -> None:
        """Wait for a screen."""
        place = waiting_key(self.live)
        write_file(place, f"{host}\n{key}\n".encode(), _MODE)
        self.output.write(json.dumps({"event": EVENT}) + "\n")
        self.output.flush()
        while place.exists():
            time.sleep(_POLL)


def waiting_key(live: LiveSystem) -> Path:
    """Where a key waits for a screen."""
    return live.runtime / "recovery-key"


def require_reader(answers: Answers, disclosure: Disclosure) -> None:
    """HyperError (Exit.answers) if a recovery key is to be shown, and nobody could see it."""
    if recovery_kind(answers) is RecoveryKind.show and (reason := disclosure.obstacle()):
        raise HyperError(
            "the recovery key could not be shown to anybody",
            why=f"{reason}, and it is written nowhere",
            remedy="run this on a terminal; or have it encrypted for somebody (storage.encryption.recovery_recipients), or "
            'do without (storage.encryption.recovery_key = "off")',
            code=Exit.answers,
        )


def page(host: str, key: str) -> list[str]:
    """What stands on a screen."""
    return framed(
        f"Recovery key of {host}",
        key,
        "It opens every encrypted disk of this host when the passphrase is lost: type it at the prompt for the "
        "passphrase. It is shown here alone, and is kept in no file and no log.",
    )


def framed(title: str, key: str, words: str) -> list[str]:
    """A page with the key on a line of its own, in 80 columns."""
    return ["", _RULE, title, "", f"  {key}", "", *paragraph(words, "", ""), _RULE]
