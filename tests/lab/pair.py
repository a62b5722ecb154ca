"""Two encrypted disks that carry the same, in a stage 1 with systemd: whole and without either, the passphrase typed late."""

import re
from datetime import datetime

from tests.lab.paths import RUNS
from tests.lab.recorder import Recorder
from tests.lab.sleeper import PASSPHRASE, STATE, Sleeper, nobody_types, prompted
from tests.lab.unlocking import ASKED
from tests.nixeval.cases import PAIR, inputs


def play() -> Recorder:
    """Play it through."""
    folder = RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{PAIR}"
    recorder = Recorder(PAIR, "UEFI; btrfs raid1 on two encrypted disks, nobody there for a while.", folder)
    try:
        with recorder.phase("an initial RAM disk, and two disks as the plan makes them"):
            host = Sleeper(folder, PAIR)
        for gone in (None, *(str(disk.serial) for disk in inputs(PAIR)[0].disks)):
            _start(recorder, host, gone)
        for image in (*folder.glob("*.qcow2"), *folder.glob("initrd*")):
            image.unlink()
    finally:
        recorder.write()
    return recorder


def _start(recorder: Recorder, host: Sleeper, gone: str | None) -> None:
    name = f"without-{gone}" if gone else "whole"
    with host.machine().start(name, without=gone) as running:
        with recorder.phase(f"stage 1 asks for the passphrase ({name})", "firmware"):
            prompted(running)
        nobody_types(recorder, running)
        before = len(re.findall(ASKED, running.serial.text()))
        running.serial.type(f"{PASSPHRASE}\n")
        with recorder.phase(f"stage 2 ({name})", "host"):
            running.serial.expect(STATE.format("new"), 90)
        asked = len(re.findall(ASKED, running.serial.text())) - before
        evidence = running.serial.text()[-1500:]
        recorder.prove(f"one passphrase, typed late, opens what is there ({name})", asked == 0, evidence)
        running.serial.type("show\n")
        shown = running.serial.expect(r"Label:[\s\S]*?SHOWN", 20)[0]
        missing = "missing" in shown.lower()
        recorder.prove(f"the root is the mirror ({name})", missing == bool(gone), shown)
        running.serial.type("off\n")
        running.wait_off(20)
