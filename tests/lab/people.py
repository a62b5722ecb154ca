"""People of an installed host who have no sudo: they make guests through the broker, each for themselves."""

import base64
import json
from dataclasses import replace

from tests.lab.guest import MARKER, SIZE, image
from tests.lab.recorder import Recorder
from tests.lab.session import Ssh

SECTOR = 512
REFUSED = 10
"""Exit code of `hv` where a right is missing."""


def make_guests(recorder: Recorder, ssh: Ssh, password: str) -> None:
    """ada makes a guest and sees its marker; bob and vic cannot touch it; nobody reaches libvirt past the broker."""
    ada, bob, vic = (replace(ssh, user=name) for name in ("ada", "bob", "vic"))
    with recorder.phase("a guest without sudo", "host"):
        code, text = ada.run("sudo -n true; id")
        recorder.prove("ada has no sudo", "hv-users" in text and "(wheel)" not in text and code == 0, text)
        # Of the image only the first sector is not empty.
        first = base64.b64encode(image()[:SECTOR]).decode()
        code, text = ada.run(f"base64 -d >mine.raw && truncate -s {SIZE} mine.raw", stdin=first)
        recorder.prove("ada has an image", code == 0, text)
        code, text = ada.run("hv image import mine.raw --name mine", measured=60)
        recorder.prove("ada imports it", code == 0, text)
        command = (
            "hv vm create first --image mine --memory 32MiB --cpus 1 --firmware bios --network none --start"
        )
        code, text = ada.run(command, measured=90)
        recorder.excerpt(command, text)
        recorder.prove("ada makes a guest from it, and starts it", code == 0, text)
        wait = f"timeout 400 sh -c 'until hv vm logs first | grep -q {MARKER}; do sleep 2; done'; hv vm logs first"
        text = ada.run(wait, measured=90)[1]
        recorder.prove("ada reads the guest's marker", MARKER in text, text)
        code, text = ada.run("hv vm list --json", measured=15)
        rows = {row["name"]: row for row in json.loads(text)["vms"]} if code == 0 else {}
        recorder.prove("ada sees it run, and it is hers", rows.get("first", {}).get("owner") == "ada", text)
    with recorder.phase("who may not", "host"):
        code, text = bob.run("hv vm stop first --force", measured=15)
        recorder.prove("bob cannot stop it", code != 0 and "first" in text, f"status {code}: {text}")
        code, text = vic.run("hv vm delete first", measured=15)
        recorder.prove("vic, who looks, cannot delete it", code == REFUSED, f"status {code}: {text}")
        code, text = ada.run("virsh --connect qemu:///system list", measured=15)
        recorder.prove("ada does not reach libvirt past the broker", code != 0, text)
        code, text = ssh.run("hv vm list --json", measured=15)
        recorder.prove("the administrator sees it without sudo", code == 0 and '"first"' in text, text)
        code, text = ssh.sudo("virsh --connect qemu:///system list --name", password, measured=15)
        recorder.prove("it runs under the host's libvirt", code == 0 and "first" in text, text)
    with recorder.phase("its end", "host"):
        code, text = ada.run("hv vm stop first --force && hv vm delete first --yes", measured=40)
        recorder.prove("ada stops and deletes it", code == 0, text)
        code, text = ada.run("hv vm list --json", measured=15)
        recorder.prove("it is gone", code == 0 and '"first"' not in text, text)
