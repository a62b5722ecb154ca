"""`hv setup` on an installed host, with a real Nix that evaluates and builds in it: confirmed, and not confirmed."""

import threading
import time

from tests.lab import installed
from tests.lab.installed import LONG, Host
from tests.lab.machine import Running
from tests.lab.patience import patience
from tests.lab.recorder import Recorder

TOML = "/etc/nixos/host.toml"
MODULE = "/etc/nixos/configuration.nix"
COMMENT = "# ours: the office moved in 2024"
LINE = 'environment.etc.mine.text = "mine";'
SUMS = "find /etc/nixos -type f -exec sha256sum {} + | sort"
WINDOW = 10.0
"""What a login at the console takes, in measured seconds."""


def play() -> Recorder:
    """Play it through."""
    summary = "An installed host, its declaration changed by hand and by hv setup: kept, and taken back."
    return installed.played("setup", summary, installed.scenario(), _play)


def _play(host: Host) -> None:
    prove = host.recorder.prove
    with host.machine.start("host") as running:
        host.start(running, "after installing")
        host.first_run()
        host.setup = host.running()
        _looked(host)
        changed = _kept(host, running)
        host.off(running)
    with host.machine.start("changed") as running:
        host.start(running, "after the change and a reboot")
        prove("the host starts with what was confirmed", host.running() == changed, changed)
        _taken_back(host, running)
        history = host.hv("setup history")[1]
        ends = [each for each in ("confirmed", "reverted") if each in history]
        prove("the history says how both ended", ends == ["confirmed", "reverted"], history)
        host.off(running)


def _looked(host: Host) -> None:
    """By hand first; then the command says what would become of it, and changes nothing."""
    host.told(f"sed -i '1 s/^/{COMMENT}\\n/' {TOML} && sed -i '$ s/^}}/  {LINE}\\n}}/' {MODULE}")
    before = host.told(SUMS)
    with host.recorder.phase("hv setup --dry-run", "host"):
        code, text = host.hv("setup --set timezone=Europe/Zurich --dry-run", 120)
    prove = host.recorder.prove
    prove("a dry run says what would change", code == 0 and '-> "Europe/Zurich"' in text, text)
    prove("it asks Nix what becomes of the system", "System:" in text and "units: the same" in text, text)
    prove("it changes nothing", host.told(SUMS) == before, text)


def _kept(host: Host, running: Running) -> str:
    """Built, tried, confirmed. Returns what runs then."""
    prove = host.recorder.prove
    with host.recorder.phase("hv setup, confirmed", "host"):
        code, text = host.hv(f"setup --set timezone=Europe/Zurich --seconds {LONG}", 300)
        prove("the changed system is built and tried", code == 0 and "sudo hv setup confirm" in text, text)
        now = host.running()
        prove("it runs", now != host.setup, now)
        zone = host.told("readlink -f /etc/localtime")
        prove("what was asked for is in force", zone.endswith("Europe/Zurich"), zone)
        prove("nothing is declared yet", "Zurich" not in host.told(f"cat {TOML}"), text)
        code, text = host.hv("setup confirm", 60)
        prove("a new SSH connection confirms it", code == 0 and host.last() == "confirmed", text)
    declared, module = host.told(f"cat {TOML}"), host.told(f"cat {MODULE}")
    host.recorder.excerpt("host.toml", declared)
    host.recorder.excerpt("configuration.nix", module)
    prove("it is declared", "Europe/Zurich" in declared and "Europe/Zurich" in module, declared)
    prove("what was written by hand is kept", COMMENT in declared and LINE in module, declared + module)
    prove("and is in force", host.told("cat /etc/mine") == "mine", module)
    host.logins(running, "after the change was confirmed")
    return now


def _taken_back(host: Host, running: Running) -> None:
    """A change that shuts SSH out: nobody can confirm it over the network, and nobody has to."""
    prove = host.recorder.prove
    before, files = host.running(), host.told(SUMS)
    seconds = int(patience(WINDOW))
    with host.recorder.phase("hv setup, which nobody confirms", "host"):
        code, text = host.hv(f"setup --set ssh.port=2222 --seconds {seconds}", 300)
        prove("another port for SSH is tried", code == 0, text)
        code, text = host.ssh.run("true", measured=15)
        prove("nobody gets in over SSH where the lab knocks", code == 255, text)
        host.console(running, "while SSH is shut out")
    with host.recorder.phase("the host goes back by itself", "host"):
        pause, ends = threading.Event(), time.monotonic() + seconds + patience(60)
        while host.ssh.run("true", measured=15)[0] != 0 and time.monotonic() < ends:
            pause.wait(1)
        code, text = host.root(
            "until [ ! -e /var/lib/hyper-nixos/guard/pending.json ]; do sleep 1; done", 60
        )
        prove("the change goes back by itself", code == 0 and host.last() == "reverted", text)
    prove("what ran before runs again", host.running() == before, before)
    prove("not one file has changed", host.told(SUMS) == files, files)
    host.logins(running, "after it went back")
