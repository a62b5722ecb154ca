"""One SSH connection that several commands share, to a machine whose key is pinned."""

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.remote.target import Target

LOST = 255
"""What ssh(1) ends with when the connection fails, not the command."""


@dataclass(frozen=True)
class Connection:
    """A way to run commands there."""

    target: Target
    """Where."""
    known_hosts: Path
    """The one key that is accepted."""
    control: Path
    """Socket that commands share: a password is asked for once."""
    identity: str | None = None
    """Private key to log in with; none: ssh's own choice."""

    def argv(self, *more: str) -> list[str]:
        """The command line of ssh up to the command."""
        options = [
            f"UserKnownHostsFile={self.known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "ConnectTimeout=15",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=3",
            f"ControlPath={self.control}",
        ]
        key = ["-i", self.identity, "-o", "IdentitiesOnly=yes"] if self.identity else []
        words = [word for option in options for word in ("-o", option)]
        where = ["-p", str(self.target.port), "-l", self.target.user, *more, "--", self.target.host]
        return ["ssh", *words, *key, *where]

    def open(self) -> None:
        """Log in; ssh asks at the terminal for what it needs. Raises HyperError."""
        done = subprocess.run(
            [*self.argv("-f", "-N", "-M", "-o", "ControlPersist=600")],
            check=False,
            stdout=subprocess.DEVNULL,
        )
        if done.returncode:
            raise HyperError(
                f"{self.target.user} could not log in to {self.target.host}",
                why="ssh says why above",
                remedy="the live system's screen shows its password; with a key of your own name it: `--identity FILE`",
                code=Exit.failed,
            )

    def close(self) -> None:
        """Log out."""
        with contextlib.suppress(OSError):
            subprocess.run(self.argv("-O", "exit"), check=False, capture_output=True)

    def output(self, command: str, stdin: bytes = b"") -> str:
        """What a command prints there. Raises HyperError with what it said."""
        done = subprocess.run([*self.argv(), command], input=stdin, capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
            raise HyperError(
                f"a command failed on {self.target.host}",
                why=said,
                remedy="mend what it says, and run the same command again",
                code=_kind(done.returncode),
            )
        return done.stdout.decode(errors="replace")

    def try_output(self, command: str) -> tuple[int, str]:
        """Exit status and output of a command that may fail, or whose machine may be away (LOST). Asks for nothing."""
        done = subprocess.run(
            [*self.argv("-o", "BatchMode=yes"), command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def show(self, command: str, *, terminal: bool = False) -> int:
        """Run a command with its output here; its exit status, or LOST."""
        more = ("-t",) if terminal else ()
        return subprocess.run(
            [*self.argv(*more), command], check=False, stdin=None if terminal else subprocess.DEVNULL
        ).returncode


def _kind(status: int) -> Exit:
    """The same kind of failure here as there, where it is one of ours."""
    try:
        return Exit(status)
    except ValueError:
        return Exit.failed


@contextmanager
def connected(connection: Connection) -> Iterator[Connection]:
    """The connection, opened and closed."""
    connection.open()
    try:
        yield connection
    finally:
        connection.close()
