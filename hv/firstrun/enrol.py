"""Job enrol: the TPM or a FIDO2 token opens encrypted disks at boot, beside the passphrase (systemd-cryptenroll(1)).

It is the host's to do: the live system measures another boot. The installer left a key for this alone; it goes once every
device has its token. Killed at any point, the job goes on where it was: a device that the key no longer opens is done.
"""

import json
from dataclasses import dataclass
from typing import Any

from hv.firstrun import keyslots
from hv.firstrun.world import World
from installer.errors import HyperError
from installer.handoff import Enrolment, Handoff

PCR = 7
"""Secure Boot's state and keys (UAPI group, Linux TPM PCR registry); installer.plan.enrolment says why no other."""
TPM = "tpm2"
TYPES = {TPM: "systemd-tpm2", "fido2": "systemd-fido2"}
"""systemd's names of LUKS2 tokens."""
RETRY = "then `hv firstrun retry enrol`; the passphrase opens the disks meanwhile."
WITH_PIN = 'IFS= read -r NEWPIN; export NEWPIN; exec "$@"'
"""The PIN comes through standard input, so that no command line has it."""
TOUCH = 120.0
"""Seconds in which a token is touched, twice: it gives up by itself after about thirty, each time."""


@dataclass(frozen=True)
class EnrolJob:
    """Enrols what the hand-off names."""

    asked: Enrolment | None
    """None: the passphrase is all there is."""
    tpm: str = "auto"
    """Which TPM, as systemd-cryptenroll names it."""
    name: str = "enrol"
    requires: tuple[str, ...] = ()
    timeout: float = 300

    def applies(self, handoff: Handoff) -> str | None:
        """Only when asked."""
        return "the passphrase opens the disks, as asked" if handoff.enrolment is None else None

    def run(self, world: World) -> None:
        """Every device, then away with the key."""
        asked = self._asked()
        waiting = [each for each in asked.devices if _is_left(_header(world, each), asked.slot)]
        if waiting:
            _require(world, asked, self.tpm)
        for device in asked.devices:
            for slot in keyslots.settle(world.programs, device):
                world.say(
                    f"took key slot {slot} of {device} away: its key was cut off before it had a token"
                )
        for device in waiting:
            self._enrol(world, asked, device)
        for device in waiting:
            _require_token(world, asked, device)
            world.say(f"{device} has its {asked.token.upper()} token: the installer's key goes")
            world.run(
                ("cryptsetup", "luksKillSlot", "--batch-mode", device, str(asked.slot)),
                purpose=f"take the installer's key off {device}",
                remedy=f"See `cryptsetup luksDump {device}`, {RETRY}",
            )
        for path in filter(None, (asked.pin_file, asked.key_file)):
            world.path(path).unlink(missing_ok=True)

    def verify(self, world: World) -> None:
        """Each device has its token, and the installer's key is gone."""
        asked = self._asked()
        for device in asked.devices:
            token = _require_token(world, asked, device)
            if _is_left(_header(world, device), asked.slot):
                raise HyperError(
                    f"The installer's key still opens {device}.",
                    why=f"key slot {asked.slot} is in use",
                    remedy=f"`cryptsetup luksKillSlot {device} {asked.slot}`, {RETRY}",
                )
            bound = (
                f", bound to PCR {PCR}{' and the PIN' if asked.pin_file else ''}"
                if asked.token == TPM
                else ""
            )
            world.say(
                f"checked: {device} has {TYPES[asked.token]} in key slot {token['keyslots'][0]}{bound}"
            )
        if left := [path for path in (asked.key_file, asked.pin_file) if path and world.path(path).exists()]:
            raise HyperError(
                "Files that the installer left for this are still there.",
                why=", ".join(left),
                remedy=f"Remove them, {RETRY}",
            )

    def _asked(self) -> Enrolment:
        if self.asked is None:
            raise ValueError("enrol was run without anything to enrol")
        return self.asked

    def _enrol(self, world: World, asked: Enrolment, device: str) -> None:
        # A token that an interrupted try left is replaced; it goes only once the new one is there.
        kind: tuple[str, ...]
        pin = ""
        if asked.token == TPM:
            kind = (f"--tpm2-device={self.tpm}", f"--tpm2-pcrs={PCR}")
            if asked.pin_file:
                kind += ("--tpm2-with-pin=yes",)
                pin = world.path(asked.pin_file).read_text(encoding="utf-8")
        else:
            kind = ("--fido2-device=auto", "--fido2-with-client-pin=no")
            world.say("touch the FIDO2 token when it blinks, twice")
        argv = (
            *("systemd-cryptenroll", f"--wipe-slot={asked.token}"),
            *(f"--unlock-key-file={world.path(asked.key_file)}", *kind),
            device,
        )
        slot = keyslots.free(keyslots.header(world.programs, device))
        if slot is not None:
            keyslots.announce(world.programs, device, slot)
        try:
            world.run(
                ("sh", "-c", WITH_PIN, "sh", *argv) if pin else argv,
                purpose=f"let the {asked.token.upper()} open {device}",
                remedy=f"Mend what it names, {RETRY}",
                timeout=TOUCH,
                stdin=f"{pin}\n" if pin else "",
            )
        finally:
            keyslots.settle(world.programs, device)


