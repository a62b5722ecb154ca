"""The rendered hosts as files. `python -m tests.nixeval.hosts` writes them to tests/golden/hosts; a test compares."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.nixeval.cases import CASES, rendered
from tests.nixeval.nix import REPOSITORY

GOLDEN = REPOSITORY / "tests/golden/hosts"


def write(files: Mapping[str, str], directory: Path) -> Path:
    """Write a host's files below a folder, and return it."""
    for path, text in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return directory


def committed(name: str) -> dict[str, str]:
    """The golden files of a case."""
    folder = GOLDEN / name
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def main() -> int:
    """Write the golden files anew."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for name in CASES:
        print(write(rendered(name).files, GOLDEN / name).relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
