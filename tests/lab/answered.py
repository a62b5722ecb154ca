"""Answers that come to the machine from elsewhere: a labelled medium, an answer server that is told how it goes, and the
operator's own computer over SSH.
"""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from ssl import PEM_cert_to_DER_cert, create_default_context
from typing import Any

from installer.errors import Exit, HyperError
from tests.lab import userland
from tests.lab.channels import Agent
from tests.lab.command import run
from tests.lab.machine import Machine, Running
from tests.lab.paths import REPOSITORY
from tests.lab.patience import patience
from tests.lab.play import boot, build, checked
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSWORD, PASSWORD_HASH, Scenario
from tests.lab.session import Ssh, make_key
from tests.lab.tools import entered
from tests.lab.unattended import INSTALL, closure, online, plug, recorded, scenario

SERVER = "10.0.2.100"
"""Where the machine finds the answer server."""
KEY = "webhook-key"
HV = ("env", "-C", REPOSITORY, sys.executable, "-m", "hv")


def labelled() -> Recorder:
    """Answers and secrets lie on a second stick, labelled HYPERNIXCFG."""
    what = _scenario("labelled", "A stick labelled HYPERNIXCFG holds answers and secrets.")
    return recorded(what, _labelled)


def served() -> Recorder:
    """Answers from `hv answers serve`, which is told of everything up to the end of the host's first run."""
    what = _scenario("served", "An answer server hands out answers and secrets, and is told how it goes.")
    return recorded(what, _served)


def remote() -> Recorder:
    """`hv install --target` from this computer, on the machine that was booted from our medium."""
    what = _scenario("remote", "Installed over SSH from the operator's computer, from the booted medium.")
    return recorded(what, _remote)


def _scenario(name: str, summary: str) -> Scenario:
    plain = scenario("stick")
    return replace(
        plain,
        name=f"answered-{name}",
        summary=summary,
        hardware=replace(plain.hardware, network=True),
        changes=tuple(
            (old, new.replace('at_end = "reboot"', 'at_end = "stay"') if name == "remote" else new)
            for old, new in plain.changes
        ),
    )


def _machine(what: Scenario, recorder: Recorder, **more: Any) -> Machine:
    machine = Machine(what.hardware, recorder.folder, **more)
    machine.create()
    return machine


def _answers(what: Scenario, recorder: Recorder, more: str = "") -> str:
    """The answer file, which is kept for whoever builds the closure beforehand."""
    text = what.answers().replace("@ssh-key@", make_key(recorder.folder)) + more
    (recorder.folder / "answers.toml").write_text(text)
    return text


def _plugged(what: Scenario, recorder: Recorder, running: Running, agent: Agent) -> None:
    plug(*closure(what, recorder, agent), running, agent)


def _installed(recorder: Recorder, running: Running, agent: Agent) -> str:
    """Install without anybody there; what was said."""
    with recorder.phase("hv install --unattended", "installer"):
        agent.start(INSTALL, listen=recorder.detail)
        running.serial.expect(r"Going to reboot", 200)
        running.wait_off(20)
    said = running.serial.text()
    (recorder.folder / "install.txt").write_text(said)
    return said


# A labelled medium


def _labelled(what: Scenario, recorder: Recorder) -> None:
    plain, stick = build(recorder), recorder.folder / "answers.img"
    with recorder.phase("a stick with answers"):
        _stick(stick, _answers(what, recorder))
    machine = _machine(what, recorder, sticks=(stick,))
    with machine.start("live", iso=plain) as running:
        with recorder.phase("boot the live medium", "firmware"):
            agent = running.live()
        _plugged(what, recorder, running, agent)
        said = _installed(recorder, running, agent)
    recorder.prove("the labelled medium has won", "labelled medium: answers from" in said, said[-1500:])
    with machine.start("host") as running:
        boot(what, recorder, running)
        ssh = Ssh(ADMINISTRATOR, machine.port, recorder.folder)
        code, text = ssh.sudo("id -u", PASSWORD, measured=40)
    claim = "the administrator of the stick's answers logs in, and the stick's password is his"
    recorder.prove(claim, code == 0 and text.strip().endswith("0"), text)


def _stick(image: Path, answers: str) -> None:
    """FAT, as a person formats a stick, with names in capitals as FAT often has them."""
    with image.open("wb") as file:
        file.truncate(16 << 20)
    folder = image.with_suffix("")
    (folder / "SECRETS").mkdir(parents=True)
    (folder / "ANSWERS.TOML").write_text(answers)
    (folder / "SECRETS" / f"{ADMINISTRATOR}.hash").write_text(PASSWORD_HASH + "\n")
    root = userland.build() / "root"
    run(entered(root, ["mkfs.fat", "-n", "HYPERNIXCFG", str(image)], keep_user=True))
    for each in sorted(folder.iterdir()):
        run(["mcopy", "-s", "-i", image, each, "::"])
    shutil.rmtree(folder)


