"""The guided installer's screens of 80x24, as they stand on a real terminal.

`python -m tests.guided_screens` writes them to tests/golden/guided; a test compares.
"""

import gettext
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from installer.guided.words import CATALOGUES, DOMAIN, ENGLISH, LANGUAGES, VARIABLES
from tests.terminal import ENTER, Display, Terminal
from tests.words import template

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = REPOSITORY / "tests/golden/guided"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT alice"

PROOF = (
    "level",
    "network",
    "disk-refused",
    "explained",
    "before-and-after",
    "passphrase-refused",
    "features",
    "review",
)
"""Screens of which each language's own are kept."""


def command(answers: Path, *more: str, machine: str = "workstation") -> list[str]:
    """A dry run on a recorded machine."""
    record = str(REPOSITORY / "tests/machines" / machine)
    medium = str(REPOSITORY / "examples/medium.json")
    hv = [sys.executable, "-m", "hv"]
    return [
        *hv,
        "install",
        "--dry-run",
        "--machine",
        record,
        "--medium",
        medium,
        "--save",
        str(answers),
        *more,
    ]


def environment(locale: str = "C.UTF-8") -> dict[str, str]:
    """Of the program on the terminal."""
    usual = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**usual, "PYTHONPATH": str(REPOSITORY), "LC_MESSAGES": locale}


class Spoken:
    """Says what the installer says, in a language; refuses what no catalogue has."""

    def __init__(self, language: str) -> None:
        self._known = {message.id for message in template()}
        self._chosen = gettext.translation(DOMAIN, CATALOGUES, [language], fallback=True)

    def __call__(self, text: str, **values: object) -> str:
        """In the language."""
        assert text in self._known, f"the installer does not say {text!r}"
        return self._chosen.gettext(text).format(**values)

    def seen(self, text: str, **values: object) -> str:
        """Its beginning, as a pattern for the screen, where the end may stand on the next line."""
        return re.escape(" ".join(self(text, **values).split()[:3]))


def walk(terminal: Display, language: str = "en") -> Iterator[tuple[str, str]]:
    """Through everything once: each screen's name, and the screen."""
    say = Spoken(language)
    yes, close, onwards = say("Yes, go on"), say("Close"), say("Go on with this")

    def until(text: str, then: str = "", **values: object) -> str:
        """Wait for a text, and for what is drawn last on its page."""
        return terminal.until(say.seen(text, **values) + (rf"[\s\S]*\n .*{say.seen(then)}" if then else ""))

    yield "language", terminal.until("Sprache")
    terminal.choose(LANGUAGES[language])
    yield "level", until("How much shall be explained?")
    terminal.choose(say("Some: I know Linux"))
    yield "keyboard", until("Which keyboard?")
    terminal.choose("(us)")
    yield "network", until("How does the host get its addresses?")
    terminal.choose(say("fixed, on a bridge that guests can be plugged into"))
    yield "port", until("Which port?")
    terminal.choose("enp4s0")
    yield "address", until("Address with prefix length:")
    terminal.type(ENTER)
    yield "gateway", until("Gateway:")
    terminal.type("192.0.3.1", ENTER)
    refusal = "It is not in the network {network}, so it could not be reached."
    yield "gateway-refused", until(refusal, "Gateway:", network="192.0.2.0/24")
    terminal.type(*["\x08"] * 9, "192.0.2.1", ENTER)
    until("Name servers:")
    terminal.type(ENTER)
    yield "layout", until("How shall the disks be used?")
    terminal.choose(say("one disk"))
    yield "disk", until("Which disk? What becomes of what is on it is asked next.")
    terminal.choose("sdz")
    yield "disk-refused", until("The installer itself runs from it.", "Close")
    terminal.choose(close)
    until("Which disk? What becomes of what is on it is asked next.")
    terminal.choose("nvme1n1")
    yield "existing", until("What shall become of what is on it?")
    terminal.choose(say("erase all of it: the host gets the whole disk"))
    yield "filesystem", until("Which file system?")
    terminal.choose(say("Explain"))
    yield "explained", until("In the answer file: {field}. {description}", "Close", field="", description="")
    terminal.choose(close)
    until("Which file system?")
    terminal.choose("btrfs")
    until("Where may memory go when it runs short?")
    terminal.choose("zram")
    yield "before-and-after", until("Is this right? Nothing is written yet.")
    terminal.choose(yes)
    yield "encryption", until("Encrypt the disks?")
    terminal.choose(say("Yes: LUKS2 under everything but the boot partition"))
    until("Passphrase:")
    terminal.type("short", ENTER)
    yield "passphrase-refused", until("It is shorter than {count} characters.", "Passphrase:", count=8)
    terminal.type("correct horse", ENTER)
    until("The same again:")
    terminal.type("correct horse", ENTER)
    yield "recovery-key", until("Make a recovery key?")
    terminal.type(ENTER)
    yield "from-afar", until("Type the passphrase over SSH too?")
    terminal.type(ENTER)
    yield "token", until("What else opens the disks at boot?")
    terminal.type(ENTER)
    yield "name", until("Name:")
    terminal.type(ENTER)
    until("Time zone:")
    # What stands there is the language's own: all of it is taken away.
    terminal.type(*["\x08"] * 20, "Berlin", ENTER)
    refusal = "There is no time zone of this name. Perhaps: {names}."
    yield "time-zone-refused", until(refusal, "Time zone:", names="")
    terminal.type(*["\x08"] * 6, "Europe/Berlin", ENTER)
    yield "administrator", until("Login name:")
    terminal.type("alice", ENTER)
    yield "password", until("Password of {name}:", name="alice")
    terminal.type(ENTER)
    yield "keys", until("Where is a key?")
    terminal.choose(say("paste or type it"))
    terminal.until(f"(?m)^ {say.seen('Key:')}")
    terminal.type(KEY, ENTER)
    yield "keys-taken", until("Another key?")
    terminal.choose(say("no more keys"))
    yield "people", until("Is there somebody else?")
    terminal.choose(say("No, that is all"))
    yield "tier", until("How much host?")
    terminal.choose("standard")
    yield "features", until("What shall the host be able to do?")
    terminal.choose(onwards)
    yield "devices", until("Which devices does the host leave to guests?")
    terminal.choose(onwards)
    until("Which guests are made at the first boot?")
    terminal.choose("router")
    yield "guests", terminal.until(r"\[x\] router")
    terminal.choose(onwards)
    until("Memory of {name}:", name="router")
    terminal.choose("1GiB")
    yield "phase", until("Where shall the first boot end?")
    terminal.choose("hardened:")
    yield "profile", until("How far does phase hardened go?")
    terminal.choose("balanced")
    yield "review", until("Change something, or install?")


