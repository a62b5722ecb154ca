"""A NixOS-shaped system that knows nothing of ours, made a Hyper-NixOS host by `hv migrate` over SSH, and taken back.

What is real: the installed system with its boot menu, `hv migrate` in it, Nix's evaluation and build, the reboots, the
firmware, systemd-boot's counting or GRUB's environment block, systemd, the check of the first boot, SSH.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from installer.migrate.trial import PROGRAM
from tests.lab import cache, layers, userland
from tests.lab.channels import Agent
from tests.lab.command import run
from tests.lab.machine import Disk, Hardware, Machine, Running
from tests.lab.paths import LAB, RUNS
from tests.lab.patience import patience
from tests.lab.play import build
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSWORD, PASSWORD_HASH
from tests.lab.session import Ssh, make_key, serial_login
from tests.lab.tools import entered

Firmware = Literal["uefi", "bios"]
PLAIN = LAB / "plain"
DISK = Disk("HVMAIN01", bus="virtio")
OTHER = "bob"
"""Somebody who may log in and is no administrator."""
CHECKOUT = "/home/alice/hyper-nixos"
LIBRARIES = ("tree-sitter==0.26.1", "tree-sitter-nix==0.1.0")
"""What `hv migrate` reads Nix with, and Debian has no packages of: from PyPI, for the userland's Python."""
PATIENCE = 25
"""Seconds that the machine that shall fail waits before it says so."""


def hardware(firmware: Firmware) -> Hardware:
    """The machine."""
    return Hardware(firmware=firmware, disks=(DISK,), mac="52:54:00:48:56:05")


def libraries() -> Path:
    """A folder for PYTHONPATH."""

    def fetch(into: Path) -> None:
        wheels: list[str | Path] = [
            "--no-deps",
            "--only-binary=:all:",
            "--python-version",
            "3.13",
            "--target",
            into / "lib",
        ]
        run([sys.executable, "-m", "pip", "install", "--quiet", *wheels, *LIBRARIES])

    return cache.built("libraries", cache.key(LIBRARIES), fetch) / "lib"


def base(firmware: Firmware, recorder: Recorder) -> Path:
    """An installed machine's disk, firmware variables and administrator's key, made once and copied for each run."""
    iso = build(recorder)
    medium = json.loads((layers.code() / "medium.json").read_text())
    nixpkgs = medium["nixpkgs"]["store_path"]

    def install(folder: Path) -> None:
        machine = Machine(hardware(firmware), folder)
        machine.create()
        key = make_key(folder)
        with machine.start("plain", iso=iso) as running:
            with recorder.phase("boot the live medium", "firmware"):
                agent = running.live()
            with recorder.phase("install a system by hand", "installer"):
                _install(agent, firmware, key, nixpkgs)
            agent.start(["bash", "-c", "sync; reboot -f"])
            running.wait_off(5)

    content = cache.key(layers.base().name, nixpkgs, PLAIN, firmware, PASSWORD_HASH)
    return cache.built(f"plain-{firmware}", content, install)


def _install(agent: Agent, firmware: Firmware, key: str, nixpkgs: str) -> None:
    for name, source in {
        "flake.nix": "flake.nix",
        "configuration.nix": "configuration.nix",
        "hardware-configuration.nix": f"{firmware}.nix",
    }.items():
        text = (PLAIN / source).read_text()
        for mark, value in {
            "nixpkgs": f"path:{nixpkgs}",
            "ssh-key": key,
            "password-hash": PASSWORD_HASH,
        }.items():
            text = text.replace(f"@{mark}@", value)
        agent.run("mkdir", "-p", "/run/plain")
        agent.write(f"/run/plain/{name}", text)
    agent.write("/run/install.sh", (PLAIN / "install.sh").read_text())
    disk = f"/dev/disk/by-id/virtio-{DISK.serial}"
    answer = agent.start(["bash", "/run/install.sh", disk, firmware]).wait(120)
    assert answer.code == 0, answer.text


