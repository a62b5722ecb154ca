"""An installed host's disks, made once: what is tried on it goes into overlays, so that each trial begins with the host
as the installer left it, before its first boot.
"""

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from installer.handoff import HANDOFF_PATH
from tests.lab import cache, layers, play, userland
from tests.lab.command import run
from tests.lab.machine import Machine, Running
from tests.lab.paths import RUNS
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSWORD, PASSWORD_HASH, Scenario, combinations
from tests.lab.session import Ssh, make_key, serial_login
from tests.lab.tools import entered

LONG = 3600
"""Seconds that are not waited for."""
LAST = "/var/lib/hyper-nixos/guard/last.json"
"""How the last change that waited to be confirmed ended."""

RECOVERY = "recovery-key.age"
"""What opens an encrypted disk, sealed for the administrator."""


@dataclass
class Host:
    """One installed host that something is tried on."""

    what: Scenario
    recorder: Recorder
    machine: Machine
    setup: str = ""
    """Toplevel that was installed, in phase setup."""

    @property
    def ssh(self) -> Ssh:
        """The administrator; each command is a connection of its own."""
        return Ssh(ADMINISTRATOR, self.machine.port, self.machine.folder)

    def root(self, command: str, measured: float = 20) -> tuple[int, str]:
        """A shell command as root."""
        return self.ssh.sudo(f"sh -c {shlex.quote(command)}", PASSWORD, measured=measured)

    def told(self, command: str, measured: float = 20) -> str:
        """The same, which must succeed."""
        code, text = self.root(command, measured)
        assert code == 0, f"{command}: exit status {code}\n{text}"
        return text.strip()

    def encrypted(self) -> str:
        """The device that a token is to open, as the hand-off names it."""
        found: Any = json.loads(self.told(f"cat {HANDOFF_PATH} 2>/dev/null"))
        return str(found["enrolment"]["devices"][0])

    def header(self, device: str) -> dict[str, dict[str, Any]]:
        """The JSON area of its LUKS2 header."""
        found: Any = json.loads(self.told(f"cryptsetup luksDump --dump-json-metadata {device} 2>/dev/null"))
        return dict(found)

    def hv(self, words: str, measured: float = 40) -> tuple[int, str]:
        """`hv`, as a person runs it."""
        code, text = self.ssh.sudo(f"hv {words}", PASSWORD, measured=measured)
        self.recorder.excerpt(f"hv {words}", text)
        for line in text.splitlines():
            self.recorder.detail(line)
        return code, text

    def running(self) -> str:
        """Toplevel that runs."""
        return self.ssh.run("readlink -f /run/current-system", measured=15)[1].strip()

    def last(self) -> str:
        """How the last change ended."""
        return str(documents(self.root(f"cat {LAST}")[1])["outcome"])

    def logins(self, running: Running, when: str) -> None:
        """Both ways in."""
        prove = self.recorder.prove
        with self.recorder.phase(f"logins {when}", "host"):
            code, text = self.ssh.run("id", measured=15)
            prove(f"{ADMINISTRATOR} logs in over SSH with a key {when}", code == 0 and "wheel" in text, text)
            self.console(running, when)

    def console(self, running: Running, when: str) -> None:
        """The serial console alone."""
        seen = serial_login(running.serial, ADMINISTRATOR, PASSWORD)
        claim = f"{ADMINISTRATOR} logs in at the serial console {when}"
        self.recorder.prove(claim, "wheel" in seen, seen)

    def start(self, running: Running, when: str) -> None:
        """To the login prompt, and in."""
        play.boot(self.what, self.recorder, running)
        self.logins(running, when)

    def first_run(self) -> str:
        """Wait for the job that runs since boot; what `hv firstrun status` says of each."""
        with self.recorder.phase("first run", "host"):
            play.wait_first_run(self.recorder, self.ssh)
            code, text = self.ssh.run("hv firstrun status", measured=15)
            for line in text.splitlines():
                self.recorder.detail(line)
            self.recorder.prove("every job of the first run is done", code == 0, text)
        return text

    def rebuild(self) -> str:
        """What `nixos-rebuild switch` does, with a real Nix: evaluate and build what /etc/nixos says, make it the next
        generation, switch to it. Returns what was built."""
        target = f'path:/etc/nixos#nixosConfigurations."{self.what.hostname}".config.system.build.toplevel'
        features = "--extra-experimental-features 'nix-command flakes'"
        with self.recorder.phase("rebuild", "host"):
            said = self.told(f"nix {features} build --no-link --print-out-paths '{target}'", 240)
            # What it says meanwhile comes after its result.
            built = next(line for line in said.splitlines() if line.startswith("/nix/store/"))
            self.told(f"nix-env --profile /nix/var/nix/profiles/system --set {built}", 30)
            self.told(f"{built}/bin/switch-to-configuration switch", 60)
        return built

    def off(self, running: Running) -> None:
        """Switched off as a person does it."""
        self.ssh.sudo("systemctl poweroff", PASSWORD)
        running.wait_off(40)


