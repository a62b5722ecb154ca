"""One machine of the lab with the disks of a trial: booted, its plug pulled, booted again; the installer runs in it."""

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from installer.facts import Facts
from installer.medium import Medium
from tests.lab import layers, userland, zfs
from tests.lab.channels import Agent, Answer, Job
from tests.lab.closures import MOUNT
from tests.lab.command import run
from tests.lab.machine import Base, DiskError, Machine, Running
from tests.lab.tools import entered
from tests.trial import payload
from tests.trial.layouts import BYSTANDER, HARDWARE, SECRETS, Layout

FOLDER = "/run/trial"
_MOUNT = (
    f'until [ -b "$0" ]; do udevadm settle; done; mkdir -p {MOUNT}; mount -t squashfs -o ro "$0" {MOUNT}'
)
_SERVE = (
    'hv=$(readlink -f /live/bin/hv); export PYTHONPATH="$0/python:${hv%/bin/hv}" PYTHONDONTWRITEBYTECODE=1; '
    f"exec python3 -m tests.trial.server {FOLDER}"
)
_PLUGGED = "".join(
    f"until [ -b /dev/disk/by-id/*{disk.serial} ]; do udevadm settle; done; " for disk in HARDWARE.disks
)
_ASK = f'printf "%s" "$0" >{FOLDER}/request; cat {FOLDER}/answer'


@dataclass(frozen=True)
class Run:
    """One run of `hv`, as the server tells it."""

    status: int
    """Exit status; below zero: the signal that killed it."""
    seconds: float
    """By the machine's clock."""
    text: str
    """The last lines of what it said."""
    events: tuple[tuple[str, str | None], ...]
    """The whole journal: what, and of which step."""
    finished: bool
    """Whether the installation has come to its end."""
    steps: tuple[tuple[str, int], ...]
    """The plan's steps, each with the number of its actions."""

    def verified(self, step: str) -> bool:
        """Whether this step stands, and nothing happened to it since."""
        about = [what for what, name in self.events if name == step and what != "learned"]
        return about[-1:] == ["verified"]

    def begun(self, step: str) -> bool:
        """Whether anything is known of this step."""
        return any(name == step for what, name in self.events if what != "learned")

    @property
    def after(self) -> str:
        """The last thing in the journal."""
        what, step = self.events[-1] if self.events else ("nothing", None)
        return f"{what} {step or ''}".strip()


@dataclass
class Site:
    """The machine and what it is given."""

    folder: Path
    layouts: tuple[Layout, ...]
    ballast: int = 4 << 20
    """Bytes of each system."""
    zfs: bool = False
    """Whether the live system knows ZFS."""
    machine: Machine = field(init=False)
    facts: Facts | None = None
    """As the live system sees it with its disks; none: it was not booted yet."""
    _payload: tuple[Path, Medium] | None = None

    def __post_init__(self) -> None:
        self.machine = Machine(HARDWARE, self.folder)
        self.machine.create()
        raw = self.folder / "bystander.raw"
        raw.write_bytes(random.Random(9).randbytes(64 << 20))
        image = str(self.image(BYSTANDER))
        argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), image]
        run(entered(userland.build() / "root", argv, keep_user=True))
        raw.unlink()

    def blank(self) -> None:
        """All disks but the one that nobody chooses as they came from the factory; only while the machine is off."""
        for disk in self.machine.hardware.disks:
            if disk.serial != BYSTANDER:
                self.machine.blank(disk)

    def image(self, serial: str) -> Path:
        """The file behind a disk."""
        return self.folder / f"{serial}.qcow2"

    def same(self, one: Path, other: Path) -> bool:
        """Whether two images hold the same, byte for byte."""
        argv = ["qemu-img", "compare", str(one), str(other)]
        words = entered(userland.build() / "root", argv, keep_user=True)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return done.returncode == 0

    def digest(self, serial: str) -> str:
        """Of the image file, which changes with every write; only while the machine is off."""
        return hashlib.sha256(self.image(serial).read_bytes()).hexdigest()

    @contextmanager
    def live(self, name: str) -> Iterator["Session"]:
        """Boot the live system, ready to install; at the end the plug is pulled."""
        with self.machine.start(name, iso=layers.iso()) as running:
            session = Session(running, running.live())
            image, medium = self._given(session)
            running.plug(image)
            session.prepare(medium)
            yield session

    def _given(self, session: "Session") -> tuple[Path, Medium]:
        """What the live system is given: made once, for the disks that it sees."""
        if self._payload is None:
            answer = session.agent.run("hv", "probe", "--json", measured=20, merge=False)
            self.facts = Facts.model_validate_json(answer.text)
            self._payload = payload.make(
                self.folder / "payload",
                self.facts,
                self.layouts,
                ballast=self.ballast,
                beside={"zfs": zfs.build()} if self.zfs else {},
            )
        return self._payload

    @contextmanager
    def restored(
        self, name: str, errors: Mapping[str, DiskError] = MappingProxyType({})
    ) -> Iterator["Session"]:
        """The live system as it is right after booting, without booting; the disks are plugged in then.

        The first time it is booted for that, and kept as it runs. `errors` are those of disks, by serial number.
        """
        assert self._payload is not None, "what it is given is made when it is booted with its disks"
        base = Base(self.folder / "base.state", self._payload[0])
        variables = self.folder / "variables.fd"
        if not base.state.exists():
            with self.machine.start("base", iso=layers.iso(), base=base) as running:
                Session(running, running.live()).prepare(self._payload[1])
                running.keep()
            shutil.copyfile(variables, self.folder / "variables.base")
        shutil.copyfile(self.folder / "variables.base", variables)
        with self.machine.start(name, iso=layers.iso(), base=base) as running:
            assert running.agent is not None
            session = Session(running, running.agent)
            running.plug_disks(errors)
            session.shell(_PLUGGED, measured=10)
            yield session


