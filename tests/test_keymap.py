"""What is typed in stage 1 has keys in its keymap, or is refused before anything is written."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from installer.errors import Exit, HyperError
from installer.execute.keymap import compiled, lacking
from installer.execute.log import Redactor
from installer.execute.secrets import Secrets
from installer.plan.planner import make_plan
from tests.plan_cases import ENCRYPTED, answers, machine, medium, storage

GERMAN = "yacht zu preußen"


def keymap(letters: str, *, marks: bool = False) -> bytes:
    """As loadkeys(1) writes one: which tables there are, then each with its 128 keys. Letters lie with and without Shift."""
    keys = [0x0B00 | ord(each) if each.isascii() else 0xF000 ^ ord(each) for each in letters]
    keys += [0x0701] * marks  # an acute accent
    with_control = [0x0B00 | ord("ß")]
    tables = [keys[::2], keys[1::2], with_control]
    flags = bytes(number in (0, 1, 4) for number in range(256))
    return (
        b"bkeymap"
        + flags
        + b"".join(struct.pack("<128H", *table, *[0x0200] * (128 - len(table))) for table in tables)
    )


ASCII = "abcdefghijklmnopqrstuvwxyz 0123456789"


def test_letters_without_keys_are_found() -> None:
    assert lacking(GERMAN, keymap(ASCII)) == "ß"
    assert lacking(GERMAN, keymap(f"{ASCII}ß")) == ""
    assert lacking("größer als ß", keymap(f"{ASCII}ö")) == "ß"


def test_a_mark_and_a_letter_may_make_another() -> None:
    assert lacking("café", keymap(ASCII)) == "é"
    assert lacking("café", keymap(ASCII, marks=True)) == ""
    assert lacking("à", keymap(ASCII, marks=True)) == "à", "another mark"
    assert lacking("'", keymap(ASCII, marks=True)) == "", "the mark and a space"
    assert lacking("ß", keymap(ASCII, marks=True)) == "ß", "no mark makes it"


def collect(
    tmp_path: Path, given: Callable[[str], bytes | None], secret: str = GERMAN, **more: object
) -> None:
    file = tmp_path / "pass"
    file.write_text(f"{secret}\n")
    encryption = ENCRYPTED | {"passphrase": {"file": str(file)}}
    asked = answers(storage=storage(encryption=encryption), keymap="de", **more)
    Secrets(Redactor(), asked, compiled=given).collect(make_plan(machine(), asked, medium()))


def test_a_passphrase_that_has_no_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HyperError, match="could not be typed at boot") as caught:
        collect(tmp_path, lambda _: keymap(ASCII))
    assert caught.value.code is Exit.answers
    assert "1 of its letters" in caught.value.why and "keymap `de`" in caught.value.why
    assert "ß" not in caught.value.why, "nothing of the secret is told"


def test_where_it_can_be_typed_it_is_taken(tmp_path: Path) -> None:
    collect(tmp_path, lambda _: keymap(f"{ASCII}ß"))
    collect(tmp_path, lambda _: None)  # nothing here knows keymaps
    collect(tmp_path, lambda _: keymap(ASCII), secret="yacht zu see")
    # A serial line's other end has a keyboard of its own.
    collect(tmp_path, lambda _: keymap(ASCII), boot={"serial_console": "ttyS0,115200"})


def test_the_program_is_asked_for_what_the_answers_name(tmp_path: Path) -> None:
    assert compiled("de", path=str(tmp_path)) is None
    program = tmp_path / "loadkeys"
    program.write_text('#!/bin/sh\n[ "$4" = de ] && printf "bkeymap $*" || printf other\n')
    program.chmod(0o755)
    assert compiled("de", path=str(tmp_path)) == b"bkeymap --quiet --unicode --bkeymap de"
    assert compiled("none", path=str(tmp_path)) is None
