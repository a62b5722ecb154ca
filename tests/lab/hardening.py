"""`hv security harden` on an installed host: tried, refused, fallen back, cut from its power, kept, rebuilt, and lowered.

After each of these somebody logs in over SSH with a key and at the serial console with a password.
"""

import shlex
from dataclasses import dataclass
from typing import Any

from tests.lab import installed
from tests.lab.installed import LAST, LONG, Host
from tests.lab.machine import Running
from tests.lab.patience import patience
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSWORD

HISTORY = "/var/lib/hyper-nixos/history.jsonl"
AUDITED = "grep --no-filename --only-matching --extended-regexp 'hyper-nixos [a-z]+: [^\"]+, by [a-z ]+' /var/log/audit/*"
"""What the kernel's audit log has of us."""
LOCKOUT = 8
"""Exit code of what would lock somebody out (installer/errors.py)."""
WINDOW = 8.0
"""What the logins in the window take, in measured seconds."""


@dataclass
class Hardening:
    """The phase of one installed host."""

    host: Host

    def standing(self) -> dict[str, Any]:
        """What `hv security phase` says to root, who alone may read what boots next."""
        return installed.documents(self.host.ssh.sudo("hv security phase --json", PASSWORD, measured=20)[1])

    def refused(self) -> None:
        """The only administrator's account has run out: nobody could log in after the switch."""
        host, prove = self.host, self.host.recorder.prove
        with host.recorder.phase("hv security harden, with nobody left to log in", "host"):
            code, text = host.root(
                f"usermod --expiredate 1 {ADMINISTRATOR}; hv security harden; code=$?; "
                f"usermod --expiredate '' {ADMINISTRATOR}; exit $code",
                measured=60,
            )
        host.recorder.excerpt("hv security harden, refused", text)
        prove(
            "harden is refused when it would lock everybody out", code == LOCKOUT, f"status {code}: {text}"
        )
        prove("what is refused changes nothing", host.running() == host.setup, text)

    def falls_back(self, running: Running) -> None:
        """Nobody confirms."""
        host, prove = self.host, self.host.recorder.prove
        seconds = int(patience(WINDOW))
        with host.recorder.phase("hv security harden, which nobody confirms", "host"):
            code, text = host.hv(f"security harden --seconds {seconds}", measured=60)
            prove("the phase is raised", code == 0 and host.running() != host.setup, text)
            code, text = host.ssh.run(
                "id", "-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "BatchMode=yes"
            )
            prove(
                "SSH offers nothing but keys while it is tried", code == 255 and "(publickey)" in text, text
            )
        host.logins(running, "while phase hardened is tried")
        now = host.running()
        prove("the logins were in phase hardened", now != host.setup, now)
        with host.recorder.phase("the host goes back by itself", "host"):
            until = f"until grep -q outcome {LAST}; do sleep 1; done"
            code, text = host.root(
                f"timeout {seconds + int(patience(60))} sh -c {shlex.quote(until)}", seconds + 80
            )
        prove("the phase goes back by itself", code == 0 and host.last() == "reverted", text)
        prove("what ran before runs again", host.running() == host.setup, host.setup)
        host.logins(running, "after falling back")

    def kept(self, running: Running) -> str:
        """Confirmed from a new connection. Returns what runs then."""
        host, prove = self.host, self.host.recorder.prove
        with host.recorder.phase("hv security harden, confirmed", "host"):
            code, text = host.hv(f"security harden --seconds {LONG}", measured=60)
            prove("the phase is raised once more", code == 0, text)
            code, text = host.hv("security confirm", measured=60)
            prove("a new SSH connection confirms it", code == 0 and host.last() == "confirmed", text)
        self.stands("hardened", "phase hardened runs, boots next, and is declared for the next rebuild")
        host.logins(running, "after hardening")
        return host.running()

    def stands(self, phase: str, claim: str) -> None:
        """What runs, boots next and is declared is this phase."""
        standing = self.standing()
        evidence = {name: standing[name] for name in ("running", "boots", "declared", "waiting")}
        phases = [standing[name] and standing[name]["phase"] for name in ("running", "boots")]
        there = [*phases, standing["declared"]]
        self.host.recorder.prove(claim, there == [phase] * 3, str(evidence))

    def rebuilt(self, running: Running) -> None:
        """The next rebuild, by a real Nix, of a declaration that somebody has changed meanwhile."""
        host, prove = self.host, self.host.recorder.prove
        before = host.running()
        # As a person does it, in the last line of a module.
        host.told(
            "sed -i '$ s/^}/  environment.etc.rebuilt.text = \"rebuilt\";\\n}/' /etc/nixos/configuration.nix"
        )
        built = host.rebuild()
        prove("the rebuilt system runs", host.running() == built != before, f"{built}, after {before}")
        prove("the rebuild has brought what was changed", host.told("cat /etc/rebuilt") == "rebuilt", built)
        self.stands("hardened", "after the next rebuild phase hardened runs, boots next, and is declared")
        host.logins(running, "after the next rebuild")

    def audited(self, claim: str, *actions: str) -> None:
        """The kernel's audit log has these, each."""
        text = self.host.root(AUDITED)[1]
        self.host.recorder.excerpt("the audit log", text)
        written = {
            line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("hyper-nixos ")
        }
        self.host.recorder.prove(claim, written.issuperset(actions), f"{sorted(written)}\n{text}")

    def relaxed(self, running: Running) -> None:
        """Lowered again, and on record."""
        host, prove = self.host, self.host.recorder.prove
        before = host.running()
        with host.recorder.phase("hv security relax", "host"):
            code, text = host.hv("security relax", measured=60)
        prove("relax goes back to phase setup", code == 0 and host.running() != before, text)
        self.stands("setup", "phase setup runs, boots next, and is declared")
        history = host.root(f"cat {HISTORY}")[1]
        host.recorder.excerpt("history of the host", history)
        written = [line for line in history.splitlines() if '"relax"' in line and ADMINISTRATOR in line]
        prove("the history says who relaxed it", len(written) == 1, history)
        self.audited("the audit log has all of it", "harden", "reverted", "rebooted", "confirmed", "relax")
        host.logins(running, "after relaxing")