@dataclass
class Session:
    """The live system, from one boot to the next."""

    running: Running
    agent: Agent

    def prepare(self, medium: Medium) -> None:
        """Mount what it is given, and start the server."""
        for path, text in SECRETS.items():
            self.agent.write(path, text, 0o600)
        self.agent.write("/etc/hyper-nixos/medium.json", medium.model_dump_json())
        answer = self.agent.run("bash", "-c", _MOUNT, "/dev/disk/by-id/virtio-HYPERNIXOS-CACHE", measured=10)
        assert answer.code == 0, answer.text
        self.shell(f"[ ! -e {MOUNT}/zfs ] || {MOUNT}/zfs/load", measured=20)
        # Making new arrays' halves equal would take the processor from the installer, which is emulated.
        self.shell("modprobe md_mod; echo 2000 >/proc/sys/dev/raid/speed_limit_max")
        self.agent.start(["bash", "-c", _SERVE, MOUNT]).until("^ready$", 25)

    def shell(self, script: str, measured: float = 5) -> str:
        """Run a script that must succeed; its output."""
        answer: Answer = self.agent.shell(script, measured=measured)
        assert answer.code == 0, f"{script}: {answer.text}"
        return answer.text

    def ask(self, *words: str, die: Mapping[str, Any] | None = None) -> Job:
        """Start `hv` with these arguments."""
        request = json.dumps({"hv": words, "die": dict(die or {})})
        return self.agent.start(["bash", "-c", _ASK, request])

    def hv(self, *words: str, die: Mapping[str, Any] | None = None, measured: float = 40) -> Run:
        """Run `hv` with these arguments."""
        return self.told(self.ask(*words, die=die), measured)

    def told(self, job: Job, measured: float = 90) -> Run:
        """What came of a run that was started with `ask`."""
        answer = job.wait(measured)
        assert answer.code == 0, answer.text
        said = json.loads(answer.text)
        return Run(
            said["status"],
            said["seconds"],
            said["text"],
            tuple((what, step) for what, step in said["events"]),
            said["finished"],
            tuple((name, count) for name, count in said["steps"]),
        )

    def install(self, layout: Layout, *more: str, die: Mapping[str, Any] | None = None) -> Run:
        """Install, or go on with it."""
        return self.hv(*installing(layout), *more, die=die, measured=90)


def installing(layout: Layout) -> tuple[str, ...]:
    """The arguments of `hv` that install it."""
    return ("install", "--answers", f"{MOUNT}/answers/{layout.name}.toml", "--progress", "plain")
