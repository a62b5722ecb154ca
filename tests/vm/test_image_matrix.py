"""Disk images of an installed host, made without a machine, start by themselves, grow to their disks, and are set up."""

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import pytest

from installer.answers.load import load
from installer.answers.sizes import GIB
from installer.medium import Medium
from installer.plan.planner import make_plan
from iso import host_machine
from tests.execute.rig import STORE_CONFIGURATION
from tests.lab import closures, play, userland
from tests.lab.command import run
from tests.lab.machine import Disk, Hardware, Machine
from tests.lab.paths import REPOSITORY, RUNS
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSWORD, PASSWORD_HASH, Scenario
from tests.lab.session import Ssh, make_key
from tests.lab.tools import entered
from tests.nixeval import nix as nixeval

pytestmark = pytest.mark.matrix

ANSWERS = """version = 1
hostname = "kvm9"

[hypervisor]
tier = "minimal"

[storage]
disk = { serial = "nobody knows" }
filesystem = "@filesystem@"
swap = { kind = "partition", size = "256MiB" }

[boot]
serial_console = "ttyS0,115200"

[[users]]
name = "alice"
admin = true
password_hash = "@hash@"
ssh_keys = ["@ssh-key@"]

[system]
source = "closure"
closure = "kvm9"
"""
SIZE, LATER = 7 * GIB, 12 * GIB


@dataclass(frozen=True)
class Kind:
    """What is tried."""

    firmware: Literal["uefi", "bios"]
    filesystem: str
    bus: Literal["nvme", "virtio"]

    @property
    def options(self) -> tuple[str, ...]:
        """Of `hv media host`."""
        return ("--size", f"{SIZE}B", *(("--bios",) if self.firmware == "bios" else ()))

    @property
    def answers(self) -> str:
        """Without the administrator's key and password."""
        return ANSWERS.replace("@filesystem@", self.filesystem)

    @property
    def scenario(self) -> Scenario:
        """As the lab names it."""
        return Scenario(
            name=f"image-{self.firmware}-{self.filesystem}",
            summary=f"{self.firmware.upper()}; the disk is a copy of an image with {self.filesystem} that was made without a "
            "machine, on a bus and of a size nobody planned.",
            hostname="kvm9",
            hardware=Hardware(
                firmware=self.firmware, disks=(Disk("SOMEDISK", size=str(LATER), bus=self.bus),)
            ),
            encrypted=False,
            hardened=False,
            source="closure",
            given=self.answers,
        )


@pytest.mark.parametrize(
    "kind",
    [
        Kind("uefi", "ext4", "nvme"),
        Kind("bios", "xfs", "virtio"),
        Kind("uefi", "btrfs", "nvme"),
    ],
    ids=lambda kind: f"{kind.firmware}-{kind.filesystem}",
)
def test_an_image_starts_and_grows(kind: Kind) -> None:
    what = kind.scenario
    folder = RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{what.name}"
    recorder = Recorder(what.name, what.summary, folder)
    try:
        _play(recorder, kind, what)
    finally:
        recorder.write()
        for image in folder.glob("*.qcow2"):
            image.unlink()


def _play(recorder: Recorder, kind: Kind, what: Scenario) -> None:
    folder = recorder.folder
    machine = Machine(what.hardware, folder)
    machine.create()
    answers = kind.answers.replace("@ssh-key@", make_key(folder)).replace("@hash@", PASSWORD_HASH)
    (folder / "answers.toml").write_text(answers)
    image = _image(recorder, folder / "SOMEDISK.qcow2", kind)
    before = json.loads(run(_tool("qemu-img", "info", "--output=json", image)))["virtual-size"]
    recorder.prove("the image has the size that was asked for", before == SIZE, str(before))
    run(_tool("qemu-img", "resize", image, str(LATER)))
    with machine.start("host") as running:
        play.boot(what, recorder, running)
        ssh = Ssh(ADMINISTRATOR, machine.port, folder)
        _grown(recorder, ssh)
        play.first_run(what, recorder, running, ssh)
    assert "every job of the first run is done" in [each.claim for each in recorder.proofs if each.holds]


