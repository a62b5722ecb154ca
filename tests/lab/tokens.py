"""What opens an installed host's encrypted disk beside its passphrase: a FIDO2 token, and the recovery key made anew.

The token is our own software authenticator (tests/authenticator.py), which the host's kernel takes for one at a USB port;
systemd-cryptenroll, libfido2 and cryptsetup are the real ones.
"""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import fido2.cbor

from installer.execute.recovery import RECOVERY_TOKEN
from installer.plan.enrolment import FOLDER
from tests import authenticator
from tests.lab import installed, play
from tests.lab.installed import RECOVERY, Host
from tests.lab.machine import Running
from tests.lab.patience import patience
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSPHRASE, PASSWORD, Scenario, combinations
from tests.lab.session import serial_login

HOME = f"/home/{ADMINISTRATOR}"
SECRET = "/root/token"
"""Of the token that is enrolled."""
TOUCH = "/run/touched"
"""While it is there, somebody has a finger on the token."""
PROGRAM = {
    "authenticator.py": Path(authenticator.__file__),
    "fido2/__init__.py": Path(fido2.__file__),
    "fido2/cbor.py": Path(fido2.cbor.__file__),
}
LISTED = "until systemd-cryptenroll --fido2-device=list | grep /dev/; do sleep 0.2; done"
ENROL_FAILED = 9
"""Exit code of `hv firstrun status`: a job is not done."""
KEY = r"[a-z]{8}(?:-[a-z]{8}){7}"
FILLED = "KEY-SLOT-FILLED"
SHIM = f"""#!/bin/sh
# The real program; then nothing goes on, so that the power can go exactly here.
/usr/sbin/cryptsetup "$@" || exit $?
case " $* " in *" luksAddKey "*) echo {FILLED} >/dev/console; sleep 3600 ;; esac
"""


def scenario() -> Scenario:
    """A host whose disk a FIDO2 token shall open."""
    found = next(each for each in combinations() if each.name == "uefi-ext4-luks")
    return replace(
        found,
        name="fido2",
        changes=(*found.changes, ('recovery_key = "seal"', 'recovery_key = "seal"\ntoken = "fido2"')),
    )


def play_fido2() -> Recorder:
    """Enrolled at first run, with the power cut twice."""
    summary = "An encrypted host that enrols a FIDO2 token (a software authenticator), its power cut twice meanwhile."
    return installed.played("fido2", summary, scenario(), _fido2)


def play_recovery() -> Recorder:
    """The recovery key made anew, with the power cut twice."""
    summary = "An encrypted host whose recovery key is made anew, its power cut twice meanwhile."
    return installed.played("recovery-key", summary, scenario(), _recovery)


# FIDO2 ------------------------------------------------------------------------------------------------------------


def _fido2(host: Host) -> None:
    prove = host.recorder.prove
    with host.machine.start("without-token") as running:
        host.start(running, "after installing")
        enrol = _first_run(host)
        error = enrol["error"] or {}
        prove("without a token the job says so", "No FIDO2 token" in error.get("what", ""), str(enrol))
        prove("and how to go on", "hv firstrun retry enrol" in error.get("remedy", ""), str(error))
        device = host.encrypted()
        for name, file in PROGRAM.items():
            host.ssh.run(f"mkdir -p {HOME}/fido2 && cat >{HOME}/{name}", stdin=file.read_text())
        _plug(host, touched=False)
        _retry_until(host, running, "touch the FIDO2 token", "the token waits for a touch")
    with host.machine.start("cut-while-waiting") as running:
        host.start(running, "after a power cut while the token waited")
        _first_run(host)
        _starts_over(host, running)
        header = host.header(device)
        prove("nothing was enrolled yet", not _of(header, "systemd-fido2"), json.dumps(header["tokens"]))
        _plug(host)
        _retry_until(host, running, "the installer's key goes", "the token is enrolled")
    with host.machine.start("cut-when-enrolled") as running:
        host.start(running, "after a power cut when the token was enrolled")
        _first_run(host)
        _starts_over(host, running)
        _plug(host)
        code, text = host.hv("firstrun retry enrol", 120)
        prove("the job comes to its end", code == 0 and "enrol: done and checked" in text, text)
        _enrolled(host, device)
        secret = host.told(f"base64 -w 0 {SECRET} 2>/dev/null")
        host.logins(running, "after the token was enrolled")
        host.off(running)
    _elsewhere(host, device, secret)


