"""Key slots of LUKS2 headers that a power cut may leave to nobody: announced in the header before they are filled.

A key and the token that says whose it is are two writes. Cut off between them, a slot is in use whose key nobody knows.
So a token of our own names the slot first; whoever comes next finds it there, takes the key away that nobody knows, and the
token with it. What somebody else has put into that slot meanwhile stays: a passphrase is stretched, and another's key has a
token, while a key of ours is 256 bits of chance with the least stretching that there is, and has none yet.
"""

import json
from typing import Any

from hv.firstrun.world import Programs

ANNOUNCED = "hyper-nixos-announced"
"""Our token: `slot` is the number of the slot that is about to be filled. It belongs to no key slot."""
SLOTS = 32
"""Key slots of a LUKS2 header (LUKS2 on-disk format specification)."""
CHEAP = ("pbkdf2", 1000)
"""How keys of chance are stretched, by us as by systemd-cryptenroll(1)."""

Header = dict[str, dict[str, Any]]


def header(programs: Programs, device: str) -> Header:
    """The JSON area of a header. Raises CommandError."""
    dump = programs.run(("cryptsetup", "luksDump", "--dump-json-metadata", device))
    found: Header = json.loads(dump.stdout)
    return found


def free(found: Header) -> int | None:
    """The first empty slot, which cryptsetup takes too where it is told none; None where all are in use."""
    return next((slot for slot in range(SLOTS) if str(slot) not in found["keyslots"]), None)


def announce(programs: Programs, device: str, slot: int) -> None:
    """Say in the header that this slot, empty now, is filled next. Raises CommandError."""
    mark = json.dumps({"type": ANNOUNCED, "keyslots": [], "slot": str(slot)})
    programs.run(("cryptsetup", "token", "import", "--json-file", "-", device), stdin=mark.encode())


def settle(programs: Programs, device: str) -> tuple[int, ...]:
    """Take away what was announced and belongs to nobody, then the announcements. Raises CommandError.

    Returns:
        Slots whose key nobody knew.
    """
    found = header(programs, device)
    owned = {slot for token in found["tokens"].values() for slot in token["keyslots"]}
    gone = []
    for number, token in sorted(found["tokens"].items()):
        if token["type"] != ANNOUNCED:
            continue
        slot = str(token["slot"])
        if slot in found["keyslots"] and slot not in owned and _ours(found["keyslots"][slot]):
            programs.run(("cryptsetup", "luksKillSlot", "--batch-mode", device, slot))
            gone.append(int(slot))
        programs.run(("cryptsetup", "token", "remove", "--token-id", number, device))
    return tuple(gone)


def _ours(slot: dict[str, Any]) -> bool:
    kind, iterations = CHEAP
    return bool(slot["kdf"]["type"] == kind and slot["kdf"]["iterations"] <= iterations)
