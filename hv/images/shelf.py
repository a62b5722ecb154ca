"""Images of the broker: brought there as whole qcow2 files or ISO media, made ready under one's own account."""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from hv.client import Client, ProblemError, checked, passing
from hv.firstrun.world import Programs
from hv.images.convert import convert, format_of
from installer.download import Progress
from installer.errors import Exit, HyperError

RETURN = 60.0
"""Seconds that sending goes on without one byte more being taken."""
SENDING = 600.0
"""Seconds that a piece may wait to be taken."""
AGAIN = ("offset", "sending", "silence", "timeout")
"""Kinds of refusals after which it is asked anew how much is there."""


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
    pool: str = "default"
    """The storage pool that it goes into."""


@dataclass(frozen=True)
class Way:
    """How it is brought."""

    programs: Programs
    progress: Progress
    """Told of the bytes that are sent."""
    wait: bool = True
    """For the end of the operation; else its row is the answer, when all is sent."""
    again: bool = False
    """An image of that name with the same content will do: it was brought before something was cut off."""
    say: Callable[[str], None] = lambda _text: None
    """Told of what takes time and sends nothing; of nothing when that is over."""
    quiet: bool = False
    """Nothing is shown of how far the operation is."""


def bring(client: Client, disk: tuple[Path, str], label: Label, way: Way) -> dict[str, Any]:
    """Convert a file, which is of a format (`iso` goes as it is) and send it; what the broker made of it. Raises HyperError.

    What was sent of the same file before, and was cut off, is gone on with.
    """
    file, kind = disk
    if kind == "iso":
        with file.open("rb") as stream:
            return send(client, stream, label, "iso", way)
    with (
        tempfile.TemporaryDirectory(prefix="hv-image-", dir=_roomy(file)) as folder,
        _told(way, f"{file.name} is made a whole qcow2 file"),
    ):
        stream = convert(file, kind, Path(folder, "image.qcow2"), way.programs).path.open("rb")
    # Its name is gone already: what is killed while it sends leaves no copy of a disk behind.
    with stream:
        return send(client, stream, label, "image", way)


@contextmanager
def _told(way: Way, text: str) -> Iterator[None]:
    """Say what is done, and when that is over; what is printed after it has a line of its own."""
    way.say(text)
    try:
        yield
    finally:
        way.say("")


def _roomy(file: Path) -> str | None:
    """Where a copy of a disk may go for a moment: beside it if that can be, since /tmp is often memory."""
    return str(file.parent) if os.access(file.parent, os.W_OK) else None


def send(client: Client, stream: BufferedReader, label: Label, kind: str, way: Way) -> dict[str, Any]:
    """Send a file that is as the broker takes it (`image` or `iso`); what it made of it. Raises HyperError."""
    with _told(way, "its SHA-256 is taken"):
        size, sha256 = os.fstat(stream.fileno()).st_size, hashlib.file_digest(stream, "sha256").hexdigest()
    if way.again and (there := known(client).get(label.name, {})).get("sha256") == sha256:
        return {key: there[key] for key in ("name", "size", "sha256")}
    given = _announced(label, kind, (size, sha256))
    # Sent twice, it is the same operation.
    operation = client.ask_patiently("POST", "/1/images", given)["operation"]
    try:
        with _told(way, ""):
            _pour(client, f"/1/uploads/{operation['id']}", (stream, size), way.progress)
    except KeyboardInterrupt as error:
        if type(error) is not KeyboardInterrupt:
            raise  # it waits for the rest; see installer.execute.interrupts
        operation = client.ask("DELETE", f"/1/operations/{operation['id']}")["operation"]
    if not way.wait:
        return {"operation": operation["id"]}
    return client.wait(operation, quiet=way.quiet)


def _announced(label: Label, kind: str, content: tuple[int, str]) -> dict[str, Any]:
    """What the broker is told of an image before a byte of it comes; `content`: length and SHA-256."""
    return {
        "name": label.name,
        "kind": kind,
        "length": content[0],
        "sha256": content[1],
        "os": label.os,
        "pool": label.pool,
        "source": _line(label.source),
        "public": label.public,
    }


def _line(text: str) -> str:
    """What is told to people, in one line that the broker takes."""
    return "".join(char if char.isprintable() else "?" for char in text)[:500]


def _pour(client: Client, where: str, file: tuple[BufferedReader, int], progress: Progress) -> None:
    """Send what is not there yet, until all is; broker and libvirt may be started anew meanwhile. Raises HyperError."""
    stream, size = file
    most, end = -1, time.monotonic() + RETURN
    while True:
        try:
            there: int = client.ask("GET", where)["received"]
            if there > most:
                most, end = there, time.monotonic() + RETURN
            if there == size:
                return
            stream.seek(there)
            told = _Told(stream, size, progress, there)
            offset = {"Upload-Offset": str(there)}
            answer = client.open("PATCH", where, None, offset, stream=(told, size - there), patience=SENDING)
            try:
                checked(answer)
            finally:
                answer.close()
        except HyperError as error:
            kind = error.kind if isinstance(error, ProblemError) else ""
            if kind == "no-such-upload":
                return  # the operation has ended, and says why
            if not (passing(error) or kind in AGAIN) or time.monotonic() > end:
                raise
            time.sleep(0.2)


class _Told:
    """A file that tells how far it was read."""

    def __init__(self, stream: Any, size: int, progress: Progress, there: int) -> None:
        self._stream, self._size, self._progress, self._there = stream, size, progress, there

    def read(self, count: int) -> bytes:
        """The next bytes."""
        piece: bytes = self._stream.read(count)
        self._there += len(piece)
        if piece:
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


def require_welcome(client: Client, label: Label) -> None:
    """HyperError if the broker would not take it whatever is in it: before a long download, not after it."""
    if label.name in known(client):
        raise HyperError(
            f"There is an image {label.name} already.",
            why="names of images are everybody's",
            remedy=f"Use it (`hv vm create NAME --image {label.name}`), name another (--name), or "
            f"`hv image delete {label.name}`.",
            code=Exit.busy,
        )
    # Its length is not known yet; the least that one can have says the rest.
    client.ask("POST", "/1/images?dry_run=1", _announced(label, "image", (1, "0" * 64)))
