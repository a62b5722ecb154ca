"""Stage 1 with systemd on an installed host: a German keyboard, the TPM, and SSH.

Its units, files and modules are what nixpkgs evaluates to, its programs Debian's (tests/lab/nixpkgs/builder). Keys are
pressed at the machine's own keyboard, as scan codes that know nothing of letters.
"""

import json
import re
import shutil
from dataclasses import replace

from tests.lab import installed, unlocking, userland
from tests.lab.examples import GERMAN, PIN, examples
from tests.lab.installed import Host
from tests.lab.machine import Running
from tests.lab.play import LAST_WORDS
from tests.lab.recorder import Recorder
from tests.lab.scenarios import Scenario, combinations
from tests.lab.unlocking import ASKED, PIN_ASKED, typed

TYPED_AS_US = GERMAN.translate(str.maketrans("yzß", "zy-"))
"""What the same keys give on a keyboard of the United States."""
SLOW = ["no_timer_check", "systemd.default_device_timeout_sec=900"]
"""Emulated, and maybe beside others: systemd's own 90 seconds for a disk may not do."""
STAGE_2 = r"stage 2"
OTHER_VARIABLES = "usr/share/OVMF/OVMF_VARS_4M.ms.fd"
"""A firmware's memory with keys for Secure Boot in it: PCR 7 measures them."""


def remote_scenario() -> Scenario:
    """The example `encrypted-remote`."""
    return next(each for each in examples() if each.unlock)


def tpm_scenario() -> Scenario:
    """The TPM by itself, and a German keyboard."""
    found = next(each for each in combinations() if each.name == "uefi-ext4-luks")
    return replace(
        found,
        name="stage-1-tpm",
        hardware=replace(found.hardware, tpm=True),
        passphrase=GERMAN,
        guest=None,
        changes=(
            *found.changes,
            ('recovery_key = "seal"', 'recovery_key = "seal"\ntoken = "tpm2"'),
            ('hostname = "kvm2"', 'hostname = "kvm2"\nkeymap = "de-latin1"'),
            (
                found.answers()[
                    found.answers().index("[[first_run.vms]]") : found.answers().index("[system]")
                ],
                "",
            ),
            ("[boot]", f"[boot]\nkernel_params = {json.dumps(SLOW)}"),
        ),
    )


def play_remote() -> Recorder:
    """SSH on a VLAN, a German keyboard, the TPM with PIN, and the TPM when the firmware has changed."""
    what = remote_scenario()
    return installed.played(what.name, what.summary, what, _remote)


def play_tpm() -> Recorder:
    """The TPM by itself."""
    summary = (
        "An encrypted host that the TPM opens at boot, until the firmware's keys for Secure Boot change."
    )
    return installed.played("stage-1-tpm", summary, tpm_scenario(), _tpm)


# The host ---------------------------------------------------------------------------------------------------------------


def up(host: Host, running: Running, when: str) -> None:
    """To the login prompt, and in."""
    with host.recorder.phase(f"stage 2, {when}", "host"):
        running.serial.expect(STAGE_2, 60)
        ended = running.serial.expect(
            rf"{host.what.hostname} login:|emergency mode|rescue mode|Kernel panic", 60
        )[0]
    said = running.serial.text()[-1500:]
    host.recorder.prove(f"the host starts to its login prompt, {when}", "login:" in ended, said)
    host.logins(running, when)


def _pcr(host: Host) -> str:
    return host.told("cat /sys/class/tpm/tpm0/pcr-sha256/7 2>/dev/null")


def _other_firmware(host: Host) -> None:
    """As after somebody has put keys for Secure Boot into the firmware; it does not enforce them."""
    shutil.copyfile(userland.build() / "root" / OTHER_VARIABLES, host.machine.folder / "variables.fd")


def _tokens(host: Host) -> list[dict[str, object]]:
    found = host.header(host.encrypted())["tokens"]
    return [token for token in found.values() if token["type"] == "systemd-tpm2"]