def _enrolled(host: Host, device: str) -> None:
    """As the header says, and as cryptsetup finds out with one token, another, and none."""
    prove, header = host.recorder.prove, host.header(device)
    host.recorder.excerpt("the disk's tokens", json.dumps(header["tokens"], indent=1))
    found = _of(header, "systemd-fido2")
    owned = {slot for token in header["tokens"].values() for slot in token["keyslots"]}
    prove("the disk has one FIDO2 token", len(found) == 1, json.dumps(header["tokens"]))
    prove(
        "its slots are the passphrase's, the recovery key's and the token's",
        len(header["keyslots"]) == 3 and header["keyslots"].keys() - owned == {"0"},
        f"{sorted(header['keyslots'])}, of tokens: {sorted(owned)}",
    )
    left = host.root(f"find {FOLDER} -type f 2>/dev/null")[1].strip()
    prove("the installer's key is gone", not left, left)
    opens = f"cryptsetup open --test-passphrase --token-only {device}"
    code, text = host.root(opens, 60)
    prove("the token opens the disk, without a passphrase", code == 0, text)
    host.root(f"systemctl stop token; rm -f {TOUCH}")
    code, text = host.root(opens, 60)
    prove("without the token the disk stays shut", code != 0, text)
    _plug(host, secret="/root/another")
    code, text = host.root(opens, 60)
    prove("another token does not open it", code != 0, text)
    code, text = host.root(
        f"printf %s '{PASSPHRASE}' | cryptsetup open --test-passphrase --key-file - {device}"
    )
    prove("the passphrase opens it as before", code == 0, text)


def _elsewhere(host: Host, device: str, secret: str) -> None:
    """Another system has the disk, and the token: systemd opens it as in stage 1, and what is on it can be read."""
    iso = play.build(host.recorder)
    with host.machine.start("elsewhere", iso=iso) as running:
        with host.recorder.phase("the disk opened elsewhere", "firmware"):
            agent = running.live()
            agent.shell(f"mkdir -p /root/fido2 /mnt; modprobe uhid; echo {secret} | base64 -d >{SECRET}")
            for name, file in PROGRAM.items():
                agent.write(f"/root/{name}", file.read_text())
            token = agent.start(["python3", "/root/authenticator.py", SECRET])
            token.until("plugged in", 10)
            seconds = int(patience(10))
            opened = agent.shell(
                f"timeout {seconds} sh -c '{LISTED}'; [ -b {device} ]; "
                f"systemd-cryptsetup attach opened {device} - fido2-device=auto,headless=1 && "
                f"mount -o ro /dev/mapper/opened /mnt && cat /mnt{HOME}/fido2/cbor.py | wc -l",
                measured=60,
            )
        claim = "elsewhere systemd opens the disk with the token alone, and its files are there"
        host.recorder.prove(claim, opened.code == 0, opened.text)


def _plug(host: Host, secret: str = SECRET, *, touched: bool = True) -> None:
    """Put a token in."""
    host.root("systemctl stop token")
    host.told(f"modprobe uhid; rm -f {TOUCH}; {f'touch {TOUCH}' if touched else 'true'}")
    program = f"/usr/bin/python3 {HOME}/authenticator.py {secret} {TOUCH}"
    host.told(f"systemd-run --quiet --collect --unit=token {program}")
    host.told(f"timeout {int(patience(15))} sh -c '{LISTED}'", 20)


def _retry_until(host: Host, running: Running, said: str, when: str) -> None:
    """The job again, and the power cut where it says that."""
    console = "--property=StandardOutput=journal+console --property=StandardError=journal+console"
    with host.recorder.phase(f"hv firstrun retry enrol, until {when}", "host"):
        host.told(
            f"systemd-run --quiet --collect --unit=again --setenv=PATH=$PATH {console} "
            "$(command -v hv) firstrun retry enrol"
        )
        running.serial.expect(rf"enrol: [^\n]*{said}", 120)
        running.kill()


def _starts_over(host: Host, running: Running) -> None:
    lines = "\n".join(re.findall(r"hyper-nixos-firstrun\[\d+\]: (enrol: .*)", running.serial.text()))
    over = re.search(r"enrol: was cut off in attempt \d+, starting over", lines)
    host.recorder.prove(f"in {running.name} enrol starts over by itself", over is not None, lines)


def _first_run(host: Host) -> dict[str, Any]:
    """Wait for what runs since boot; the state of job enrol."""
    with host.recorder.phase("first run", "host"):
        host.ssh.sudo("systemctl start hyper-nixos-firstrun.service", PASSWORD, measured=180)
        text = host.ssh.run("hv firstrun status --json", measured=20)[1]
    found = {each["job"]: each for each in installed.documents(text)["jobs"]}  # type: ignore[attr-defined]
    enrol: dict[str, Any] = found["enrol"]
    others = {job: each["status"] for job, each in found.items() if job != "enrol"}
    done = set(others.values()) <= {"done", "skipped"}
    host.recorder.prove("no other job is held up by it", done, str(others))
    return enrol


