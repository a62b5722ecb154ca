"""At the prompts of stage 1: keys of a German keyboard, which know nothing of letters, and its SSH server."""

import os
import pty
import re
import select
import subprocess
import time

from tests.lab import userland
from tests.lab.machine import Machine, Running
from tests.lab.patience import patience
from tests.lab.recorder import Recorder
from tests.lab.session import Ssh
from tests.lab.tools import entered

PLACES = {"y": "z", "z": "y", "ß": "minus", " ": "spc"}
"""Keys of a German keyboard by what is in their place on one of the United States."""
ASKED = r"[Ee]nter passphrase (?:or recovery key )?for disk"
PIN_ASKED = r"[Ee]nter TPM2 PIN|token PIN"


def german(text: str) -> tuple[str, ...]:
    """The keys that give a text on a German keyboard, and Enter."""
    return (*(PLACES.get(letter, letter) for letter in text), "ret")


def typed(recorder: Recorder, running: Running, text: str, name: str) -> None:
    """Typed at the machine's own keyboard, with a picture of it."""
    # The serial line asks first; what is typed before the screen asks too is lost.
    time.sleep(patience(1))
    running.press(*german(text)[:-1])
    recorder.picture(running.screenshot(name), f"{name}: typed on a German keyboard")
    running.press("ret")


def refused(recorder: Recorder, running: Running, pin: str) -> int:
    """Type a PIN that the TPM no longer takes until the passphrase is asked for. How often it was asked for: systemd's
    part of libcryptsetup asks, and then systemd itself.
    """
    for number in range(9):
        if re.search(ASKED, running.serial.expect(f"{ASKED}|{PIN_ASKED}", 60)[0]):
            return number
        typed(recorder, running, pin, f"pin-of-before-{number}")
    raise AssertionError("the PIN is asked for again and again, and never the passphrase")


def server(machine: Machine) -> Ssh:
    """Stage 1's server; it is known by the key that the installer's last screen tells."""
    return Ssh("root", machine.unlock_port, machine.folder)


def fingerprint(port: int) -> str:
    """Of the key that a server shows."""
    script = f"ssh-keyscan -t ed25519 -T {int(patience(10))} -p {port} 127.0.0.1 | ssh-keygen -l -f -"
    deadline = time.monotonic() + patience(60)
    while True:
        argv = entered(userland.build() / "root", ["sh", "-c", script], keep_user=True)
        shown = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        if found := re.search(r"SHA256:\S+", shown):
            return found[0]
        assert time.monotonic() < deadline, f"no SSH server showed a key at port {port}"


def answered(ssh: Ssh, secret: str) -> str:
    """Log in with a terminal, and type what is asked for; asked again while nothing is. What was shown."""
    deadline = time.monotonic() + patience(60)
    while True:
        shown = _terminal(entered(userland.build() / "root", ssh.command("-tt"), keep_user=True), secret)
        if re.search(ASKED, shown) or time.monotonic() > deadline:
            return shown


def _terminal(argv: list[str], secret: str) -> str:
    process, terminal = pty.fork()
    if process == 0:
        os.execvp(argv[0], argv)
    shown, typed, deadline = "", False, time.monotonic() + patience(60)
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            data = os.read(terminal, 4096)
        except OSError:  # how a terminal says that its program is gone
            data = b""
        if not data:
            break
        shown += data.decode("utf-8", "replace")
        if not typed and re.search(ASKED, shown):
            os.write(terminal, f"{secret}\n".encode())
            typed = True
    os.close(terminal)
    os.waitpid(process, 0)
    return shown


def nothing_else(recorder: Recorder, machine: Machine) -> None:
    """Stage 1's SSH server runs no command, moves no file and forwards no port."""
    ssh = server(machine)
    code, text = ssh.run("id", measured=30)
    recorder.prove("no command is run there", code != 0 and "uid=" not in text, text)
    root = userland.build() / "root"
    for claim, options in (
        ("no file is moved there", ("-s", "sftp")),
        ("no port is forwarded there", ("-W", f"127.0.0.1:{machine.unlock}")),
    ):
        command = ssh.command(*options[:1]) if options[0] == "-s" else ssh.command(*options)
        argv = [*command, *(options[1:] if options[0] == "-s" else ())]
        done = subprocess.run(
            entered(root, argv, keep_user=True), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        shown = (done.stdout + done.stderr).decode(errors="replace")
        refused = "subsystem request failed" in shown or "forwarding failed" in shown
        recorder.prove(claim, done.returncode != 0 and refused, shown)
