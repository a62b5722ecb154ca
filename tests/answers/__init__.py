"""Answer files with what is to be said of them: `good/` loads, `bad/` fails with the text in the `.txt` beside it.

`python -m tests.answers` writes the texts anew, to be read before they are committed.
"""

from pathlib import Path

from installer.answers.load import load
from installer.errors import HyperError

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
GOOD = sorted((FOLDER / "good").iterdir())
BAD = sorted(path for path in (FOLDER / "bad").iterdir() if path.suffix != ".txt")
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def told(path: Path) -> str:
    """The error that a file gives, with its exit code; empty if it gives none."""
    try:
        load(path.read_bytes(), path.name)
    except HyperError as error:
        return f"{error}\n\nexit code {error.code:d} ({error.code.name})\n"
    return ""