def _of(header: dict[str, dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [token for token in header["tokens"].values() if token["type"] == kind]


# The recovery key -------------------------------------------------------------------------------------------------


def _recovery(host: Host) -> None:
    prove, recorder = host.recorder.prove, host.recorder
    first = play.recovery_key((recorder.folder / RECOVERY).read_text(), recorder.folder)
    with host.machine.start("cut-when-filled") as running:
        host.start(running, "after installing")
        _first_run(host)
        device = host.encrypted()
        host.told(
            f"mkdir -p /run/shim; cat >/run/shim/cryptsetup <<'END'\n{SHIM}END\nchmod +x /run/shim/cryptsetup"
        )
        with recorder.phase("hv security recovery-key, cut when the key is in its slot", "host"):
            _asked(running, "sh -c 'PATH=/run/shim:$PATH exec hv security recovery-key'")
            running.serial.expect(FILLED, 60)
            running.kill()
    with host.machine.start("cut-when-shown") as running:
        # The installer's recovery key is typed at this boot.
        host.start(running, "after a power cut, with the recovery key from before")
        _first_run(host)
        header = host.header(device)
        lost = (
            header["keyslots"].keys()
            - {"0", "3"}
            - {slot for token in header["tokens"].values() for slot in token["keyslots"]}
        )
        prove("the cut has left a key that nobody knows", len(lost) == 1, json.dumps(header["tokens"]))
        with recorder.phase("hv security recovery-key, cut while the key is shown", "host"):
            said, shown = _shown(running)
            running.kill()
        prove("the key that nobody knew is taken away first", f"took key slot {lost.pop()}" in said, said)
    with host.machine.start("renewed") as running:
        host.start(running, "after another cut, with the recovery key from before")
        _first_run(host)
        with recorder.phase("hv security recovery-key", "host"):
            _, key = _shown(running)
            running.serial.type(f"{key[-8:]}\n")
            running.serial.expect("the one before opens nothing any more", 60)
        header = host.header(device)
        marks = _of(header, RECOVERY_TOKEN)
        # The passphrase, the key, and what the installer has left for the token.
        whole = len(marks) == 1 and len(header["tokens"]) == 1 and len(header["keyslots"]) == 3
        prove("the disk has one recovery key, and no slot too many", whole, json.dumps(header["tokens"]))
        for name, secret, opens in (
            ("the new key opens the disk", key, True),
            ("the passphrase opens it as before", PASSPHRASE, True),
            ("the installer's recovery key opens nothing any more", first, False),
            ("the key that was shown before a cut opens nothing", shown, False),
        ):
            argv = f"printf %s '{secret}' | cryptsetup open --test-passphrase --key-file - {device}"
            code, text = host.root(argv)
            prove(name, (code == 0) == opens, text)
        history = host.root("cat /var/lib/hyper-nixos/history.jsonl")[1]
        prove(
            "the history says who made it, and not the key",
            '"recovery-key"' in history and key not in history,
            history,
        )
        running.serial.type("exit\n")
        host.off(running)
    _seal(recorder.folder, key)
    with host.machine.start("again") as running:
        host.start(running, "with the new recovery key typed at boot")
        host.off(running)


def _asked(running: Running, command: str) -> None:
    """Logged in at the console, up to the passphrase, and it typed."""
    serial = running.serial
    serial_login(serial, ADMINISTRATOR, PASSWORD, leave=False)
    serial.type(f"sudo {command}\n")
    serial.expect(r"password for \S+ ?$", 15)
    serial.type(f"{PASSWORD}\n")
    serial.expect(r"of 1 encrypted disk: ?$", 60)
    serial.type(f"{PASSPHRASE}\n")


def _shown(running: Running) -> tuple[str, str]:
    """A new key on the screen: what was said before it, and the key."""
    _asked(running, "hv security recovery-key")
    found = running.serial.expect(rf"([\s\S]*?)({KEY})[\s\S]*as you have them now: ?$", 90)
    return found[1], found[2]


def _seal(folder: Path, key: str) -> None:
    """As the installer does, so that it is what is typed at the next boot."""
    reader = (folder / "key.pub").read_text().strip()
    argv = ("age", "--encrypt", "--armor", "--recipient", reader, "--output", str(folder / RECOVERY))
    subprocess.run(argv, input=f"{key}\n", text=True, check=True)
