"""`hv security harden` on an installed host: tried, refused, fallen back, cut from its power, kept, and lowered again.

After each of these somebody logs in over SSH with a key and at the serial console with a password.
"""

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.lab import installed
from tests.lab.machine import Machine, Running
from tests.lab.paths import RUNS
from tests.lab.patience import patience
from tests.lab.play import boot
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSWORD, Scenario
from tests.lab.session import Ssh, serial_login

LAST = "/var/lib/hyper-nixos/guard/last.json"
HISTORY = "/var/lib/hyper-nixos/history.jsonl"
LOCKOUT = 8
"""Exit code of what would lock somebody out (installer/errors.py)."""
WINDOW = 8.0
"""What the logins in the window take, in measured seconds."""
LONG = 3600
"""Seconds that are not waited for."""


@dataclass
class Hardening:
    """One installed host."""

    what: Scenario
    recorder: Recorder
    machine: Machine
    setup: str = ""
    """Toplevel of phase setup."""

    @property
    def ssh(self) -> Ssh:
        """The administrator; each command is a connection of its own."""
        return Ssh(ADMINISTRATOR, self.machine.port, self.machine.folder)

    def root(self, command: str, measured: float = 20) -> tuple[int, str]:
        """A shell command as root."""
        return self.ssh.sudo(f"sh -c {shlex.quote(command)}", PASSWORD, measured=measured)

    def hv(self, words: str, measured: float = 40) -> tuple[int, str]:
        """`hv security`, as a person runs it."""
        code, text = self.ssh.sudo(f"hv security {words}", PASSWORD, measured=measured)
        self.recorder.excerpt(f"hv security {words}", text)
        for line in text.splitlines():
            self.recorder.detail(line)
        return code, text

    def running(self) -> str:
        """Toplevel that runs."""
        return self.ssh.run("readlink -f /run/current-system", measured=15)[1].strip()

    def standing(self) -> dict[str, Any]:
        """What `hv security phase` says to root, who alone may read what boots next."""
        return installed.documents(self.ssh.sudo("hv security phase --json", PASSWORD, measured=20)[1])

    def last(self) -> str:
        """How the last change ended."""
        return str(installed.documents(self.root(f"cat {LAST}")[1])["outcome"])

    def logins(self, running: Running, when: str) -> None:
        """Both ways in."""
        prove = self.recorder.prove
        with self.recorder.phase(f"logins {when}", "host"):
            code, text = self.ssh.run("id", measured=15)
            prove(f"{ADMINISTRATOR} logs in over SSH with a key {when}", code == 0 and "wheel" in text, text)
            seen = serial_login(running.serial, ADMINISTRATOR, PASSWORD)
            prove(f"{ADMINISTRATOR} logs in at the serial console {when}", "wheel" in seen, seen)

    def refused(self) -> None:
        """The only administrator's account has run out: nobody could log in after the switch."""
        prove = self.recorder.prove
        with self.recorder.phase("hv security harden, with nobody left to log in", "host"):
            code, text = self.root(
                f"usermod --expiredate 1 {ADMINISTRATOR}; hv security harden; code=$?; "
                f"usermod --expiredate '' {ADMINISTRATOR}; exit $code",
                measured=60,
            )
        self.recorder.excerpt("hv security harden, refused", text)
        prove(
            "harden is refused when it would lock everybody out", code == LOCKOUT, f"status {code}: {text}"
        )
        prove("what is refused changes nothing", self.running() == self.setup, text)

    def falls_back(self, running: Running) -> None:
        """Nobody confirms."""
        prove = self.recorder.prove
        seconds = int(patience(WINDOW))
        with self.recorder.phase("hv security harden, which nobody confirms", "host"):
            code, text = self.hv(f"harden --seconds {seconds}", measured=60)
            prove("the phase is raised", code == 0 and self.running() != self.setup, text)
            code, text = self.ssh.run(
                "id", "-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "BatchMode=yes"
            )
            prove(
                "SSH offers nothing but keys while it is tried", code == 255 and "(publickey)" in text, text
            )
        self.logins(running, "while phase hardened is tried")
        now = self.running()
        prove("the logins were in phase hardened", now != self.setup, now)
        with self.recorder.phase("the host goes back by itself", "host"):
            until = f"until grep -q outcome {LAST}; do sleep 1; done"
            code, text = self.root(
                f"timeout {seconds + int(patience(60))} sh -c {shlex.quote(until)}", seconds + 80
            )
        prove("the phase goes back by itself", code == 0 and self.last() == "reverted", text)
        prove("what ran before runs again", self.running() == self.setup, self.setup)
        self.logins(running, "after falling back")

    def kept(self, running: Running) -> str:
        """Confirmed from a new connection. Returns what runs then."""
        prove = self.recorder.prove
        with self.recorder.phase("hv security harden, confirmed", "host"):
            code, text = self.hv(f"harden --seconds {LONG}", measured=60)
            prove("the phase is raised once more", code == 0, text)
            code, text = self.hv("confirm", measured=60)
            prove("a new SSH connection confirms it", code == 0 and self.last() == "confirmed", text)
        standing = self.standing()
        evidence = str({name: standing[name] for name in ("running", "boots", "declared", "waiting")})
        phases = [standing[name] and standing[name]["phase"] for name in ("running", "boots")]
        prove("phase hardened runs, and boots next", phases == ["hardened", "hardened"], evidence)
        prove(
            "phase hardened is declared for the next rebuild", standing["declared"] == "hardened", evidence
        )
        self.logins(running, "after hardening")
        return self.running()

    def relaxed(self, running: Running) -> None:
        """Lowered again, and on record."""
        prove = self.recorder.prove
        with self.recorder.phase("hv security relax", "host"):
            code, text = self.hv("relax", measured=60)
        prove("relax goes back to phase setup", code == 0 and self.running() == self.setup, text)
        history = self.root(f"cat {HISTORY}")[1]
        self.recorder.excerpt("history of the host", history)
        written = [line for line in history.splitlines() if '"relax"' in line and ADMINISTRATOR in line]
        prove("the history says who relaxed it", len(written) == 1, history)
        self.logins(running, "after relaxing")

    def start(self, running: Running, when: str) -> None:
        """To the login prompt, and in."""
        boot(self.what, self.recorder, running)
        self.logins(running, when)


