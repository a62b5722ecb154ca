"""An installed host's disks, made once: what is tried on it goes into overlays, so that each trial begins with the host
as the installer left it, before its first boot.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from tests.lab import cache, layers, play, userland
from tests.lab.command import run
from tests.lab.machine import Machine
from tests.lab.recorder import Recorder
from tests.lab.scenarios import PASSWORD_HASH, Scenario, combinations
from tests.lab.session import make_key
from tests.lab.tools import entered


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
        (recorder.folder / "answers.toml").write_text(answers)
        with machine.start("live", iso=iso) as running:
            with recorder.phase("boot the live medium", "firmware"):
                agent = running.live()
            play.install(what, recorder, running, agent)
            agent.start(["bash", "-c", "sync; reboot -f"])
            running.wait_off(5)

    content = cache.key(layers.code().name, what.answers(), what.hardware.firmware, PASSWORD_HASH)
    return cache.built("installed", content, install)


def overlay(what: Scenario, base: Path, folder: Path) -> Machine:
    """A machine of its own that begins as the installed one; nothing is written to the base."""
    for disk in what.hardware.disks:
        name = f"{disk.serial}.qcow2"
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base / name)]
        run(entered(userland.build() / "root", [*argv, str(folder / name)], keep_user=True))
    for name in ("variables.fd", "key", "key.pub"):
        if (base / name).exists():
            shutil.copy2(base / name, folder / name)
    return Machine(what.hardware, folder)


def documents(text: str) -> dict[str, object]:
    """The JSON document that a command printed, after whatever sudo said before it."""
    found: dict[str, object] = json.loads(text[text.index("{") :])
    return found
