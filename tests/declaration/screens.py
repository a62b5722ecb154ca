"""`hv setup` on a terminal of 80x24. `python -m tests.declaration.screens` writes its screens to tests/golden/setup; a test
compares.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.declaration.host import REPOSITORY, environment, lay_down
from tests.guided_screens import KEY
from tests.terminal import ENTER, Display, Terminal

GOLDEN = REPOSITORY / "tests/golden/setup"
ERASE = "\x08"


def command(root: Path, *more: str) -> list[str]:
    """A dry run on a recorded machine."""
    record = str(REPOSITORY / "tests/machines/workstation")
    words = ("setup", "--root", str(root), "--dry-run", "--machine", record, *more)
    return [sys.executable, "-m", "hv", *words]


def walk(terminal: Display) -> Iterator[tuple[str, str]]:
    """Through pages and refusals, to the difference."""
    yield "host", terminal.until("Leave; nothing of the host changes")
    terminal.choose("Show what would change")
    yield "nothing-yet", terminal.until(r"is as it was[\s\S]*Close")
    terminal.choose("Close")
    terminal.until("Leave; nothing")
    terminal.choose("SSH server")
    yield "ssh", terminal.until(r"enable\?[\s\S]*Explain")
    terminal.choose("yes")
    terminal.until("port:")
    terminal.type(*[ERASE] * 2, "70000", ENTER)
    yield "port-refused", terminal.until(r"too large[\s\S]*port:")
    terminal.type(*[ERASE] * 5, "2222", ENTER)
    terminal.until(r"password login\?[\s\S]*Explain")
    terminal.choose("no")
    terminal.until("Leave; nothing")
    terminal.choose("People")
    yield "people", terminal.until(r"Who\?[\s\S]*Explain")
    terminal.choose("anna (administrator)")
    yield "person", terminal.until(r"What of anna\?[\s\S]*Explain")
    terminal.choose("no administrator any more")
    terminal.until(r"Who\?[\s\S]*Explain")
    terminal.choose("that is all")
    yield "locked-out", terminal.until(r"nobody could log in[\s\S]*Go on")
    terminal.choose("Go on")
    terminal.until(r"Who\?[\s\S]*Explain")
    terminal.choose("anna")
    terminal.until(r"What of anna\?[\s\S]*Explain")
    terminal.choose("make an administrator")
    terminal.until(r"Who\?[\s\S]*Explain")
    terminal.choose("another person")
    terminal.until("Login name:")
    terminal.type("bert", ENTER)
    terminal.until(r"May bert administrate[\s\S]*Explain")
    terminal.choose("No")
    terminal.until("Password of bert:")
    terminal.type(ENTER)
    terminal.until(r"Where is a key\?[\s\S]*Explain")
    terminal.choose("paste or type it")
    terminal.until("(?m)^ Key:")
    terminal.type(KEY, ENTER)
    terminal.until(r"Another key\?[\s\S]*Explain")
    terminal.choose("no more keys")
    terminal.until(r"Who\?[\s\S]*bert[\s\S]*Explain")
    terminal.choose("that is all")
    yield "changed", terminal.until(r"Changed, and not in force[\s\S]*Leave; nothing")
    terminal.choose("Tier and features")
    yield "tier", terminal.until(r"How much host\?[\s\S]*Explain")
    terminal.choose("standard")
    yield "features", terminal.until(r"What shall the host be able to do\?[\s\S]*Explain")
    terminal.choose("Go on with this")
    terminal.until("Leave; nothing")
    terminal.choose("Network")
    yield "network", terminal.until(r"Set the addresses anew\?[\s\S]*Explain")
    terminal.choose("no, leave them")
    terminal.until("dns:")
    terminal.type("192.0.2.53", ENTER)
    terminal.until("ntp:")
    terminal.type(ENTER)
    terminal.until("proxy:")
    terminal.type(ENTER)
    terminal.until("Leave; nothing")
    terminal.choose("Show what would change")
    yield "difference", terminal.until(r"Declaration:[\s\S]*(More|Close)")
    terminal.choose("Close")
    terminal.until("Leave; nothing")
    terminal.choose("Leave; nothing")
    terminal.until("Nothing of the host was changed")


def screens() -> dict[str, str]:
    """All of them."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        lay_down(root)
        with Terminal(command(root), environment(Path(folder))) as terminal:
            return dict(walk(terminal))


def committed() -> dict[str, str]:
    """The same from the repository."""
    return {path.stem.partition("-")[2]: path.read_text() for path in sorted(GOLDEN.glob("*.txt"))}


def main() -> int:
    """Write them."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    for number, (name, text) in enumerate(screens().items(), start=1):
        (GOLDEN / f"{number:02}-{name}.txt").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
