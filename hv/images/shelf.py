"""Images of the broker: brought there as whole qcow2 files or ISO media, made ready under one's own account."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hv.client import Client, checked, quoted
from hv.firstrun.world import Programs
from hv.images.convert import convert, format_of
from installer.download import Progress
from installer.errors import Exit, HyperError


@dataclass(frozen=True)
class Label:
    """What an image is known by."""

    name: str
    """As `--image` names it."""
    os: str = "generic"
    """libosinfo's id."""
    source: str = ""
    """Where it came from, for people."""
    public: bool = False
    """For everybody; administrators may."""


def bring(
    client: Client, disk: tuple[Path, str], label: Label, programs: Programs, progress: Progress
) -> dict[str, Any]:
    """Convert a file, which is of a format (`iso` goes as it is) and send it; what the broker made of it. Raises HyperError."""
    file, kind = disk
    if kind == "iso":
        return _send(client, file, label, "iso", progress)
    with tempfile.TemporaryDirectory(prefix="hv-image-", dir=_roomy(file)) as folder:
        made = convert(file, kind, Path(folder, "image.qcow2"), programs)
        return _send(client, made.path, label, "image", progress)


def _roomy(file: Path) -> str | None:
    """Where a copy of a disk may go for a moment: beside it if that can be, since /tmp is often memory."""
    return str(file.parent) if os.access(file.parent, os.W_OK) else None


def _send(client: Client, file: Path, label: Label, kind: str, progress: Progress) -> dict[str, Any]:
    size = file.stat().st_size
    query = f"?kind={kind}&os={quoted(label.os)}&public={int(label.public)}&source={quoted(label.source)}"
    with file.open("rb") as stream:
        answer = client.open(
            "PUT",
            f"/1/images/{quoted(label.name)}{query}",
            stream=(_Told(stream, size, progress), size),
            patience=None,
        )
        try:
            return checked(answer)
        finally:
            answer.close()


class _Told:
    """A file that tells how far it was read."""

    def __init__(self, stream: Any, size: int, progress: Progress) -> None:
        self._stream, self._size, self._progress, self._there = stream, size, progress, 0

    def read(self, count: int) -> bytes:
        """The next bytes."""
        piece: bytes = self._stream.read(count)
        self._there += len(piece)
        self._progress(self._there, self._size)
        return piece


def kind_of(file: Path) -> str:
    """`iso`, or a disk's format by the name of its file. Raises HyperError."""
    return "iso" if file.suffix.lower() == ".iso" else format_of(file)


def known(client: Client) -> dict[str, dict[str, Any]]:
    """Images that the caller may use, by name."""
    return {row["name"]: row for row in client.ask("GET", "/1/images")["images"]}


def require_known(client: Client, name: str) -> None:
    """HyperError unless there is an image of that name."""
    if name not in known(client):
        raise HyperError(
            f"There is no image {name!r}.",
            why=f"there are {', '.join(known(client)) or 'none'}",
            remedy="See `hv image list`.",
            code=Exit.selection,
        )


def require_free(client: Client, name: str) -> None:
    """HyperError if there is an image of that name: before a long download, not after it."""
    if name in known(client):
        raise HyperError(
            f"There is an image {name} already.",
            why="names of images are everybody's",
            remedy=f"Use it (`hv vm create NAME --image {name}`), name another (--name), or `hv image delete {name}`.",
            code=Exit.busy,
        )