@dataclass
class Migration:
    """One machine, from before its migration to after it was taken back."""

    firmware: Firmware
    recorder: Recorder
    machine: Machine
    before: str = ""
    """Toplevel that was installed."""
    files: str = ""
    """Digests of the files in /etc/nixos, as they were."""

    @property
    def ssh(self) -> Ssh:
        """The administrator."""
        return Ssh(ADMINISTRATOR, self.machine.port, self.machine.folder)

    def root(self, command: str, measured: float = 20) -> tuple[int, str]:
        """Run a shell command as root."""
        return self.ssh.sudo(f"sh -c {_quoted(command)}", PASSWORD, measured=measured)

    def told(self, command: str, measured: float = 20) -> str:
        """The same, which must succeed."""
        code, text = self.root(command, measured)
        assert code == 0, f"{command}: exit status {code}\n{text}"
        return text.strip()

    def hv(
        self, words: str, measured: float, program: str = f"{CHECKOUT}/package/bin/hv"
    ) -> tuple[int, str]:
        """`hv` from the checkout that lies on the machine, or another one of it, as a person runs it there."""
        command = f"env PYTHONPATH={CHECKOUT}/lib PYTHONDONTWRITEBYTECODE=1 {program} {words}"
        code, text = self.ssh.sudo(command, PASSWORD, measured=measured)
        self.recorder.excerpt(f"hv {words}", text)
        for line in text.splitlines():
            self.recorder.detail(line)
        return code, text

    def started(self, running: Running, *, reached: bool = True) -> None:
        """Wait for the login prompt, and until the host can be reached."""
        ended = running.serial.expect(r"workshop login:|emergency mode|rescue mode|Kernel panic", 120)[0]
        assert "login:" in ended, running.serial.text()[-1500:]
        if reached and self.ssh.first("true")[0]:
            self._look_around(running)

    def logins(self, running: Running, when: str) -> None:
        """Everybody from before gets in, by every way from before."""
        with self.recorder.phase(f"logins {when}", "host"):
            for user in (ADMINISTRATOR, OTHER):
                code, text = Ssh(user, self.machine.port, self.machine.folder).run("id", measured=20)
                self.recorder.prove(
                    f"{when} {user} logs in over SSH with the key", code == 0 and user in text, text
                )
            text = self.told("id -u")
            self.recorder.prove(
                f"{when} {ADMINISTRATOR} becomes root with the password", text.endswith("0"), text
            )
            seen = serial_login(running.serial, ADMINISTRATOR, PASSWORD)
            self.recorder.prove(f"{when} {ADMINISTRATOR} logs in at the console", "wheel" in seen, seen)

    def _look_around(self, running: Running) -> None:
        """What the console tells of a host that cannot be reached."""
        serial_login(running.serial, ADMINISTRATOR, PASSWORD, leave=False)
        running.serial.type("ip address; systemctl --failed; lsmod | grep virtio; echo looked:$?\n")
        self.recorder.excerpt(
            "the host cannot be reached", running.serial.expect(r"[\s\S]*looked:\d", 20)[0]
        )
        running.serial.type("exit\n")

    def system(self) -> str:
        """Toplevel that runs."""
        return self.told("readlink -f /run/current-system")

    def digests(self) -> str:
        """Files of the configuration."""
        return self.told("cd /etc/nixos && sha256sum $(find . -type f | sort)")

    def menu(self) -> str:
        """The boot menu's entries, and what they start; or GRUB's environment."""
        if self.firmware == "uefi":
            return self.told("cd /boot/loader/entries && grep -H ^options * | cut -d' ' -f1-2")
        return self.told(
            "grub-editenv /boot/grub/grubenv list 2>/dev/null; grep -E 'menuentry|default=' /boot/grub/grub.cfg"
        )

    def reboot(self, running: Running) -> None:
        """As a person does it."""
        self.root("systemctl reboot")
        running.wait_off(60)

    def prepare(self) -> None:
        """A checkout, as a person brings it; and what must be the same again later."""
        self.before = self.system()
        self.files = self.digests()
        with self.recorder.phase("copy a checkout to the machine", "lab"):
            self._copy()

    def look(self) -> None:
        """Looking finds nothing that stops it, and changes nothing."""
        with self.recorder.phase("hv migrate --check", "host"):
            code, text = self.hv("migrate --check", 60)
        self.recorder.prove("hv migrate --check finds nothing that stops it", code == 0, text)
        self.recorder.prove("looking changed no file", self.digests() == self.files, text)

    def migrate(self) -> None:
        """From the running system to the moment before the reboot."""
        with self.recorder.phase("hv migrate", "host"):
            code, text = self.hv(f"migrate --source path:{CHECKOUT} --yes", 180)
        self.recorder.prove("hv migrate says that it is done", code == 0 and "\nDone." in text, text)
        self.recorder.prove("the running system is the one from before", self.system() == self.before, text)
        self.recorder.excerpt("the boot menu before the reboot", self.menu())
        text = self.told("cat /etc/nixos/hyper-nixos.nix; cat /etc/nixos/configuration.nix")
        self.recorder.excerpt("the configuration with the import", text)
        self.recorder.prove("one line imports the new file", text.count("./hyper-nixos.nix") == 1, text)

    def _copy(self) -> None:
        scratch = self.machine.folder / "checkout"
        layers.compose_hyper_nixos(scratch)
        shutil.copytree(libraries(), scratch / "lib")
        archive = self.machine.folder / "checkout.tar"
        run(["tar", "--create", "--file", archive, "--directory", scratch, "--owner=0", "--group=0", "."])
        shutil.rmtree(scratch)
        command = [*self.ssh.command(), f"mkdir -p {CHECKOUT} && tar -x -C {CHECKOUT}"]
        with archive.open("rb") as stream:
            done = subprocess.run(
                entered(userland.build() / "root", command, keep_user=True),
                stdin=stream,
                capture_output=True,
                text=True,
                timeout=patience(40),
                check=False,
            )
        archive.unlink()
        assert done.returncode == 0, done.stderr

    def undo(self, program: str) -> None:
        """Back, by the command."""
        with self.recorder.phase("hv migrate --undo", "host"):
            code, text = self.hv("migrate --undo", 60, program)
        self.recorder.prove("hv migrate --undo says that the next boot is the old system's", code == 0, text)
        self.recorder.prove(
            "every file in /etc/nixos is as it was", self.digests() == self.files, self.digests()
        )
        self.recorder.excerpt("the boot menu after --undo", self.menu())


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\"'\"'") + "'"


