"""What opens encrypted disks beside the passphrase: left to the host, which measures its own boot. Pure.

A TPM binds to PCR 7, which changes with Secure Boot's state and keys, and to no other. PCRs 0 to 6 change with every
firmware update, 4, 9 and 12 with every generation, since their kernels lie on the boot partition one by one. PCR 15, with
which systemd keeps a second system from unsealing after the first disk is open, does not go with hosts that open several
disks side by side, and it cannot make up for an initial RAM disk that nobody signed. What does is the PIN.
"""

from collections.abc import Iterator

from installer.answers.model import Answers, TokenKind
from installer.facts import Facts
from installer.facts.common import Verdict
from installer.handoff import Enrolment
from installer.plan.storage.element import Layout
from installer.plan.storage.luks import ENROLMENT_SLOT, Luks

FOLDER = "/var/lib/hyper-nixos/secrets/enrolment"
"""On the host, behind the encryption; gone once the token is enrolled."""
KEY_FILE, PIN_FILE = f"{FOLDER}/key", f"{FOLDER}/pin"


def enrolment(answers: Answers, layout: Layout) -> Enrolment | None:
    """What the first run takes up; none: the passphrase is all there is."""
    devices = [each for each in layout.elements if isinstance(each, Luks) and each.token]
    if not devices or devices[0].token is None:
        return None
    return Enrolment(
        token=devices[0].token,
        devices=tuple(f"/dev/disk/by-uuid/{each.uuid}" for each in devices),
        key_file=KEY_FILE,
        slot=ENROLMENT_SLOT,
        pin_file=PIN_FILE if answers.storage.encryption.token is TokenKind.tpm2_pin else None,
    )


def token_warnings(facts: Facts, answers: Answers) -> Iterator[str]:
    """What a token does not do."""
    encryption = answers.storage.encryption
    if not encryption.enable or encryption.token is not TokenKind.tpm2:
        return
    yield (
        "The TPM opens the disks without a PIN: they are safe when pulled out, and not when the whole machine is taken. "
        'token = "tpm2-pin" protects both.'
    )
    if facts.firmware.secure_boot.verdict is not Verdict.yes:
        yield "Secure Boot is off: whatever starts on this machine can have the TPM open the disks."