def _is_left(header: dict[str, Any], slot: int) -> bool:
    """Whether the slot is still the installer's, and not a token's that came to lie there later."""
    taken = {each for token in header["tokens"].values() for each in token["keyslots"]}
    return str(slot) in header["keyslots"] and str(slot) not in taken


def _require(world: World, asked: Enrolment, tpm: str) -> None:
    """What is to be enrolled is there."""
    if asked.token != TPM:
        listed = world.attempt(("systemd-cryptenroll", "--fido2-device=list"))
        if listed.status or not any("/dev/" in line for line in listed.text.splitlines()):
            raise HyperError(
                "No FIDO2 token is plugged in.",
                why=listed.stderr.strip() or listed.text.strip() or "systemd-cryptenroll finds none",
                remedy=f"Plug one in, {RETRY}",
            )
        return
    version = world.path("/sys/class/tpm/tpm0/tpm_version_major")
    found = version.read_text().strip() if version.is_file() else None
    if tpm == "auto" and found != "2":
        raise HyperError(
            "This host has no TPM 2.0.",
            why=f"{version} {'does not exist' if found is None else f'says {found}'}",
            remedy=f"Switch the TPM on in the firmware setup (fTPM, PTT), {RETRY}",
        )


def _require_token(world: World, asked: Enrolment, device: str) -> dict[str, Any]:
    """The device's token, as it was asked for."""
    header = _header(world, device)
    tokens = [each for each in header["tokens"].values() if each["type"] == TYPES[asked.token]]
    fitting = [
        each
        for each in tokens
        if all(slot in header["keyslots"] for slot in each["keyslots"])
        and (
            asked.token != TPM
            or (each["tpm2-pcrs"] == [PCR] and bool(each.get("tpm2-pin")) == bool(asked.pin_file))
        )
    ]
    if len(tokens) != 1 or not fitting:
        raise HyperError(
            f"{device} does not have the token that was asked for.",
            why=f"it has {len(tokens)} of type {TYPES[asked.token]}, {len(fitting)} of them as asked",
            remedy=f"See `systemd-cryptenroll {device}`, {RETRY}",
        )
    found: dict[str, Any] = fitting[0]
    return found


def _header(world: World, device: str) -> dict[str, Any]:
    text = world.run(
        ("cryptsetup", "luksDump", "--dump-json-metadata", device),
        purpose=f"read the header of {device}",
        remedy=f"See whether the disk is there, {RETRY}",
    )
    found: dict[str, Any] = json.loads(text)
    return found