def screens(language: str = "en") -> dict[str, str]:
    """All of them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Terminal(command(Path(folder) / "answers.toml"), environment()) as terminal,
    ):
        return dict(walk(terminal, language))


def several(language: str = "en") -> dict[str, str]:
    """Many disks and finer points, as an expert sees them: each screen's name, and the screen."""
    say = Spoken(language)
    seen = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Terminal(
            command(Path(folder) / "answers.toml", "--ask", "disks,more", machine="many-disks"),
            environment(f"{language}_{language.upper()}.UTF-8"),
        ) as terminal,
    ):
        terminal.until(say.seen("How shall the disks be used?"))
        terminal.choose(say("system and guests apart, on disks of their own"))
        seen["system"] = terminal.until(say.seen("Which disks? Everything on them will be lost."))
        terminal.choose(say("Go on with this"))
        terminal.until(
            say.seen("Which disks are for guests alone? Everything on them will be lost.") + r"[\s\S]*sdz"
        )
        terminal.choose("sda,")
        terminal.until(r"\[x\] sda,")
        terminal.choose("sdb,")
        seen["guests-disks"] = terminal.until(r"\[x\] sdb,")
        terminal.choose(say("Go on with this"))
        terminal.until(say.seen("Which file system?"))
        terminal.choose("btrfs")
        seen["storage-of-guests"] = terminal.until(say.seen("What shall guests' disks lie on?"))
        terminal.type(ENTER)
        terminal.until(say.seen("Where may memory go when it runs short?"))
        terminal.type(ENTER)
        seen["several"] = terminal.until(say.seen("Is this right? Nothing is written yet."))
        terminal.choose(say("No, choose again"))
        terminal.until(say.seen("How shall the disks be used?"))
        terminal.choose(say("array: many disks, which stand in for each other"))
        terminal.until(say.seen("Which disks? Everything on them will be lost.") + r"[\s\S]*sdz")
        terminal.choose("sda,")
        terminal.until(r"\[x\] sda,")
        terminal.choose("sdb,")
        terminal.until(r"\[x\] sdb,")
        terminal.choose(say("Go on with this"))
        terminal.until(say.seen("Which file system?"))
        terminal.choose("xfs")
        seen["when-disks-fail"] = terminal.until(say.seen("How many disks may fail?"))
        terminal.type(ENTER)
        seen["volumes"] = terminal.until(say.seen("Shall LVM divide the space?"))
        terminal.type(ENTER)
        terminal.until(say.seen("Where may memory go when it runs short?"))
        terminal.choose(say("a partition: slower, but adds to the memory"))
        seen["hibernation"] = terminal.until(say.seen("May the host hibernate?"))
        terminal.type(ENTER)
        terminal.until(say.seen("Is this right? Nothing is written yet."))
        terminal.type(ENTER)
        seen["finer-points"] = terminal.until(say.seen("Set fields by their names?"))
        terminal.choose("hooks, webhooks")
        terminal.until(r"\[ \] webhooks")
        terminal.choose("webhooks")
        seen["fields"] = terminal.until(r"\[x\] webhooks")
        terminal.choose(say("Go on with this"))
        terminal.until("webhooks =")
        terminal.type("nowhere", ENTER)
        seen["field-refused"] = terminal.until(r"webhooks[\s\S]*webhooks = nowhere")
    return seen


def kept_several() -> dict[str, str]:
    """The same from the repository."""
    return {path.stem.partition("-")[2]: path.read_text() for path in sorted((GOLDEN / "several").glob("*"))}


def golden(language: str) -> Path:
    """The folder of a language's screens."""
    return GOLDEN if language == ENGLISH else GOLDEN / language


def committed(language: str = "en") -> dict[str, str]:
    """The same from the repository; of other languages than English a few."""
    return {path.stem.partition("-")[2]: path.read_text() for path in sorted(golden(language).glob("*.txt"))}


def main() -> int:
    """Write them."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for language in LANGUAGES:
        folder = golden(language)
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, text) in enumerate(screens(language).items(), start=1):
            if language == ENGLISH or name in PROOF:
                path = folder / f"{number:02}-{name}.txt"
                path.write_text(text)
                print(path.relative_to(REPOSITORY))
    (GOLDEN / "several").mkdir()
    for number, (name, text) in enumerate(several().items(), start=1):
        (GOLDEN / "several" / f"{number:02}-{name}.txt").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
