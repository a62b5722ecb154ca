"""The power of an installed host, cut in each job of its first run: it is started again, and the job with it.

The cuts follow each other on one host, so that each costs one boot: cut in the first job, started, cut in the second. Before
the next cut is made the job that was cut off must have said that it starts over, and be done.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from installer.plan.enrolment import FOLDER
from tests.file_server import Mirror, mirror
from tests.lab import installed
from tests.lab.guest import MARKER, image
from tests.lab.installed import Host
from tests.lab.play import boot
from tests.lab.recorder import Recorder
from tests.lab.scenarios import Scenario, combinations
from tests.web_servers import Answer, Request, serving

SERVER = "10.0.2.100:80"
"""What the machine reaches the server by that is told how it went."""
IMAGES = "10.0.2.101:80"
"""And the one that has a guest's image."""
GROWN = "7G"
"""What the first disk of 6 GiB has become when the host is started, so that its root has something to grow into."""
GIB = 1 << 30
"""Beside swap and boot partition, of 6 GiB the root has less than four, of 7 more."""
WEBHOOK = f"""[[webhooks]]
url = "http://{SERVER}/events"
events = ["first-run"]

"""
FETCHED = f"""
[[first_run.vms]]
name = "fetched"
image = "http://{IMAGES}/marker.raw"
image_format = "raw"
image_sha256 = "@sha256@"
firmware = "bios"
memory = "32MiB"
network = "none"
autostart = false
start = false

[system]"""
Moments = tuple[tuple[str, str], ...]
HALF = r"\d+ of \d+ bytes are here"
MOMENTS = {
    "the host itself": (
        ("grow-root", "started"),
        ("hardware", "started"),
        ("libvirt", "started"),
        ("pool", "started"),
        ("network", "started"),
    ),
    "guests": (
        ("image-fetched", "started"),
        ("image-fetched", HALF),
        ("vm-marker", "started"),
        ("vm-marker", "starting VM"),
        ("vm-fetched", "started"),
    ),
    "what comes last": (
        ("certificate", "started"),
        ("backup", "started"),
        ("phase", "started"),
        ("phase", "switching to"),
        ("webhook", "started"),
    ),
}
"""Job, and what it says when the power goes: in three runs, each of which begins with the host as it was installed."""
ENROLMENT = (("enrol", "started"), ("enrol", "the installer's key goes"))
"""The same for a host whose TPM shall open its disk: a passphrase is typed at each of its boots, so it is another one."""


def scenario() -> Scenario:
    """As it is installed for the phase's trials, with something to do for every job that needs no encryption."""
    plain = installed.scenario()
    return replace(
        plain,
        name="first-run",
        changes=(
            *plain.changes,
            ("\n[hypervisor]", '\nsecurity = { phase = "hardened" }\n\n[hypervisor]'),
            ("[[first_run.vms]]", f"{WEBHOOK}[[first_run.vms]]"),
            ("\n[system]", FETCHED.replace("@sha256@", hashlib.sha256(image()).hexdigest())),
        ),
    )


def encrypted() -> Scenario:
    """A host whose disk the TPM shall open, from its second boot on."""
    found = next(each for each in combinations() if each.name == "uefi-ext4-luks")
    return replace(
        found,
        name="enrolment",
        hardware=replace(found.hardware, tpm=True),
        changes=(*found.changes, ('recovery_key = "seal"', 'recovery_key = "seal"\ntoken = "tpm2"')),
    )


@dataclass
class Told:
    """What our server was told."""

    events: list[dict[str, object]] = field(default_factory=list)

    def answer(self, request: Request) -> Answer:
        """Takes every event."""
        self.events.append(json.loads(request.body))
        return Answer(204)


@contextmanager
def _reached(host: Host, told: Told) -> Iterator[Mirror]:
    with serving(told.answer) as server, mirror() as images:
        host.machine.services |= {SERVER: server.port, IMAGES: int(images.url.rpartition(":")[2])}
        images.files["/marker.raw"] = image()
        # The last byte waits, so that the power can go before it.
        images.slow = threading.Event()
        yield images


def play(part: str) -> Recorder:
    """Play one part through."""
    moments = MOMENTS[part]
    summary = f"An installed host whose power is cut {len(moments)} times in its first run: {part}."
    return installed.played("cuts", summary, scenario(), lambda host: _play(host, moments), GROWN)


def play_enrolment() -> Recorder:
    """The same for the job that has the TPM open the disk."""
    summary = f"An encrypted host whose power is cut {len(ENROLMENT)} times while it enrols its TPM."
    return installed.played("enrolment", summary, encrypted(), _play_enrolment)


def _play(host: Host, moments: Moments) -> None:
    told = Told()
    with _reached(host, told) as images:
        if ("image-fetched", HALF) not in moments:
            images.slow = None

        def let_go(said: str) -> None:
            if said == HALF and images.slow:
                images.slow.set()

        _whole(host, told, moments, _cut(host, moments, let_go))
        host.recorder.excerpt(
            "asked of the server of images", "\n".join(f"{path} {ranged}" for path, ranged in images.asked)
        )


