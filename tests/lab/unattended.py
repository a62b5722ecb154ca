"""A medium that installs by itself: customised with `hv media embed`, booted without a network card, and nothing typed."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from installer.errors import Exit
from installer.medium import Medium
from tests.lab import closures
from tests.lab.channels import Agent, Serial
from tests.lab.command import run
from tests.lab.machine import Machine, Running
from tests.lab.paths import REPOSITORY, RUNS
from tests.lab.play import boot, build, checked
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSWORD, PASSWORD_HASH, SCENARIOS, Scenario
from tests.lab.session import Ssh, make_key, serial_login

SECRETS = "/run/hyper-nixos/live/secrets"
INSTALL = ("hv", "install", "--unattended")
"""What the live system's unit starts (iso/live/unattended.nix)."""
ADDRESS = "10.0.2.15"
"""The machine's own, in QEMU's network."""
TRIED = "kernel argument: the kernel's command line has no hv.answers="


def scenario(medium: Literal["cd", "stick"]) -> Scenario:
    """BIOS from a CD, or UEFI from a stick; no network card."""
    firmware: Literal["uefi", "bios"] = "bios" if medium == "cd" else "uefi"
    plain = SCENARIOS["bios-ext4"]
    return replace(
        plain,
        name=f"unattended-{medium}",
        summary=f"{firmware.upper()}; a customised medium, as {medium}, installs without a network card.",
        hardware=replace(plain.hardware, firmware=firmware, medium=medium, network=False),
        interrupted=False,
        base=plain.name,
        changes=(
            ('hostname = "kvm2"', 'hostname = "kvm2"\nat_end = "reboot"'),
            ("[storage]", '[storage]\ndestroy = "matched"'),
            ('firmware = "bios"\nserial', f'firmware = "{firmware}"\nserial'),
            ("/run/secrets/alice.hash", f"{SECRETS}/alice.hash"),
        ),
    )


def play(medium: Literal["cd", "stick"]) -> Recorder:
    """Install, boot the disk, go through the first run, and boot the medium once more."""
    return recorded(scenario(medium), _installs)


def fails() -> Recorder:
    """Answers that name a disk which is not there: nothing is written, the screen says so, SSH is open."""
    wrong = scenario("stick")
    wrong = replace(
        wrong,
        name="unattended-fails",
        summary="Answers name a disk that is not there: words on the screen, a way in over SSH, no restart.",
        hardware=replace(wrong.hardware, network=True),
        changes=(*wrong.changes, ('serial = "HVMAIN01"', 'serial = "ELSEWHERE"')),
    )
    return recorded(wrong, _fails)


def recorded(what: Scenario, do: Callable[[Scenario, Recorder], None]) -> Recorder:
    folder = RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{what.name}"
    recorder = Recorder(what.name, what.summary, folder)
    recorder.say(what.summary)
    try:
        do(what, recorder)
        for image in (*folder.glob("*.qcow2"), folder / "medium.iso"):
            image.unlink(missing_ok=True)
    finally:
        recorder.write()
    return recorder


def customised(what: Scenario, recorder: Recorder) -> Path:
    """The lab's medium with answers, key and secret in it, made by the command that people use."""
    folder, plain = recorder.folder, build(recorder)
    (folder / "answers.toml").write_text(what.answers().replace("@ssh-key@", make_key(folder)))
    (folder / "alice.hash").write_text(PASSWORD_HASH + "\n")
    given = ("--answers", folder / "answers.toml", "--key", folder / "key.pub")
    secret = ("--secret", f"{ADMINISTRATOR}.hash={folder / 'alice.hash'}")
    argument = ("--kernel-argument", "hv.unattended", "--output", folder / "medium.iso")
    hv = ("env", "-C", REPOSITORY, sys.executable, "-m", "hv", "media")
    with recorder.phase("hv media embed"):
        recorder.excerpt("hv media embed", run([*hv, "embed", plain, *given, *secret, *argument]))
    return folder / "medium.iso"


def prepared(recorder: Recorder, running: Running) -> Agent:
    """The live system up, and its first unit done: what was embedded lies where it is looked for."""
    with recorder.phase("boot the live medium", "firmware"):
        agent = running.live()
    with recorder.phase("hv live prepare", "installer"):
        said = checked(agent.start(["hv", "live", "prepare"]), 10)
    recorder.prove("the medium's answers, key and secret are found", said.count("taken from") == 3, said)
    line = agent.run("cat", "/proc/cmdline").text
    recorder.prove("the embedded kernel argument has arrived", " hv.unattended" in line, line)
    return agent


def _installs(what: Scenario, recorder: Recorder) -> None:
    medium = customised(what, recorder)
    machine = Machine(what.hardware, recorder.folder)
    machine.create()
    with machine.start("live", iso=medium) as running:
        agent = prepared(recorder, running)
        cards = agent.run("ls", "/sys/class/net").text
        recorder.prove("there is no network card", cards.split() == ["lo"], cards)
        ready = closure(what, recorder, agent)
        plug(*ready, running, agent)
        with recorder.phase("hv install --unattended", "installer"):
            agent.start(INSTALL, listen=recorder.detail)
            running.serial.expect(r"Going to reboot", 200)
            running.wait_off(20)
        said = running.serial.text()
        (recorder.folder / "install.txt").write_text(said)
    recorder.prove("the kernel's argument was asked before the medium", TRIED in said, said[-1500:])
    recorder.prove("the embedded answers have won", "live medium: answers from" in said, said[-1500:])
    with machine.start("host") as running:
        boot(what, recorder, running)
        _first_run(recorder, running)
    with machine.start("again", iso=medium) as running:
        agent = prepared(recorder, running)
        plug(*ready, running, agent)
        with recorder.phase("the medium is still in", "installer"):
            answer = agent.start(INSTALL, listen=recorder.detail).wait(40)
        claim = "the medium that stayed in does not install again"
        recorder.prove(
            claim, answer.code == Exit.again and "NOT INSTALLED AGAIN" in answer.text, answer.text
        )
        recorder.picture(running.screenshot("again"), "The medium that stayed in")