def _begin(name: str, firmware: Firmware, summary: str) -> Migration:
    folder = RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{name}-{firmware}"
    recorder = Recorder(f"{name}-{firmware}", summary, folder)
    recorder.say(f"everything about this run is kept in {folder}")
    installed = base(firmware, recorder)
    for file in ("key", "key.pub", "variables.fd"):
        if (installed / file).exists():
            shutil.copy2(installed / file, folder / file)
    image = f"{DISK.serial}.qcow2"
    argv = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        str(installed / image),
        "-F",
        "qcow2",
        str(folder / image),
    ]
    run(entered(userland.build() / "root", argv, keep_user=True))
    return Migration(firmware, recorder, Machine(hardware(firmware), folder))


def stays(firmware: Firmware) -> Recorder:
    """Migrated, started, found well, kept; started again; then taken back by the command."""
    it = _begin(
        "migrate", firmware, f"{firmware.upper()}: a NixOS is migrated in place, stays, and is taken back."
    )
    try:
        _stays(it)
    finally:
        it.recorder.write()
    return it.recorder


def _stays(it: Migration) -> None:
    recorder, machine = it.recorder, it.machine
    with machine.start("before") as running:
        with recorder.phase("boot the system from before", "host"):
            it.started(running)
        it.logins(running, "before")
        it.prepare()
        it.look()
        it.migrate()
        it.reboot(running)
    with machine.start("migrated") as running:
        with recorder.phase("the first boot", "host"):
            it.started(running)
        it.logins(running, "after the migration")
        with recorder.phase("the check of the first boot", "host"):
            # Joins the job that runs since boot, and ends with it.
            it.root("systemctl start hyper-nixos-health.service", 240)
            it.root("systemctl start systemd-bless-boot.service", 30)
            code, text = it.root("hv health status", 20)
        recorder.excerpt("hv health status", text)
        recorder.prove(
            "the first boot was found well", code == 0 and "NOT WELL" not in text and "well" in text, text
        )
        recorder.prove("the migrated system runs", it.system() != it.before, it.system())
        text = it.told("virsh -c qemu:///system version && command -v hv", 30)
        recorder.prove("libvirt answers on it, and hv is there", "/hv" in text and "QEMU" in text, text)
        _kept(it)
        it.reboot(running)
    with machine.start("again") as running:
        with recorder.phase("the second boot", "host"):
            it.started(running)
        recorder.prove("the next boot starts the migrated system too", it.system() != it.before, it.system())
        it.undo("hv")
        it.reboot(running)
    with machine.start("undone") as running:
        with recorder.phase("the boot after --undo", "host"):
            it.started(running)
        recorder.prove("the system from before runs again", it.system() == it.before, it.system())
        it.logins(running, "after --undo")


