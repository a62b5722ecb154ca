"""A whole installation in the lab against a shell script of the same raw commands, on the same disk, by turns.

Measured is the time from the first write to the last sync, by the guest's clock; starting, probing and planning are
reported apart. Both read back the same things; the disk is blank, or holds what the round before left.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from installer.errors import HyperError
from installer.plan.model import Plan, is_destructive
from tests.bench.command_line import probing
from tests.bench.contest import Result, hold
from tests.lab import closures
from tests.lab.channels import Agent
from tests.lab.machine import Disk, Hardware, Machine, Running
from tests.lab.paths import RUNS
from tests.lab.play import ANSWERS, build, checked, same_plan
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSWORD_HASH
from tests.lab.session import make_key

HERE = Path(__file__).parent
ROUNDS = 3
PROBES = 5
GOAL = 1.05
SMALLEST_CLOSURE = 500 << 20
HASH_FILE = f"/run/secrets/{ADMINISTRATOR}.hash"
HARDWARE = Hardware(firmware="bios", disks=(Disk("HVMAIN01", bus="virtio"),))


class Measured(NamedTuple):
    """Seconds of each round."""

    ours: tuple[float, ...]
    """First write to last sync, by the installer's journal."""
    theirs: tuple[float, ...]
    """The script's own clock."""
    before: tuple[float, ...]
    """Of the installer: from its start to the first write, that is start-up, probing, planning, preflight."""
    closure: int
    """Bytes copied."""
    probing: Result
    """`hv probe` against lshw in the same machine, which has firmware, buses and devices to be looked at."""

    @property
    def ratio(self) -> float:
        """Median of ours to median of theirs."""
        return median(self.ours) / median(self.theirs)


def measure(rounds: int = ROUNDS) -> Measured:
    """Install by turns, in one booted live system.

    Raises:
        HyperError: the closure is too small to tell anything.
    """
    folder = RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-bench"
    recorder = Recorder("bench", "The installer against a script of the same commands.", folder, quiet=True)
    iso = build(recorder)
    machine = Machine(HARDWARE, folder)
    machine.create()
    (folder / "answers.toml").write_text(
        (HERE / "answers.toml").read_text().replace("@ssh-key@", make_key(folder))
    )
    with machine.start("live", iso=iso) as running:
        return _measure(recorder, running, running.live(), rounds)


def _measure(recorder: Recorder, running: Running, agent: Agent, rounds: int) -> Measured:
    folder = recorder.folder
    agent.write(ANSWERS, (folder / "answers.toml").read_text())
    agent.write(HASH_FILE, PASSWORD_HASH + "\n", 0o600)
    agent.write("/run/install.sh", (HERE / "install.sh").read_text(), 0o755)
    facts = checked(agent.start(["hv", "probe", "--json"], merge=False), 12)
    (folder / "facts-before.json").write_text(facts)
    probed = hold(probing("hv probe, in the lab", "hv", "lshw", PROBES), lambda argv: _timed(agent, argv))
    payload, medium = closures.ready("bench", folder / "answers.toml", folder / "facts-before.json", folder)
    closure = medium.closures[0]
    if closure.nar_size < SMALLEST_CLOSURE:
        raise HyperError(
            "bench: the closure is too small",
            why=f"{closure.nar_size >> 20} MiB; fixed costs would hide what copying costs",
            remedy="put more into tests/lab/packages of the userland",
        )
    text = medium.model_dump_json(indent=1)
    agent.write("/etc/hyper-nixos/medium.json", text)
    (folder / "medium.json").write_text(text)
    running.plug(payload)
    # Everything is read once beforehand, so that no round pays for the others' page cache.
    mount = (
        'until [ -b "$0" ]; do udevadm settle; done; mkdir -p /payload; mount -t squashfs -o ro "$0" /payload; '
        "cat /payload/cache/nar/* >/dev/null"
    )
    checked(agent.start(["bash", "-c", mount, "/dev/disk/by-id/virtio-HYPERNIXOS-CACHE"]), 30)
    render = ["hv", "install", "--answers", ANSWERS, "--render", "/run/rendered"]
    checked(agent.start(render), 30)
    shown = checked(agent.start(["hv", "install", "--answers", ANSWERS, "--plan"]), 30)
    same_plan(recorder, agent, shown)
    plan = Plan.model_validate_json((folder / "plan.json").read_bytes())
    ours, theirs, before = [], [], []
    for number in range(rounds):
        turns = (_installer, _script) if number % 2 == 0 else (_script, _installer)
        for turn in turns:
            if turn is _installer:
                wait, seconds = _installer(agent, plan)
                before.append(wait)
                ours.append(seconds)
            else:
                theirs.append(_script(agent, plan, closure.toplevel, str(closure.cache)))
    return Measured(tuple(ours), tuple(theirs), tuple(before), closure.nar_size, probed)


def _timed(agent: Agent, argv: tuple[str, ...]) -> tuple[float, str]:
    """Run a command in the machine; seconds by its own clock, and standard output."""
    script = 'begin=$EPOCHREALTIME; "$@" >/run/bench.out 2>/run/bench.errors && echo "$begin $EPOCHREALTIME"'
    begin, end = checked(agent.start(["bash", "-c", script, "bench", *argv]), 20).split()
    return float(end) - float(begin), agent.run("cat", "/run/bench.out", measured=5).text


def _installer(agent: Agent, plan: Plan) -> tuple[float, float]:
    """Install with `hv install`; seconds before the first write, and from there to the last sync."""
    command = ["hv", "install", "--answers", ANSWERS, "--fresh", "--progress", "plain"]
    shown = checked(agent.start([*command, "--plan"]), 30)
    token = re.findall(r"--confirm (\S+)", shown)[-1]
    started = float(agent.run("date", "+%s.%N").text)
    checked(agent.start([*command, "--confirm", token]), 200)
    checked(agent.start(["sync"]), 20)
    events = [
        json.loads(line)
        for line in agent.run("cat", "/run/hyper-nixos/install/journal.jsonl", measured=5).text.splitlines()
    ]
    writing = {step.id for step in plan.steps if any(map(is_destructive, step.actions))}
    first = next(e for e in events if e["what"] == "started" and _writes(e["step"], writing))
    last = events[-1]
    begin, end = (datetime.fromisoformat(event["time"]).timestamp() for event in (first, last))
    return begin - started, end - begin


def _writes(step: str, writing: set[str]) -> bool:
    return step in writing or step.startswith("wipe-")


def _script(agent: Agent, plan: Plan, toplevel: str, cache: str) -> float:
    """Install with the script; its own seconds."""
    disk = plan.disks[0]
    root = next(each for each in plan.host.filesystems if each.mountpoint == "/")
    arguments: Sequence[str] = (
        disk.device,
        root.device.rpartition("/")[2],
        plan.hostname,
        toplevel,
        cache,
        "/run/rendered",
        HASH_FILE,
        ADMINISTRATOR,
    )
    text = checked(agent.start(["/run/install.sh", *arguments]), 200)
    return float(re.findall(r"^seconds (\S+)$", text, re.MULTILINE)[-1])
