"""Which letters a console keymap has keys for: what is typed at a screen in stage 1 has no others."""

import shutil
import struct
import subprocess
import unicodedata

MAGIC = b"bkeymap"
TABLES = 256
"""Combinations of Shift, AltGr and so on; one byte for each says whether the keymap has it."""
WITHOUT_CONTROL = (0, 1, 2, 3)
"""Nothing, Shift, AltGr, both: what people type letters with (keymaps(5), modifiers)."""
KEYS = 128
LATIN, LETTER, DEAD, DEAD_2 = 0, 11, 7, 13
"""Kinds of a key (Linux, include/uapi/linux/keyboard.h): characters, and marks that go onto the next one."""
DEAD_MARKS = "`'^~\","
"""In the order of the kernel's numbers (K_DGRAVE and so on)."""
MARKS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0327": ","}
"""Unicode's combining marks as the kernel writes them."""
UNICODE = 0xF000
"""Characters of a keymap that was read as Unicode are crossed with this (loadkeys(1), --unicode)."""


def compiled(keymap: str, path: str | None = None) -> bytes | None:
    """The keymap as loadkeys(1) writes it (--bkeymap); none: there is no such program here, or no such keymap.

    Args:
        keymap: Its name, as in the answers.
        path: Where programs are looked for.
    """
    program = shutil.which("loadkeys", path=path)
    if program is None:
        return None
    argv = (program, "--quiet", "--unicode", "--bkeymap", keymap)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 and done.stdout.startswith(MAGIC) else None


def lacking(text: str, keymap: bytes) -> str:
    """The letters of a text that the keymap has no keys for, each once."""
    letters, marks = _letters(keymap)

    def there(letter: str) -> bool:
        apart = unicodedata.normalize("NFD", letter)
        composed = len(apart) == 2 and apart[0] in letters and MARKS.get(apart[1], "") in marks
        return letter in letters or letter in marks or composed

    return "".join(letter for letter in dict.fromkeys(text) if not there(letter))


def _letters(keymap: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """Every letter with a key of its own, and every mark that goes onto the next letter; before a space it is itself."""
    there = [number for number in range(TABLES) if keymap[len(MAGIC) + number]]
    start = len(MAGIC) + TABLES
    letters: set[str] = set()
    marks: set[str] = set()
    for place, number in enumerate(there):
        if number not in WITHOUT_CONTROL:
            continue
        offset = start + place * KEYS * 2
        for value in struct.unpack(f"<{KEYS}H", keymap[offset : offset + KEYS * 2]):
            kind, code = value >> 8, value & 0xFF
            if kind in (LATIN, LETTER):
                letters.add(chr(code))
            elif value >= 0x1000:  # no kind of key is that high
                letters.add(chr(value ^ UNICODE))
            elif kind == DEAD:
                marks.update(DEAD_MARKS[code : code + 1])
            elif kind == DEAD_2:
                marks.add(chr(code))
    return frozenset(letters), frozenset(marks)
