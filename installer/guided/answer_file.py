"""The answer file that a conversation comes to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from installer.execute.files import write_file
from installer.guided.words import _

MODE = 0o600


def text(raw: Mapping[str, Any]) -> str:
    """As TOML, in the order of the model."""
    head = _(
        "Answers given to the guided installer. Use the file again: hv install --answers FILE.\n"
        "Secrets are not in it; it names the files that hold them, or has hashes."
    )
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    return f"{comment}\n{tomli_w.dumps(dict(raw))}"


def write(raw: Mapping[str, Any], path: Path) -> Path:
    """Write it; a file that is there already is kept beside it."""
    if path.exists():
        number = 1
        while (kept := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
            number += 1
        path.rename(kept)
    write_file(path.absolute(), text(raw).encode(), MODE)
    return path
