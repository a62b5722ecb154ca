"""People at an installed host: over SSH with a key, and at the serial console with a password."""

import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from installer.errors import HyperError
from tests.lab import userland
from tests.lab.channels import Serial
from tests.lab.command import run
from tests.lab.patience import patience
from tests.lab.tools import entered


def make_key(folder: Path) -> str:
    """A fresh key pair in the folder; returns the public half."""
    key = folder / "key"
    comment = ("-N", "", "-C", "administrator")
    argv = ["ssh-keygen", "-q", "-t", "ed25519", *comment, "-f", str(key)]
    run(entered(userland.build() / "root", argv, keep_user=True))
    return key.with_suffix(".pub").read_text().strip()


NOT_YET = re.compile("kex_exchange_identification|banner exchange|Connection refused")
"""What OpenSSH's client says when nobody answered, so that nothing was run."""


@dataclass(frozen=True)
class Ssh:
    """One person's way in over SSH."""

    user: str
    port: int
    folder: Path
    """Holds the key."""

    def command(self, *options: str) -> list[str]:
        """The client's command line up to the remote command."""
        settings = {
            "UserKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "no",
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": str(int(patience(10))),
        }
        words = ["ssh", "-F", "/dev/null", "-i", str(self.folder / "key"), "-p", str(self.port), *options]
        for name, value in settings.items():
            words += ["-o", f"{name}={value}"]
        return [*words, f"{self.user}@127.0.0.1"]

    def run(
        self, command: str, *options: str, measured: float = 8, stdin: str | None = None
    ) -> tuple[int, str]:
        """Run a command on the host; exit status (255: the client's own failure) and what it printed."""
        try:
            done = subprocess.run(
                entered(userland.build() / "root", [*self.command(*options), command], keep_user=True),
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=patience(measured),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise HyperError(
                f"no answer over SSH to {command!r}",
                why=f"{patience(measured):.0f} s passed",
                remedy="read the host's serial log in the run's folder",
            ) from error
        return done.returncode, done.stdout + done.stderr

    def first(self, command: str, measured: float = 30) -> tuple[int, str]:
        """Run a command on a host that has just started: asked again while its network or SSH server is not there yet."""
        deadline = time.monotonic() + patience(measured)
        while True:
            code, text = self.run(command, measured=measured)
            if not (code == 255 and NOT_YET.search(text)) or time.monotonic() > deadline:
                return code, text
            threading.Event().wait(1)

    def sudo(self, command: str, password: str, measured: float = 10) -> tuple[int, str]:
        """Run a command on the host as root, giving the password to sudo."""
        return self.run(f"sudo -S -p '' {command}", measured=measured, stdin=f"{password}\n")


def _name(serial: Serial, user: str, tries: int = 5) -> None:
    """Give the name at the login prompt, again if need be: agetty drops what was typed when it shows news of the host
    (its issue files changed, as they do at every step of the first run).
    """
    for left in reversed(range(tries)):
        serial.type(f"{user}\n")
        try:
            serial.expect(r"Password: ?$", 2.5)
        except HyperError:
            if not left:
                raise
            # Maybe it did arrive and the password is waited for: an empty one leads back to the prompt.
            serial.type("\n")
            serial.expect(r"login: ?$", 10)
        else:
            return


def serial_login(serial: Serial, user: str, password: str, *, leave: bool = True) -> str:
    """Log in at the serial console, look around, log out unless told to stay. Returns what `id` said."""
    serial.type("\n")
    serial.expect(r"login: ?$", 60)
    _name(serial, user)
    serial.type(f"{password}\n")
    serial.expect(r"\$ ?$", 15)
    serial.type("id; echo logged-in:$?\n")
    seen = serial.expect(r"uid=(.*)[\s\S]*?logged-in:0", 8)[0]
    if leave:
        serial.type("exit\n")
    return seen