def _remote(host: Host) -> None:
    prove, recorder = host.recorder.prove, host.recorder
    with host.machine.start("remote") as running:
        with host.recorder.phase("stage 1 asks for the passphrase", "firmware"):
            running.serial.expect(ASKED, 60)
        with host.recorder.phase("a wrong passphrase at the keyboard, twice", "firmware"):
            for number in (1, 2):
                typed(recorder, running, "falsch", f"wrong-{number}")
                running.serial.expect(ASKED, 60)
        prove("after wrong passphrases it is asked for again", True, running.serial.text()[-800:])
        fingerprint = unlocking.fingerprint(host.machine.unlock_port)
        last_words = (host.machine.folder / LAST_WORDS).read_text()
        told = re.findall(r"host key there:[^:]*?(SHA256:\S+)", last_words)
        claim = "stage 1 has the host key that the installer's last screen told"
        prove(claim, told == [fingerprint], f"{fingerprint}\n{last_words[-2500:]}")
        unlocking.nothing_else(recorder, host.machine)
        with host.recorder.phase("the passphrase over SSH, on the VLAN", "firmware"):
            shown = unlocking.answered(unlocking.server(host.machine), GERMAN)
        host.recorder.excerpt("the passphrase over SSH", shown)
        up(host, running, "after the passphrase was typed over SSH")
        own = unlocking.fingerprint(host.machine.port)
        prove("the host's own SSH server has another key", own != fingerprint, own)
        look = "ip -brief address show; networkctl --no-pager --lines 0 status manage"
        network = host.told(look)
        there = "manage" in network and str(host.what.hardware.address) in network
        prove("the host has the VLAN's address", there, network)
        host.first_run()
        tokens = _tokens(host)
        bound = [(token["tpm2-pcrs"], token.get("tpm2-pin", False)) for token in tokens]
        prove("the first run has enrolled the TPM with PIN, by PCR 7", bound == [([7], True)], str(tokens))
        _same_keys_elsewhere(host)
        before = _pcr(host)
        host.off(running)
    with host.machine.start("pin") as running:
        with host.recorder.phase("stage 1 asks for the PIN", "firmware"):
            running.serial.expect(PIN_ASKED, 60)
        typed(recorder, running, PIN, "pin")
        up(host, running, "after the PIN was typed")
        said = running.serial.text()
        prove("with the PIN no passphrase is asked for", not re.search(ASKED, said), said[-1500:])
        host.off(running)
    _other_firmware(host)
    with host.machine.start("changed") as running:
        with host.recorder.phase("the PIN, with a changed firmware", "firmware"):
            asked = unlocking.refused(recorder, running, PIN)
        claim = "when PCR 7 has changed the passphrase is asked for"
        prove(claim, asked > 0, f"after {asked} times the PIN\n{running.serial.text()[-800:]}")
        typed(recorder, running, GERMAN, "passphrase")
        up(host, running, "after y, z and ß were typed on a German keyboard")
        prove("PCR 7 is another one", _pcr(host) != before, before)
        host.off(running)


def _same_keys_elsewhere(host: Host) -> None:
    """What the keys of the passphrase give with another keymap opens nothing."""
    device = host.encrypted()
    for claim, words, opens in (
        ("the passphrase opens the disk", GERMAN, True),
        ("the same keys with keymap us do not open it", TYPED_AS_US, False),
    ):
        command = f"printf %s '{words}' | cryptsetup open --test-passphrase --key-file - {device}"
        code, text = host.root(command, 60)
        host.recorder.prove(claim, (code == 0) == opens, text)


def _tpm(host: Host) -> None:
    prove, recorder = host.recorder.prove, host.recorder
    with host.machine.start("typed") as running:
        with host.recorder.phase("stage 1 asks for the passphrase", "firmware"):
            running.serial.expect(ASKED, 60)
        typed(recorder, running, GERMAN, "first")
        up(host, running, "after y, z and ß were typed on a German keyboard")
        host.first_run()
        tokens = _tokens(host)
        bound = [(token["tpm2-pcrs"], token.get("tpm2-pin", False)) for token in tokens]
        prove("the first run has enrolled the TPM, by PCR 7", bound == [([7], False)], str(tokens))
        before = _pcr(host)
        host.off(running)
    with host.machine.start("alone") as running:
        up(host, running, "with nobody at the keyboard")
        said = running.serial.text()
        prove("with the TPM nothing is asked for", not re.search(ASKED, said), said[-1500:])
        host.off(running)
    _other_firmware(host)
    with host.machine.start("changed") as running:
        with host.recorder.phase("stage 1 with a changed firmware", "firmware"):
            running.serial.expect(ASKED, 60)
        prove("when PCR 7 has changed the passphrase is asked for", True, running.serial.text()[-800:])
        typed(recorder, running, GERMAN, "passphrase")
        up(host, running, "after the passphrase was typed")
        prove("PCR 7 is another one", _pcr(host) != before, before)
        host.off(running)