def play() -> Recorder:
    """Play it through; the record is in the run's folder, also when something fails."""
    what = installed.scenario()
    folder = RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-hardening"
    recorder = Recorder(
        "hardening", "An installed host, its phase raised, fallen back, kept, lowered.", folder
    )
    try:
        base = installed.disks(what, recorder)
        machine = installed.overlay(what, base, folder)
        _play(Hardening(what, recorder, machine))
        for image in folder.glob("*.qcow2"):
            image.unlink()
    finally:
        recorder.write()
    return recorder


def _play(host: Hardening) -> None:
    prove = host.recorder.prove
    with host.machine.start("host") as running:
        host.start(running, "after installing")
        with host.recorder.phase("first run", "host"):
            host.ssh.sudo("systemctl start hyper-nixos-firstrun.service", PASSWORD, measured=180)
            code, text = host.ssh.run("hv firstrun status", measured=15)
            prove("every job of the first run is done", code == 0, text)
        host.setup = host.running()
        host.refused()
        host.falls_back(running)
        with host.recorder.phase("hv security harden, and a power cut", "host"):
            code, text = host.hv(f"harden --seconds {LONG}", measured=60)
            prove("the phase is raised again", code == 0 and host.running() != host.setup, text)
    with host.machine.start("after-cut") as running:
        host.start(running, "after a power cut in the window")
        prove("after a power cut the host is in phase setup", host.running() == host.setup, host.setup)
        # Joins the unit that runs since boot, if it still does.
        text = host.root("systemctl start hyper-nixos-guard.service; ls /var/lib/hyper-nixos/guard")[1]
        settled = "pending.json" not in text and host.last() == "rebooted"
        prove("nothing waits any more, and the record says why", settled, text)
        hardened = host.kept(running)
        host.ssh.sudo("systemctl poweroff", PASSWORD)
        running.wait_off(40)
    with host.machine.start("hardened") as running:
        host.start(running, "in phase hardened after a reboot")
        prove("the host starts in phase hardened", host.running() == hardened, hardened)
        host.relaxed(running)
        host.ssh.sudo("systemctl poweroff", PASSWORD)
        running.wait_off(40)
