"""Stage 1 without an installed host (small.py): keyboard, SSH on a VLAN, the TPM with PIN and without."""

import re
from datetime import datetime

from tests.lab import unlocking
from tests.lab.examples import GERMAN, PIN
from tests.lab.paths import RUNS
from tests.lab.recorder import Recorder
from tests.lab.small import ARRIVED, Small
from tests.lab.unlocking import ASKED, PIN_ASKED, typed


def play() -> Recorder:
    """Play it through."""
    folder = RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-stage-1-alone"
    recorder = Recorder("stage-1-alone", "Stage 1 alone: keyboard, SSH on a VLAN, TPM with PIN.", folder)
    try:
        with recorder.phase("an initial RAM disk, and a small encrypted disk"):
            host = Small(folder, GERMAN)
        pcr = _remote(recorder, host)
        _keyboard(recorder, host)
        for pin in (None, PIN):
            _token(recorder, host, pcr, pin)
        _useless(recorder, host)
        for image in (*folder.glob("*.qcow2"), *folder.glob("*.img"), *folder.glob("*.raw")):
            image.unlink()
    finally:
        recorder.write()
    return recorder


def _remote(recorder: Recorder, host: Small) -> str:
    """Over SSH, after a wrong passphrase there. Returns PCR 7."""
    machine = host.machine()
    with machine.start("remote") as running:
        with recorder.phase("stage 1 asks for the passphrase", "firmware"):
            running.serial.expect(ASKED, 30)
        own = unlocking.fingerprint(machine.unlock_port)
        recorder.prove("stage 1 has its own host key", own == host.fingerprint(), own)
        unlocking.nothing_else(recorder, machine)
        with recorder.phase("a wrong passphrase over SSH, and the right one", "firmware"):
            for wrong in ("falsch", "noch einmal falsch"):
                unlocking.answered(unlocking.server(machine), wrong)
                running.serial.expect(ASKED, 30)
            recorder.excerpt("over SSH", unlocking.answered(unlocking.server(machine), GERMAN))
            arrived = running.serial.expect(ARRIVED, 30)
        recorder.prove("the passphrase typed over SSH on the VLAN opens the disk", True, arrived[0])
    return arrived[1]


def _keyboard(recorder: Recorder, host: Small) -> None:
    """At the keyboard: the keys that give it on a keyboard of the United States, then those of a German one."""
    with host.machine(tpm=False).start("keyboard") as running:
        with recorder.phase("the passphrase on a German keyboard", "firmware"):
            running.serial.expect(ASKED, 30)
            running.press(
                *("spc" if letter == " " else letter for letter in GERMAN.replace("ß", "s")), "ret"
            )
            running.serial.expect(ASKED, 30)
            typed(recorder, running, GERMAN, "german")
            arrived = running.serial.expect(rf"{ARRIVED}|small stage 2 on /dev/mapper/cryptroot", 30)
        recorder.prove("y, z and ß of a German keyboard open the disk", True, arrived[0])


def _token(recorder: Recorder, host: Small, pcr: str, pin: str | None) -> None:
    """The TPM, and when PCR 7 is another one: the same machine with UEFI."""
    kind = "with PIN" if pin else "alone"
    host.renew()
    host.enrol(pcr, pin)
    with host.machine().start(f"tpm-{kind[-3:]}") as running:
        with recorder.phase(f"the TPM {kind}", "firmware"):
            if pin:
                running.serial.expect(PIN_ASKED, 30)
                typed(recorder, running, "0000", "wrong-pin")
                running.serial.expect(PIN_ASKED, 30)
                typed(recorder, running, pin, "pin")
            arrived = running.serial.expect(ARRIVED, 30)
        said = running.serial.text()
        recorder.prove(f"the TPM {kind} opens the disk", arrived[1] == pcr, said[-1500:])
        recorder.prove(f"with the TPM {kind} no passphrase is asked for", not re.search(ASKED, said), said)
    with host.machine("uefi").start(f"changed-{kind[-3:]}") as running:
        with recorder.phase(f"the TPM {kind}, with another PCR 7", "firmware"):
            asked = unlocking.refused(recorder, running, pin or "")
            typed(recorder, running, GERMAN, "passphrase")
            arrived = running.serial.expect(ARRIVED, 30)
        claim = f"with another PCR 7 the TPM {kind} opens nothing, and the passphrase does"
        evidence = f"the PIN was asked for {asked} times\n{arrived[0]}"
        recorder.prove(claim, arrived[1] != pcr and bool(asked) == bool(pin), evidence)


def _useless(recorder: Recorder, host: Small) -> None:
    """A TPM that the firmware tells of, and that the kernel cannot use."""
    with host.machine("uefi", drivers=False).start("useless") as running:
        with recorder.phase("the passphrase, while the TPM does not come", "firmware"):
            running.serial.expect(ASKED, 120)
            said = running.serial.text()
            typed(recorder, running, GERMAN, "without-tpm")
            arrived = running.serial.expect(rf"{ARRIVED}|small stage 2 on /dev/mapper/cryptroot", 30)
        recorder.prove("it was waited for", "dev-tpmrm0.device" in said, said[-1500:])
        recorder.prove("when the TPM does not come the passphrase is asked for", True, arrived[0])
