"""A machine with a real systemd, networkd, nftables and sshd: systemd-nspawn on an overlay of this system, its network a
namespace of tests.network.world. What is NixOS's about it is in switch-to-configuration.sh, a stand-in.
"""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.network.world import World, run
from tests.nixeval.network import committed_systems
from tests.nixeval.nix import REPOSITORY

STAND_IN = Path(__file__).with_name("switch-to-configuration.sh")
PATIENCE = 60.0
"""Seconds for what takes two or three on an idle machine."""
ADDRESS = "10.1.0.1"
SYSTEMS = "/nix/store"
PROFILES = "/nix/var/nix/profiles"
ALWAYS_ON = ("systemd-networkd.service", "nftables.service", "ssh.service", "hyper-nixos-guard.service")
NSPAWN = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe")
BEFORE_ALL = f"""[Unit]
Description=What stage 2 of NixOS does at boot
DefaultDependencies=no
Before=sysinit.target systemd-networkd.service nftables.service
After=local-fs.target

[Service]
Type=oneshot
ExecStart={PROFILES}/default/bin/switch-to-configuration stage-2
"""
NFTABLES = """[Unit]
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /run/current-system/ruleset
ExecReload=/usr/sbin/nft -f /run/current-system/ruleset
"""
SSHD = """HostKey /etc/ssh/host
PermitRootLogin no
UsePAM no
UseDNS no
PidFile none
"""


def boots() -> bool:
    """Whether a container of this system comes up here: it is tried, and powers itself off."""
    programs = ("systemd-nspawn", "nft", "ip", "ssh", "sudo", "networkctl")
    if not all(map(shutil.which, programs)):
        return False
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tried = subprocess.run(("mount", "-t", "tmpfs", "tmpfs", place), check=False, capture_output=True)
        try:
            for name in ("upper", "work", "root"):
                (folder / name).mkdir()
            layers = f"lowerdir=/,upperdir={place}/upper,workdir={place}/work"
            command = ("mount", "-t", "overlay", "-o", layers, "overlay", f"{place}/root")
            if tried.returncode or subprocess.run(command, check=False, capture_output=True).returncode:
                return False
            started = (
                *NSPAWN,
                "--private-network",
                "--directory",
                f"{place}/root",
                "systemd.unit=poweroff.target",
            )
            ended = subprocess.run(
                started, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE
            )
            return ended.returncode == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            for path in (f"{place}/root", place):
                subprocess.run(("umount", "--lazy", path), check=False, capture_output=True)