def _kept(it: Migration) -> None:
    """The boot menu says that the new system is good."""
    menu = it.menu()
    it.recorder.excerpt("the boot menu after the first boot", menu)
    if it.firmware == "uefi":
        here = [line for line in menu.splitlines() if it.system() in line]
        it.recorder.prove(
            "systemd-boot's entry of the migrated system is blessed: its counter is gone",
            len(here) == 1 and "+" not in here[0].split(":")[0],
            menu,
        )
    else:
        it.recorder.prove("GRUB's one-shot default is used up", not re.search(r"next_entry=\S", menu), menu)


def goes_back(firmware: Firmware) -> Recorder:
    """Migrated, started, found ill; the machine goes back by itself, and the command tidies up."""
    it = _begin(
        "fallback", firmware, f"{firmware.upper()}: a migrated NixOS is not well, and goes back by itself."
    )
    try:
        _goes_back(it)
    finally:
        it.recorder.write()
    return it.recorder


def _goes_back(it: Migration) -> None:
    recorder, machine = it.recorder, it.machine
    with machine.start("before") as running:
        with recorder.phase("boot the system from before", "host"):
            it.started(running)
        # Something lies where libvirt keeps its state: libvirt, which the old system has not, cannot start.
        it.told(
            "rm -rf /var/lib/libvirt && touch /var/lib/libvirt && "
            f"sed -i 's/^  system.stateVersion/  hypervisor.migration.patience = {PATIENCE};\\n&/' "
            "/etc/nixos/configuration.nix"
        )
        it.prepare()
        it.migrate()
        it.reboot(running)
    tries = 2 if it.firmware == "uefi" else 1
    for number in range(1, tries + 1):
        with (
            machine.start(f"try-{number}") as running,
            recorder.phase(f"try {number} of the migrated system", "host"),
        ):
            it.started(running, reached=False)
            running.serial.expect(r"not well: the machine goes back", 60 + PATIENCE)
            running.wait_off(60)
    with machine.start("back") as running:
        with recorder.phase("the boot after the last try", "host"):
            it.started(running)
        recorder.prove("the system from before runs again, by itself", it.system() == it.before, it.system())
        it.logins(running, "after the fall back")
        recorder.excerpt("the boot menu after the fall back", it.menu())
        code, text = it.hv("health status", 20, PROGRAM)
        claim = "hv health status says what was not well, and that the machine went back"
        recorder.prove(claim, code == 1 and "FAIL libvirt" in text and "went back" in text, text)
        code, text = it.hv("migrate --check", 60)
        recorder.prove("a second migration on top of it is refused", code == 5 and "--undo" in text, text)
        it.undo(PROGRAM)