def closure(what: Scenario, recorder: Recorder, agent: Agent) -> tuple[Path, Medium]:
    """The system that is installed, and the medium that has it."""
    facts = recorder.folder / "facts-before.json"
    facts.write_text(checked(agent.start(["hv", "probe", "--json"], merge=False), 12))
    with recorder.phase("build the host's system beforehand"):
        answers = recorder.folder / "answers.toml"
        return closures.ready(what.hostname, answers, facts, recorder.folder)


def plug(payload: Path, description: Medium, running: Running, agent: Agent) -> None:
    """Give the medium the system that it installs: a real one has it in its own store."""
    agent.write("/etc/hyper-nixos/medium.json", description.model_dump_json(indent=1))
    running.plug(payload)
    mount = 'until [ -b "$0" ]; do udevadm settle; done; mkdir -p /payload; mount -t squashfs -o ro "$0" /payload'
    checked(agent.start(["bash", "-c", mount, "/dev/disk/by-id/virtio-HYPERNIXOS-CACHE"]), 5)


def _typed(serial: Serial, command: str, measured: float) -> tuple[int, str]:
    """Run a command at a shell on the serial line; its exit status and what stood there."""
    before = len(serial.text())
    serial.type(f"{command}; echo ended:$?\n")
    code = int(serial.expect(r"ended:(\d+)", measured)[1])
    return code, serial.text()[before:]


def _first_run(recorder: Recorder, running: Running) -> None:
    """There is no network, so everything is looked at on the serial console."""
    serial = running.serial
    with recorder.phase("first run", "host"):
        seen = serial_login(serial, ADMINISTRATOR, PASSWORD, leave=False)
        recorder.prove(
            f"{ADMINISTRATOR} logs in at the serial console with a password", "wheel" in seen, seen
        )
        # Joins the job that runs since boot, and ends with it.
        start = f"echo {PASSWORD} | sudo -S -p '' systemctl start hyper-nixos-firstrun.service"
        _typed(serial, start, 180)
        code, text = _typed(serial, "hv firstrun status", 20)
        recorder.excerpt("hv firstrun status", text)
    recorder.prove("every job of the first run is done", code == 0, text)
    recorder.picture(running.screenshot("done"), "The host, set up")
    serial.type(f"echo {PASSWORD} | sudo -S -p '' systemctl poweroff\n")
    running.wait_off(40)


def online(agent: Agent, *, keys_of_its_own: bool = True) -> None:
    """NetworkManager's and sshd's part of the real medium."""
    # The store's host keys are everybody's, and its files readable by all: sshd wants its own.
    made = "rm -f /etc/ssh/ssh_host_*; ssh-keygen -A; " if keys_of_its_own else ""
    # On the real medium every shell finds `hv`; here it lies apart.
    keys = f'{made}/usr/sbin/sshd -o "SetEnv=PATH=$PATH"'
    card = "$(basename $(ls -d /sys/class/net/* | grep -v /lo$))"
    script = f"modprobe virtio_net; udevadm settle; card={card}; {keys}"
    script += f'; ip link set "$card" up; ip address add {ADDRESS}/24 dev "$card"'
    checked(agent.start(["bash", "-euo", "pipefail", "-c", script]), 25)


def _fails(what: Scenario, recorder: Recorder) -> None:
    medium = customised(what, recorder)
    machine = Machine(what.hardware, recorder.folder)
    machine.create()
    with machine.start("live", iso=medium) as running:
        agent = prepared(recorder, running)
        online(agent)
        with recorder.phase("hv install --unattended", "installer"):
            answer = agent.start(INSTALL, listen=recorder.detail).wait(60)
            words = running.serial.expect(r"INSTALLATION FAILED[\s\S]*support bundle: (\S+)", 10)
        recorder.picture(running.screenshot("failed"), "What stands on the screen")
        recorder.prove("it fails with a code of its own", answer.code not in (0, 1), answer.text)
        told = re.sub(r"\s+", " ", words[0])
        wanted = ("ELSEWHERE", "stays on and does not start again", f"address: {ADDRESS}", "Disks: ")
        recorder.prove(
            "the console names disk, address and bundle", all(each in told for each in wanted), words[0]
        )
        with recorder.phase("rescue over SSH", "installer"):
            ssh = Ssh("root", machine.port, recorder.folder)
            code, text = ssh.run(f"test -s {shlex.quote(words[1])} && uptime -p", measured=15)
        recorder.prove("root logs in over SSH with the embedded key, and finds the bundle", code == 0, text)
        recorder.prove("it has not restarted", running.dead() is None, str(running.dead()))
        table = json.loads(agent.run("lsblk", "--json", "--output", "NAME,SERIAL,PTTYPE,FSTYPE").text)
        marks = [
            each
            for each in table["blockdevices"]
            if str(each["serial"]).startswith("HV") and (each["pttype"] or each["fstype"])
        ]
        recorder.prove("nothing was written to a disk", not marks, json.dumps(table))


__all__ = ["closure", "customised", "fails", "online", "play", "plug", "prepared", "recorded", "scenario"]
