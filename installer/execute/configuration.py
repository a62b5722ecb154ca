"""The rendered configuration and the hand-off record: written to the target, and read back."""

import os
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.evidence import Evidence, ensure
from installer.execute.files import write_file
from installer.handoff import Handoff
from installer.render import RenderedHost

_MODE = 0o644


def write_configuration(folder: Path, rendered: RenderedHost) -> None:
    """Write every rendered file; what else is in the folder stays.

    Raises:
        HyperError: a file's name leads out of the folder, or nothing can be written there.
    """
    for name, text in rendered.files.items():
        path = folder / name
        if os.path.normpath(path) != str(path) or not path.is_relative_to(folder):
            raise HyperError(
                f"{name!r} is no file of the configuration",
                why=f"it lies outside {folder}",
                remedy="this is a fault of rendering: report it",
            )
        try:
            write_file(path, text.encode(), _MODE)
        except OSError as error:
            raise HyperError(
                f"{path} cannot be written",
                why=str(error.strerror),
                remedy="name a folder that can be written to",
                code=Exit.step,
            ) from error


def require_empty_place(folder: Path, rendered: RenderedHost) -> None:
    """Raise where a file of somebody's own would be written over; the same text may be written again."""
    taken = [
        str(folder / name)
        for name, text in rendered.files.items()
        if (folder / name).exists() and (folder / name).read_bytes() != text.encode()
    ]
    if taken:
        raise HyperError(
            f"a configuration in {folder} is not written over",
            why=f"it has other texts: {', '.join(taken)}",
            remedy="name an empty folder, and compare",
            code=Exit.step,
        )


def check_configuration(folder: Path, rendered: RenderedHost) -> Evidence:
    """Each file has the rendered text."""
    for name, text in rendered.files.items():
        path = folder / name
        ensure(path.is_file(), str(path), "no such file")
        ensure(path.read_bytes() == text.encode(), f"{path} as rendered", "another text")
    return (f"{folder}: {', '.join(sorted(rendered.files))}",)


def write_handoff(path: Path, handoff: Handoff) -> None:
    """Write the hand-off record."""
    write_file(path, handoff.model_dump_json(indent=2).encode() + b"\n", _MODE)


def check_handoff(path: Path, handoff: Handoff) -> Evidence:
    """The record reads back equal."""
    ensure(path.is_file(), str(path), "no such file")
    ensure(Handoff.model_validate_json(path.read_bytes()) == handoff, f"{path} as planned", "another record")
    return (f"{path} reads back equal",)