def play() -> Recorder:
    """Play it through."""
    summary = "An installed host, its phase raised, fallen back, kept, rebuilt, lowered."
    return installed.played("hardening", summary, installed.scenario(), _play)


def _play(host: Host) -> None:
    prove, it = host.recorder.prove, Hardening(host)
    with host.machine.start("host") as running:
        host.start(running, "after installing")
        host.first_run()
        host.setup = host.running()
        it.refused()
        it.falls_back(running)
        with host.recorder.phase("hv security harden, and a power cut", "host"):
            code, text = host.hv(f"security harden --seconds {LONG}", measured=60)
            prove("the phase is raised again", code == 0 and host.running() != host.setup, text)
    with host.machine.start("after-cut") as running:
        host.start(running, "after a power cut in the window")
        prove("after a power cut the host is in phase setup", host.running() == host.setup, host.setup)
        # Joins the unit that runs since boot, if it still does.
        text = host.root("systemctl start hyper-nixos-guard.service; ls /var/lib/hyper-nixos/guard")[1]
        settled = "pending.json" not in text and host.last() == "rebooted"
        prove("nothing waits any more, and the record says why", settled, text)
        it.audited("after the power cut the audit log says how each change ended", "reverted", "rebooted")
        hardened = it.kept(running)
        host.off(running)
    with host.machine.start("hardened") as running:
        host.start(running, "in phase hardened after a reboot")
        prove("the host starts in phase hardened", host.running() == hardened, hardened)
        it.rebuilt(running)
        host.off(running)
    with host.machine.start("rebuilt") as running:
        host.start(running, "after the rebuild and a reboot")
        it.stands("hardened", "the rebuilt host starts in phase hardened")
        it.relaxed(running)
        host.off(running)