def _tool(*argv: str | Path) -> list[str]:
    return entered(userland.build() / "root", argv)


def _image(recorder: Recorder, image: Path, kind: Kind) -> Path:
    """By the command, with a real system that a real Nix built."""
    folder = recorder.folder
    with recorder.phase("build the host's system"):
        on_it = (folder / "answers.toml").read_text().replace("nobody knows", host_machine.SERIAL)
        (folder / "for-it.toml").write_text(on_it)
        facts = folder / "facts.json"
        machine = host_machine.facts(SIZE, "x86_64-linux", bios=kind.firmware == "bios")
        facts.write_text(machine.model_dump_json())
        payload, medium = closures.ready("kvm9", folder / "for-it.toml", facts, folder, image=kind.options)
        (folder / "medium.json").write_text(medium.model_copy(update={"images": {}}).model_dump_json())
        cache = folder / "payload"
        run(_tool("unsquashfs", "-q", "-n", "-d", cache, payload))
    programs = folder / "bin"
    programs.mkdir()
    found = nixeval.require()
    for name in ("nix", "nix-env"):
        script = programs / name
        settings = shlex.quote(STORE_CONFIGURATION)
        command = shlex.join(found.command(name))
        script.write_text(
            f'#!/bin/sh\nexport NIX_CONFIG={settings} NIX_REMOTE={folder / "store"}\nexec {command} --option use-sqlite-wal true "$@"\n'
        )
        script.chmod(0o755)
    if kind.filesystem == "btrfs":
        _newer(programs, "mkfs.btrfs", "btrfs")
    image.unlink()
    with recorder.phase("hv media host"):
        words: list[str | Path] = [sys.executable, "-m", "hv", "media", "host", folder / "answers.toml"]
        words += [
            "--medium",
            folder / "medium.json",
            *kind.options,
            "--from",
            f"file://{cache}/cache",
        ]
        path = f"{programs}:{os.environ['PATH']}"
        said = run(["env", "-C", REPOSITORY, f"PATH={path}", *words, "--output", image, "--json"])
        recorder.excerpt("hv media host", said)
    shutil.rmtree(cache)
    answers = host_machine.on_it(load((folder / "answers.toml").read_bytes(), "answers.toml"))
    described = Medium.model_validate_json((folder / "medium.json").read_bytes())
    plan = make_plan(machine, answers, described)
    (folder / "plan.json").write_text(plan.model_dump_json(indent=1))
    recorder.files["plan"] = "plan.json"
    return image


def _newer(programs: Path, *names: str) -> None:
    """The userland's own in front of this machine's, which may know no subvolumes: with its loader and libraries, as nobody
    but root could enter it.
    """
    root = userland.build() / "root"
    [loader], [libraries] = root.glob("usr/lib64/ld-linux-*"), root.glob("usr/lib/*-linux-gnu")
    for name in names:
        [program] = root.glob(f"usr/*bin/{name}")
        command = shlex.join(map(str, (loader, "--library-path", libraries, program)))
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        script.chmod(0o755)


def _grown(recorder: Recorder, ssh: Ssh) -> None:
    with recorder.phase("first run, for the disk's size", "host"):
        ssh.sudo("systemctl start hyper-nixos-firstrun.service", PASSWORD, measured=180)
        text = ssh.sudo("df --block-size=1 --output=size /", PASSWORD)[1]
        journal = ssh.sudo("journalctl -b --no-pager -u hyper-nixos-firstrun", PASSWORD)[1]
    size = int(text.split()[-1])
    recorder.prove("the root grew to the end of the larger disk", size > 9 * GIB, f"{text}\n{journal}")
    code, text = ssh.run("cd && pwd")
    recorder.prove(
        "its administrator has a folder", (code, text.strip()) == (0, f"/home/{ADMINISTRATOR}"), text
    )
    code, text = ssh.run("cat /etc/machine-id")
    own = code == 0 and len(text.strip()) == 32 and text.strip() != "0" * 31 + "1"
    recorder.prove("it has a machine id of its own", own, text)