def _cut(host: Host, moments: Moments, after: Callable[[str], None] = lambda _: None) -> dict[str, int]:
    """Start the host, and cut its power at each moment. Returns how often each job was cut off."""
    attempts: dict[str, int] = {}
    for number, (job, said) in enumerate(moments):
        before = moments[number - 1][0] if number else ""
        with host.machine.start(f"{number}-{job}") as running:
            boot(host.what, host.recorder, running)
            with host.recorder.phase(f"first run, until {job} says {said!r}", "host"):
                running.serial.expect(rf"hyper-nixos-firstrun\[\d+\]: {job}: .*{said}", 240)
                running.kill()
            _resumed(host, running.serial.text(), before, attempts, done=before != job)
        after(said)
        attempts[job] = attempts.get(job, 0) + 1
    return attempts


def _play_enrolment(host: Host) -> None:
    attempts, prove = _cut(host, ENROLMENT), host.recorder.prove
    with host.machine.start("whole") as running:
        host.start(running, f"after {len(ENROLMENT)} power cuts")
        table = host.first_run()
        _resumed(host, running.serial.text(), ENROLMENT[-1][0], attempts, done=True)
        device = host.encrypted()
        header = host.header(device)
        host.recorder.excerpt("the disk's tokens", json.dumps(header["tokens"], indent=1))
        tokens = [token for token in header["tokens"].values() if token["type"] == "systemd-tpm2"]
        prove("the disk has one token of the TPM", len(tokens) == 1, json.dumps(header["tokens"]))
        code, text = host.root(f"cryptsetup open --test-passphrase --token-only {device}", 60)
        prove("the TPM opens the disk, without a passphrase", code == 0, f"{text}\n{table}")
        left = host.root(f"find {FOLDER} -type f 2>/dev/null")[1].strip()
        prove("the installer's key is gone", not left, left)
        host.logins(running, "after the TPM was enrolled")
        host.off(running)
    with host.machine.start("again") as running:
        host.start(running, "after a reboot, with the recovery key typed")
        code, text = host.root(f"cryptsetup open --test-passphrase --token-only {device}", 60)
        prove("the TPM opens the disk after a reboot, too", code == 0, text)
        host.off(running)


def _resumed(host: Host, text: str, job: str, attempts: dict[str, int], *, done: bool) -> None:
    """The job that was cut off before this boot has started over, and is done unless it was cut off once more."""
    if not job:
        return
    lines = "\n".join(re.findall(rf"hyper-nixos-firstrun\[\d+\]: ({job}: .*)", text))
    again = f"{job}: was cut off in attempt {attempts[job]}, starting over"
    claim = f"{job} was cut off in its attempt {attempts[job]}, and starts over"
    host.recorder.prove(claim, again in lines, lines or text[-1500:])
    if done:
        host.recorder.prove(f"{job} is done after {attempts[job]} cuts", "done and checked" in lines, lines)


def _whole(host: Host, told: Told, moments: Moments, attempts: dict[str, int]) -> None:
    """Everything is there as if the power had never gone, once."""
    prove = host.recorder.prove
    last = moments[-1][0]
    with host.machine.start("whole") as running:
        host.start(running, f"after {len(moments)} power cuts")
        table = host.first_run()
        _resumed(host, running.serial.text(), last, attempts, done=True)
        text = host.ssh.run("hv firstrun status --json", measured=20)[1]
        host.recorder.excerpt("hv firstrun status --json", text)
        states = {each["job"]: each for each in installed.documents(text)["jobs"]}  # type: ignore[attr-defined]
        wrong = {
            job: states[job]["attempts"] for job in attempts if states[job]["attempts"] != attempts[job] + 1
        }
        prove("each job counts the attempts that were cut off", not wrong, f"{wrong}\n{table}")
        size = int(host.told("findmnt --noheadings --bytes --output SIZE /"))
        prove("the root has grown with its disk", size > 4 * GIB, f"{size} bytes")
        wait = f"until grep -q {MARKER} /var/log/libvirt/qemu/marker-console.log; do sleep 2; done"
        code, said = host.root(f"timeout 900 sh -c '{wait}'", 60)
        prove("the guest that the answers name runs and says so", code == 0, said)
        guests = host.told("virsh list --all --name 2>/dev/null").split()
        prove("each guest was made once", sorted(guests) == ["fetched", "marker"], str(guests))
        standing = installed.documents(host.root("hv security phase --json")[1])
        there = [standing[name]["phase"] for name in ("running", "boots")]  # type: ignore[index]
        prove("phase hardened runs, and boots next", there == ["hardened"] * 2, str(there))
        known = {each["id"] for each in told.events}
        prove("our server was told one event, however often", len(known) == 1, str(told.events))
        host.logins(running, "after the first run")
        host.off(running)
