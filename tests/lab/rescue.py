"""The host on a machine's disk under the live medium: found, opened, a login set, its loader put right; then started."""

import json
from pathlib import Path

from installer.handoff import HANDOFF_PATH
from tests.lab import beside, zfs
from tests.lab.machine import Machine
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSPHRASE, PASSWORD, Scenario
from tests.lab.session import serial_login
from tests.lab.unlocking import ASKED

NEW_PASSWORD = "another-password"
NEW_HASH = (
    "$6$labsalt1$"  # made by `openssl passwd -6 -salt labsalt1 another-password`
    "ohQch8nsjf.KXjyr5awpJpjZqg0G33SIiWFWvpo23aTo2gbWJxd71gPmV/OrBFDTbTQ6ob1NCQXuw1Ep.XEg9/"
)
RUIN = r"""
set -eu
disk=$(readlink -f /dev/disk/by-id/*HVMAIN01 | sort -u | head -n 1)
boot=$(sfdisk --dump "$disk" | grep -i 21686148-6449-6E6F-744E-656564454649 | cut -d ' ' -f 1)
dd if=/dev/zero of="$disk" bs=440 count=1 conv=notrunc status=none
dd if=/dev/zero of="$boot" bs=512 count=128 conv=notrunc status=none
sync
"""
"""Shell: GRUB's first and second stage are gone; the table, which begins after 440 bytes, stays."""


def without(scenario: Scenario, recorder: Recorder, machine: Machine, iso: Path, serial: str) -> None:
    """A disk of the mirror is gone for good: refused, then mounted, repaired and let go of; what is left is started."""
    with machine.start("rescue-without", iso=iso, without=serial, forget=False) as running:
        with recorder.phase(f"boot the live medium without {serial}", "firmware"):
            agent = running.live()
        if scenario.zfs:
            zfs.plug(running, agent)
        agent.write("/run/secrets/passphrase", PASSPHRASE + "\n", 0o600)
        key = ("--key-file", "/run/secrets/passphrase") if scenario.encrypted else ()
        with recorder.phase(f"hv rescue without {serial}", "installer"):
            refused = agent.run("hv", "rescue", "mount", *key, measured=40)
            recorder.prove(
                f"hv rescue does not go on by itself without {serial}",
                refused.code != 0 and "--degraded" in refused.text,
                refused.text,
            )
            for verb, words in (
                ("mount", ()),
                ("shell", ("--", "/nix/var/nix/profiles/system/sw/bin/cat", HANDOFF_PATH)),
                ("unmount", ()),
                ("repair", ()),
            ):
                more = () if verb == "unmount" else ("--degraded", *key)
                done = agent.run("hv", "rescue", verb, *more, *words, measured=60)
                recorder.excerpt(f"hv rescue {verb} without {serial}", done.text)
                recorder.prove(f"hv rescue {verb} works without {serial}", done.code == 0, done.text)
                if verb == "repair" and scenario.hardware.firmware == "bios":
                    said = "rebuilding the host stops at GRUB" in " ".join(done.text.split())
                    recorder.prove(f"it says what GRUB wants of the host without {serial}", said, done.text)
                if verb == "shell":
                    held = scenario.hostname in done.text
                    recorder.prove("the shell is in the host", held, done.text)
        agent.start(["bash", "-c", "sync; reboot -f"])
        running.wait_off(5)
    with machine.start("repaired", without=serial, forget=False) as running:
        with recorder.phase(f"start the repaired host without {serial}", "host"):
            if scenario.encrypted:
                running.serial.expect(ASKED, 60)
                running.serial.type(f"{PASSPHRASE}\n")
            running.serial.expect(rf"{scenario.hostname} login:", 120)
            seen = serial_login(running.serial, ADMINISTRATOR, PASSWORD)
        recorder.prove(f"the repaired host starts without {serial}", "wheel" in seen, seen)
        running.kill()


def rescue(scenario: Scenario, recorder: Recorder, machine: Machine, iso: Path) -> None:
    """The host's disk under the live medium: found, opened, a login set, repaired; then the login on the host."""
    with machine.start("rescue", iso=iso) as running:
        with recorder.phase("boot the live medium again", "firmware"):
            agent = running.live()
        agent.write("/run/secrets/passphrase", PASSPHRASE + "\n", 0o600)
        agent.write("/run/secrets/new.hash", NEW_HASH + "\n", 0o600)
        before = beside.digests(agent) if scenario.beside else ""
        if scenario.hardware.firmware == "bios":
            with recorder.phase("the boot loader is ruined"):
                ruined = agent.run("bash", "-c", RUIN, measured=10)
                assert ruined.code == 0, ruined.text
        with recorder.phase("hv rescue", "installer"):
            listed = agent.run("hv", "rescue", "list", "--json", measured=12)
            hosts = json.loads(listed.text[listed.text.index("{") :])["hosts"] if listed.code == 0 else []
            found = [(each["host"], each["encrypted"]) for each in hosts]
            kind = "encrypted host" if scenario.encrypted else "host"
            recorder.prove(
                f"hv rescue finds the {kind}",
                found == [(scenario.hostname, scenario.encrypted)],
                listed.text,
            )
            key = ("--key-file", "/run/secrets/passphrase") if scenario.encrypted else ()
            login = agent.run(
                "hv",
                *("rescue", "login", ADMINISTRATOR, "--password-hash-file", "/run/secrets/new.hash", *key),
                measured=60,
            )
            recorder.excerpt("hv rescue login", login.text)
            recorder.prove("hv rescue sets a login and proves it", login.code == 0, login.text)
            repair = agent.run("hv", "rescue", "repair", *key, measured=60)
            recorder.excerpt("hv rescue repair", repair.text)
            recorder.prove(
                "hv rescue repairs the loader and proves that it boots", repair.code == 0, repair.text
            )
            mounts = agent.run(
                "bash", "-c", "findmnt -rn -o TARGET | grep -c ^/mnt; ls /dev/mapper", measured=5
            )
            recorder.prove("everything is let go of", mounts.text.split() == ["0", "control"], mounts.text)
        if scenario.beside:
            after = beside.digests(agent)
            recorder.prove("the other system is still what it was", after == before, after)
        agent.start(["bash", "-c", "sync; reboot -f"])
        running.wait_off(5)
    with machine.start("rescued") as running, recorder.phase("start the rescued host", "host"):
        if scenario.encrypted:
            running.serial.expect(r"Enter passphrase for disk", 60)
            running.serial.type(f"{PASSPHRASE}\n")
        running.serial.expect(rf"{scenario.hostname} login:", 120)
        seen = serial_login(running.serial, ADMINISTRATOR, NEW_PASSWORD)
        recorder.prove("the password that was set opens the console", "wheel" in seen, seen)
