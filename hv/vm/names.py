"""Names of guests, disks, snapshots and tags: what people write, never a path, a flag or a trick of the screen."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 64
"""Characters. libvirt makes file names of a guest's name, of which a file system takes 255 bytes."""
LONGEST_BYTES = 180
"""Bytes in UTF-8: libvirt adds up to 60 of its own."""
_SIMPLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


def guest_name(text: str) -> str:
    """A guest's name in normal form (NFC): letters and digits of any script, space and ``-_.+@()``; ValueError says why not."""
    name = unicodedata.normalize("NFC", text)
    if not name or len(name) > LONGEST or len(name.encode()) > LONGEST_BYTES:
        raise ValueError(f"a name has 1 to {LONGEST} characters, and at most {LONGEST_BYTES} bytes in UTF-8")
    if name != name.strip(" ") or name[0] in "-.+@":
        raise ValueError(
            "a name begins and ends with a letter or digit, not with a space, and has no leading - or ."
        )
    for char in name:
        if unicodedata.category(char)[0] not in "LNM" and char not in " -_.+@()":
            shown = char if char.isprintable() else f"U+{ord(char):04X}"
            raise ValueError(f"{shown!r} cannot be in a name: letters, digits, spaces and -_.+@() can")
    return name


def simple_name(text: str) -> str:
    """A name of ASCII letters, digits and ``_.+-``; ValueError says why not."""
    if not _SIMPLE.fullmatch(text):
        raise ValueError(
            "a name here has 1 to 64 letters, digits and _.+-, and begins with a letter or digit"
        )
    return text


GuestName = Annotated[str, AfterValidator(guest_name)]
SimpleName = Annotated[str, AfterValidator(simple_name)]
