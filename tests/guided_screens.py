"""The guided installer's screens of 80x24, as they stand on a real terminal.

`python -m tests.guided_screens` writes them to tests/golden/guided; a test compares.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.terminal import ENTER, Terminal

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = REPOSITORY / "tests/golden/guided"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT alice"


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


def environment() -> dict[str, str]:
    """Of the program on the terminal."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def walk(terminal: Terminal, language: str = "English") -> Iterator[tuple[str, str]]:
    """Through everything once: each screen's name, and the screen."""
    yield "language", terminal.until("Sprache")
    terminal.choose(language)
    yield "level", terminal.until("How much shall be explained")
    terminal.choose("Some")
    yield "keyboard", terminal.until("Which keyboard")
    terminal.choose("(us)")
    yield "network", terminal.until("get its addresses")
    terminal.choose("fixed, on a bridge")
    yield "port", terminal.until("Which port")
    terminal.choose("enp4s0")
    yield "address", terminal.until("Address with prefix")
    terminal.type(ENTER)
    yield "gateway", terminal.until("Gateway:")
    terminal.type("192.0.3.1", ENTER)
    yield "gateway-refused", terminal.until("not in the network")
    terminal.type(*["\x08"] * 9, "192.0.2.1", ENTER)
    terminal.until("Name servers")
    terminal.type(ENTER)
    yield "layout", terminal.until("disks be used")
    terminal.choose("one disk")
    yield "disk", terminal.until("Which disk")
    terminal.choose("sdz")
    yield "disk-refused", terminal.until("installer itself")
    terminal.choose("Close")
    terminal.until("Which disk")
    terminal.choose("nvme1n1")
    yield "filesystem", terminal.until("Which file system")
    terminal.choose("Explain")
    yield "explained", terminal.until("In the answer file")
    terminal.choose("Close")
    terminal.until("Which file system")
    terminal.choose("btrfs")
    terminal.until("Where may memory go")
    terminal.choose("zram")
    yield "before-and-after", terminal.until("Is this right")
    terminal.choose("Yes")
    yield "encryption", terminal.until("Encrypt the disks")
    terminal.choose("Yes")
    terminal.until("Passphrase:")
    terminal.type("short", ENTER)
    yield "passphrase-refused", terminal.until("shorter than 8")
    terminal.type("correct horse", ENTER)
    terminal.until("The same again")
    terminal.type("correct horse", ENTER)
    yield "name", terminal.until("Name:")
    terminal.type(ENTER)
    terminal.until("Time zone:")
    terminal.type(*["\x08"] * 3, "Berlin", ENTER)
    yield "time-zone-refused", terminal.until("Europe/Berlin")
    terminal.type(*["\x08"] * 6, "Europe/Berlin", ENTER)
    yield "administrator", terminal.until("Login name:")
    terminal.type("alice", ENTER)
    yield "password", terminal.until("Password of alice")
    terminal.type(ENTER)
    yield "keys", terminal.until("Where is a key")
    terminal.choose("paste")
    terminal.until("Key:")
    terminal.type(KEY, ENTER)
    yield "keys-taken", terminal.until("Another key")
    terminal.choose("no more")
    yield "people", terminal.until("somebody else")
    terminal.choose("No, that is all")
    yield "tier", terminal.until("How much host")
    terminal.choose("standard")
    yield "features", terminal.until("host be able to do")
    terminal.choose("Go on with this")
    yield "devices", terminal.until("host leave to guests")
    terminal.choose("Go on with this")
    terminal.until("Which guests")
    terminal.choose("router")
    yield "guests", terminal.until(r"\[x\] router")
    terminal.choose("Go on with this")
    terminal.until("Memory of router")
    terminal.choose("1GiB")
    yield "phase", terminal.until("first boot end")
    terminal.choose("hardened:")
    yield "profile", terminal.until("How far")
    terminal.choose("balanced")
    yield "review", terminal.until("Change something")


def screens() -> dict[str, str]:
    """All of them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Terminal(command(Path(folder) / "answers.toml"), environment()) as terminal,
    ):
        return dict(walk(terminal))


def committed() -> dict[str, str]:
    """The same from the repository."""
    return {path.stem.partition("-")[2]: path.read_text() for path in sorted(GOLDEN.glob("*.txt"))}


def main() -> int:
    """Write them."""
    fresh = screens()
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    for number, (name, text) in enumerate(fresh.items(), start=1):
        path = GOLDEN / f"{number:02}-{name}.txt"
        path.write_text(text)
        print(path.relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