def played(name: str, summary: str, what: Scenario, do: Callable[[Host], None], grown: str = "") -> Recorder:
    """Try something on an installed host; the record is in the run's folder, also when something fails.

    Args:
        name: Of the run.
        summary: One sentence for a person.
        what: What was installed.
        do: What is tried.
        grown: Size that its first disk has become since, as qemu-img understands it; empty: the one it had.
    """
    folder = RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{name}"
    recorder = Recorder(name, summary, folder)
    try:
        base = disks(what, recorder)
        do(Host(what, recorder, overlay(what, base, folder, grown)))
        for image in folder.glob("*.qcow2"):
            image.unlink()
    finally:
        recorder.write()
    return recorder


def scenario() -> Scenario:
    """UEFI with systemd-boot, not encrypted: nobody has to type anything for it to start."""
    found = next(each for each in combinations() if each.name == "uefi-ext4-plain")
    return replace(
        found, summary="An installed host, to be hardened, let fall back, and cut from its power."
    )


def disks(what: Scenario, recorder: Recorder) -> Path:
    """The folder with the installed disks, firmware variables and the administrator's key."""
    iso = play.build(recorder)

    def install(folder: Path) -> None:
        machine = Machine(what.hardware, folder)
        machine.create()
        answers = what.answers().replace("@ssh-key@", make_key(folder))
        shutil.copy2(folder / "key", recorder.folder / "key")
        (recorder.folder / "answers.toml").write_text(answers)
        with machine.start("live", iso=iso) as running:
            with recorder.phase("boot the live medium", "firmware"):
                agent = running.live()
            play.install(what, recorder, running, agent)
            agent.start(["bash", "-c", "sync; reboot -f"])
            running.wait_off(5)
        shutil.copy2(recorder.folder / play.LAST_WORDS, folder / play.LAST_WORDS)
        if what.encrypted:
            shutil.copy2(recorder.folder / RECOVERY, folder / RECOVERY)

    content = cache.key(
        layers.code().name, what.answers(), what.hardware.firmware, PASSWORD_HASH, what.passphrase
    )
    return cache.built("installed", content, install)


def overlay(what: Scenario, base: Path, folder: Path, grown: str = "") -> Machine:
    """A machine of its own that begins as the installed one; nothing is written to the base."""
    for number, disk in enumerate(what.hardware.disks):
        name = f"{disk.serial}.qcow2"
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base / name)]
        size = [grown] if grown and number == 0 else []
        run(entered(userland.build() / "root", [*argv, str(folder / name), *size], keep_user=True))
    for name in ("variables.fd", "key", "key.pub", RECOVERY, play.LAST_WORDS):
        if (base / name).exists():
            shutil.copy2(base / name, folder / name)
    return Machine(what.hardware, folder, unlock=what.unlock)


def documents(text: str) -> dict[str, object]:
    """The JSON document that a command printed, after whatever sudo said before it."""
    found: dict[str, object] = json.loads(text[text.index("{") :])
    return found