# An answer server


@dataclass(frozen=True)
class Server:
    """`hv answers serve` on this computer."""

    port: int
    folder: Path
    certificate: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate."""
        return sha256(PEM_cert_to_DER_cert(self.certificate.read_text())).hexdigest()

    def fleet(self) -> dict[str, Any]:
        """Its state of the fleet, as anybody may read it."""
        context = create_default_context(cafile=str(self.certificate))
        context.check_hostname = False
        with urllib.request.urlopen(
            f"https://127.0.0.1:{self.port}/v1/fleet", context=context, timeout=30
        ) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def until(self, wanted: Callable[[dict[str, Any]], bool], measured: float) -> dict[str, Any]:
        """Wait for a state of the fleet."""
        deadline, pause = time.monotonic() + patience(measured), threading.Event()
        while not wanted(found := self.fleet()):
            if time.monotonic() > deadline:
                raise HyperError("the fleet is not as it should be", why=json.dumps(found), remedy="read it")
            pause.wait(0.5)
        return found


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """The server, with what is in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = Server(port, folder, folder / "server.pem")
    given = ("--certificate", folder / "server.pem", "--key", folder / "server.key")
    command = [*HV, "answers", "serve", folder, "--listen", f"127.0.0.1:{port}", *given]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        try:
            deadline, pause = time.monotonic() + patience(10), threading.Event()
            while True:
                try:
                    server.fleet()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                    pause.wait(0.2)
            yield server
        finally:
            process.terminate()
            process.wait(20)


def _fleet(what: Scenario, recorder: Recorder) -> Path:
    """A folder as the server wants it: who gets what, answers, secrets, a certificate."""
    folder = recorder.folder / "fleet"
    secrets = folder / "kvm2"
    secrets.mkdir(parents=True)
    certificate = ("-keyout", folder / "server.key", "-out", folder / "server.pem", "-days", "2")
    name = ("-subj", "/CN=answers", "-addext", f"subjectAltName=IP:{SERVER}")
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *certificate, *name])
    pinned = sha256(PEM_cert_to_DER_cert((folder / "server.pem").read_text())).hexdigest()
    webhook = f"""
[[webhooks]]
url = "https://{SERVER}/v1/events"
certificate = "{pinned}"
events = ["started", "step", "succeeded", "failed", "first-run"]
secret = {{ file = "/run/hyper-nixos/live/secrets/webhook" }}
"""
    (folder / "kvm2.toml").write_text(_answers(what, recorder, webhook))
    (secrets / f"{ADMINISTRATOR}.hash").write_text(PASSWORD_HASH + "\n")
    (secrets / "webhook").write_text(KEY + "\n")
    (folder / "webhook").write_text(KEY + "\n")
    entry = (
        f'name = "kvm2"\nanswers = "kvm2.toml"\nsecrets = "kvm2"\nmatch = {{ mac = "{what.hardware.mac}" }}'
    )
    other = 'name = "other"\nanswers = "kvm2.toml"\nmatch = { mac = "52:54:00:00:00:99" }'
    (folder / "fleet.toml").write_text(
        f'version = 1\nwebhook_secret = {{ file = "{folder}/webhook" }}\n\n'
        f"[[machine]]\n{entry}\n\n[[machine]]\n{other}\n"
    )
    return folder


def _served(what: Scenario, recorder: Recorder) -> None:
    plain = build(recorder)
    folder = _fleet(what, recorder)
    with serving(folder) as server:
        medium = recorder.folder / "medium.iso"
        argument = f"hv.answers=https://{SERVER}/v1/answers#cert:{server.fingerprint}"
        with recorder.phase("hv media embed"):
            run([*HV, "media", "embed", plain, "--kernel-argument", argument, "--output", medium])
        machine = _machine(what, recorder, services={f"{SERVER}:443": server.port})
        with machine.start("live", iso=medium) as running:
            with recorder.phase("boot the live medium", "firmware"):
                agent = running.live()
            online(agent)
            _plugged(what, recorder, running, agent)
            said = _installed(recorder, running, agent)
        claim = "the kernel's argument has won, with the answers of the server"
        recorder.prove(claim, "kernel argument: answers from" in said, said[-1500:])
        fleet = server.until(lambda fleet: _state(fleet, "kvm2") == "installed", 30)
        recorder.excerpt("/v1/fleet after the installation", json.dumps(fleet, indent=1))
        recorder.prove(
            "the server was told that it is installed", _state(fleet, "kvm2") == "installed", str(fleet)
        )
        names = [each["name"] for each in fleet["machines"]]
        recorder.prove("nobody else got anything", names == ["kvm2"] and fleet["entries"] == 2, str(fleet))
        with machine.start("host") as running:
            boot(what, recorder, running)
            with recorder.phase("first run", "host"):
                fleet = server.until(lambda fleet: "first run" in _detail(fleet, "kvm2"), 240)
        recorder.excerpt("/v1/fleet after the first run", json.dumps(fleet, indent=1))
        claim = "the installed host tells the server of its first run"
        recorder.prove(claim, _detail(fleet, "kvm2") == "first run done", str(fleet))