@dataclass
class Machine:
    """One machine; it can be started, cut from power, and started again."""

    world: World
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> Path:
        """Its file system, from outside."""
        return self.folder / "root"

    def build(self) -> None:
        """File system, accounts, keys, and a folder for each system."""
        self.folder.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.folder))
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir()
        layers = f"lowerdir=/,upperdir={self.folder}/upper,workdir={self.folder}/work"
        run("mount", "-t", "overlay", "-o", layers, "overlay", str(self.root))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "key"))
        public = (self.folder / "key.pub").read_text()
        self.empty("/etc/systemd/system", "/etc/systemd/network", "/var/lib/hyper-nixos", "/nix", "/etc/ssh")
        self.write("/etc/ssh/sshd_config", SSHD)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / "etc/ssh/host"))
        run("chroot", str(self.root), "useradd", "--create-home", "--shell", "/bin/sh", "ada")
        run("chroot", str(self.root), "usermod", "--password", "*", "ada")
        self.write("/home/ada/.ssh/authorized_keys", public)
        run("chroot", str(self.root), "chown", "-R", "ada", "/home/ada")
        self.write("/etc/sudoers.d/ada", "ada ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        self.write("/etc/machine-id", "")
        self.write(
            "/usr/local/bin/hv",
            f'#!/bin/sh\ncd /\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m hv "$@"\n',
            0o755,
        )
        self.write("/etc/systemd/system/stage-2.service", BEFORE_ALL)
        self.write("/etc/systemd/system/nftables.service", NFTABLES)
        self.write(
            "/etc/systemd/system/default.target",
            "[Unit]\nRequires=multi-user.target\nAfter=multi-user.target\n",
        )
        self._want("sysinit.target", "stage-2.service")
        for unit in ALWAYS_ON:
            self._want("multi-user.target", unit)
        for name, text in self.systems().items():
            self.system(name, json.loads(text))
        for number, name in enumerate(self.systems(), 1):
            self.link(f"{PROFILES}/system-{number}-link", f"{SYSTEMS}/{name}")

    def systems(self) -> dict[str, str]:
        """Name to what each system says of its network, as JSON."""
        return committed_systems()

    def system(self, name: str, said: dict[str, Any]) -> None:
        """The folder of a system."""
        place = f"{SYSTEMS}/{name}"
        network = said["network"]
        self.write(f"{place}/etc/hyper-nixos/network.json", json.dumps(network))
        for unit, text in network["networkd"].items():
            self.write(f"{place}/etc/systemd/network/{unit}", text)
        tables = network["nftables"]["tables"]
        rules = [
            f"table {table['family']} {name}\ndelete table {table['family']} {name}\n"
            f"table {table['family']} {name} {{\n{table['content']}\n}}\n"
            for name, table in tables.items()
        ]
        self.write(f"{place}/ruleset", "".join(rules))
        check = said["check"].replace("@hv@", "/usr/local")
        self.write(f"{place}/pre-switch-checks", f"#!/bin/bash\nset -eu\n{check}", 0o755)
        # NixOS's own programs are not here, and the one of this checkout may lie in somebody's home. A container's boot_id
        # is mounted over the kernel's, and what makes /proc anew for a unit takes it away.
        left_out = "Environment|ProtectControlGroups|ProtectHome|ProtectKernelTunables"
        unit = re.sub(rf"^({left_out})=.*\n", "", said["unit"], flags=re.MULTILINE)
        self.write("/etc/systemd/system/hyper-nixos-guard.service", unit.replace("@hv@", "/usr/local"))
        self.write(f"{place}/bin/switch-to-configuration", STAND_IN.read_text(), 0o755)

    def empty(self, *paths: str) -> None:
        """Take what is there out of the way."""
        for path in paths:
            shutil.rmtree(self.root / path.lstrip("/"), ignore_errors=True)
            (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of the machine."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def read(self, path: str) -> str:
        """A file of the machine."""
        return (self.root / path.lstrip("/")).read_text()

    def link(self, path: str, target: str) -> None:
        """A symbolic link of the machine."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def _want(self, target: str, unit: str) -> None:
        self.link(f"/etc/systemd/system/{target}.wants/{unit}", f"../{unit}")

    def give(self, seconds: int) -> None:
        """How long changes have from now on."""
        for name in self.systems():
            place = f"{SYSTEMS}/{name}/pre-switch-checks"
            self.write(place, re.sub(r"--seconds \d+", f"--seconds {seconds}", self.read(place)), 0o755)

    def boot_next(self, name: str) -> None:
        """What the boot loader starts, and the profile's generation."""
        number = list(self.systems()).index(name) + 1
        for path, target in (
            (f"{PROFILES}/system", f"system-{number}-link"),
            (f"{PROFILES}/default", f"{SYSTEMS}/{name}"),
        ):
            (self.root / path.lstrip("/")).unlink(missing_ok=True)
            self.link(path, target)

    @property
    def default(self) -> str:
        """Name of the system that boots next."""
        return (self.root / PROFILES.lstrip("/") / "default").readlink().name

    @property
    def generation(self) -> str:
        """Name of the system that the profile points to."""
        folder = self.root / PROFILES.lstrip("/")
        return (folder / (folder / "system").readlink()).readlink().name

    def start(self) -> None:
        """Power on."""
        space = f"--network-namespace-path=/run/netns/{self.world.prefix}host"
        with (self.folder / "console").open("ab") as console:
            self.process = subprocess.Popen(
                (
                    *NSPAWN,
                    space,
                    f"--bind-ro={REPOSITORY}",
                    "--capability=CAP_NET_ADMIN",
                    "--directory",
                    str(self.root),
                ),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self.wait("systemctl is-active multi-user.target", "active")

    def cut_power(self) -> None:
        """No shutdown: every process is gone at once."""
        assert self.process is not None
        subprocess.run(("kill", "-KILL", str(self._leader())), check=False)
        self.process.wait(PATIENCE)
        self.process = None

    def _leader(self) -> int:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def at_console(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run something inside, with nobody logged in over SSH: as a timer or a person at the machine would."""
        argv = ("nsenter", "--target", str(self._leader()), "--all", "/bin/sh", "-c", script)
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)

    def wait(self, script: str, wanted: str) -> None:
        """Until a command inside prints something."""
        deadline = time.monotonic() + PATIENCE
        said = ""
        while time.monotonic() < deadline:
            with contextlib.suppress(IndexError, ValueError):
                done = self.at_console(script)
                said = done.stdout + done.stderr
                if wanted in done.stdout.split():
                    return
            time.sleep(0.2)
        raise AssertionError(f"{script}: {said}\n{self.journal()}")

    def journal(self) -> str:
        """What the machine told."""
        said = self.at_console(
            "journalctl --no-pager --boot --lines=80 2>&1; networkctl; ip address; cat /switched"
        ).stdout
        return said + (self.folder / "console").read_text(errors="replace")[-3000:]

    def ssh(self, command: str, *options: str, seconds: int = 5) -> subprocess.CompletedProcess[str]:
        """A connection from the administrator's machine; status 255 when it does not get through."""
        # An address that moved to another interface has another MAC: a peer that remembers the old one waits a while.
        self.world.ip("admin", "neighbour flush all")
        argv = (
            *("ssh", "-F", "/dev/null", "-i", str(self.folder / "key"), "-o", "StrictHostKeyChecking=no"),
            *(
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
                "-o",
                f"ConnectTimeout={seconds}",
            ),
            *("-o", "BatchMode=yes", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3", *options),
            *(f"ada@{ADDRESS}", command),
        )
        return subprocess.run(
            self.world.command("admin", *argv), capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    def ssh_until(self, *, works: bool) -> float:
        """Until new connections get through, or do not; how long it took, in seconds."""
        begun = time.monotonic()
        while time.monotonic() < begun + PATIENCE:
            if (self.ssh("true", seconds=1).returncode == 0) is works:
                return time.monotonic() - begun
            time.sleep(0.2)
        raise AssertionError(f"SSH {'does not work' if works else 'still works'}:\n{self.journal()}")

    def close(self) -> None:
        """Take it down."""
        if self.process is not None:
            with contextlib.suppress(Exception):
                self.cut_power()
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for path in (self.root, self.folder):
            subprocess.run(("umount", "--lazy", str(path)), check=False, capture_output=True)


Kind = TypeVar("Kind", bound=Machine)


@contextlib.contextmanager
def started(kind: Callable[[World, Path], Kind], folder: Path, system: str) -> Iterator[Kind]:
    """A machine that runs a system, with somebody on the same network who reaches it over SSH."""
    world = World()
    made = kind(world, folder)
    try:
        world.add("host", "admin")
        world.cable("host", "lan0", "admin")
        world.ip("host", "link add lan1 type veth peer name nowhere")
        world.neighbour("admin", "10.1.0.2/24")
        made.build()
        made.boot_next(system)
        made.start()
        made.ssh_until(works=True)
        yield made
    finally:
        made.close()
        world.close()