def _state(fleet: dict[str, Any], name: str, what: str = "state") -> str:
    return next((str(each[what]) for each in fleet["machines"] if each["name"] == name), "")


def _detail(fleet: dict[str, Any], name: str) -> str:
    return _state(fleet, name, "detail")


# From the operator's computer


def _remote(what: Scenario, recorder: Recorder) -> None:
    plain = build(recorder)
    secret = recorder.folder / f"{ADMINISTRATOR}.hash"
    secret.write_text(PASSWORD_HASH + "\n")
    what = replace(
        what,
        changes=tuple(
            (old, str(secret) if new.endswith(f"{ADMINISTRATOR}.hash") else new)
            for old, new in what.changes
            if "destroy" not in new
        ),
    )
    _answers(what, recorder)
    medium, key = recorder.folder / "medium.iso", recorder.folder / "key"
    with recorder.phase("hv media embed"):
        run([*HV, "media", "embed", plain, "--key", key.with_suffix(".pub"), "--output", medium])
    machine = _machine(what, recorder)
    with machine.start("live", iso=medium) as running:
        with recorder.phase("boot the live medium", "firmware"):
            agent = running.live()
        checked(agent.start(["hv", "live", "prepare"]), 10)
        online(agent)
        _plugged(what, recorder, running, agent)
        # The live system's screen shows it.
        shown = agent.run("ssh-keygen", "-l", "-f", "/etc/ssh/ssh_host_ed25519_key.pub").text.split()[1]
        wrong = _there(recorder, machine, "SHA256:" + "A" * 43, "--plan")
        claim = "another key than the one on the screen is refused"
        recorder.prove(claim, wrong[0] != 0 and "key" in wrong[1], wrong[1])
        with recorder.phase("the plan, from there", "installer"):
            code, text = _there(recorder, machine, shown)
        recorder.prove(
            "the plan is that of the machine, and nothing is written",
            code == Exit.consent and "HVMAIN01" in text,
            text,
        )
        table = json.loads(agent.run("lsblk", "--json", "--output", "NAME,SERIAL,PTTYPE").text)
        marks = [each for each in table["blockdevices"] if each["serial"] == "HVMAIN01" and each["pttype"]]
        recorder.prove("its disk is as blank as before", not marks, str(table))
        token = text.split("token  ")[1].split()[0]
        with recorder.phase("hv install --target --confirm", "installer"):
            code, text = _there(recorder, machine, shown, "--confirm", token, measured=240)
        recorder.prove(
            "it is installed, seen from here", code == 0 and "is installed, in" in text, text[-3000:]
        )
        agent.start(["bash", "-c", "sync; reboot -f"])
        running.wait_off(5)
    with machine.start("host") as running:
        boot(what, recorder, running)
        ssh = Ssh(ADMINISTRATOR, machine.port, recorder.folder)
        code, text = ssh.sudo("id -u", PASSWORD, measured=40)
    recorder.prove(
        "its administrator logs in and becomes root", code == 0 and text.strip().endswith("0"), text
    )


def _there(
    recorder: Recorder, machine: Machine, fingerprint: str, *more: str, measured: float = 60
) -> tuple[int, str]:
    """`hv install --target`, as the operator types it; exit status, and all that was printed."""
    target = f"ssh://root@127.0.0.1:{machine.port}"
    given = ("--answers", recorder.folder / "answers.toml", "--identity", recorder.folder / "key")
    command = [*HV, "install", "--target", target, "--host-key", fingerprint, *given, *more]
    done = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience(measured),
        check=False,
    )
    recorder.excerpt(f"hv install --target {' '.join(more)}", done.stdout + done.stderr)
    return done.returncode, done.stdout + done.stderr


__all__ = ["Recorder", "labelled", "remote", "served"]
