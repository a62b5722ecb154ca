"""Fetches large files: gone on with where it stopped, kept for the next time, one at a time for each of them."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from installer.errors import Exit, HyperError
from installer.execute.files import write_file
from installer.web import TRANSIENT, Client, Place, RetryError

PIECE = 1 << 20
ROOM = 64 << 20
"""Bytes that must stay free beside the file."""
LARGEST = 256 << 30
"""Bytes of a file, whatever a server says."""

Progress = Callable[[int, int | None], None]
"""Told of the bytes that are there, and of all if that is known."""


def cache_folder() -> Path:
    """Where fetched images stay (XDG Base Directory Specification)."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(told) if told.startswith("/") else Path.home() / ".cache"
    return home / "hyper-nixos/images"


@dataclass(frozen=True)
class Cache:
    """Files by their address."""

    folder: Path
    """Holds a folder for each."""
    client: Client = field(default_factory=Client)
    """Reaches servers."""
    patience: float = 120.0
    """Seconds without one new byte before it is given up."""
    pause: float = 2.0
    """Seconds between tries."""

    def path(self, url: str) -> Path:
        """Where the whole file will be; its name is that in the address."""
        place = Place.parse(url)
        name = place.url.split("?")[0].rpartition("/")[2] or "index"
        return self.folder / hashlib.sha256(place.url.encode()).hexdigest()[:16] / name

    def begun(self, url: str) -> bool:
        """Whether a part of the file is here, to be gone on with."""
        path = self.path(url)
        return path.with_name(f".{path.name}.partial").exists()

    def forget(self, url: str) -> None:
        """Take the file away: it was not what it should be."""
        shutil.rmtree(self.path(url).parent, ignore_errors=True)

    def fetch(self, url: str, progress: Progress = lambda _there, _all: None) -> Path:
        """The whole file; at once if it was fetched before. Raises HyperError (Exit.fetch); what came so far stays."""
        path = self.path(url)
        with self._alone(path):
            if path.exists():
                return path
            _fetch(self, Place.parse(url), path, progress)
        return path

    def fetch_small(self, url: str) -> bytes:
        """A file that may have changed since: asked for anew each time. Raises HyperError."""
        place = Place.parse(url)
        reply = self.client.ask(place)
        if reply.status != 200:
            raise _gone(place, f"the server answers with HTTP state {reply.status}")
        return reply.body

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Whoever else fetches the same waits, and then finds it there."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with (path.parent / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise HyperError(
                f"Images cannot be kept in {self.folder}.",
                why=f"{error.filename or path}: {error.strerror or error}",
                remedy="Make room or give yourself the right to write there, or set XDG_CACHE_HOME to another folder.",
                code=Exit.failed,
            ) from error


def _fetch(cache: Cache, place: Place, path: Path, progress: Progress) -> None:
    partial, told = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.json")
    had, since = -1, time.monotonic()
    while True:
        there = partial.stat().st_size if partial.exists() else 0
        if there > had:
            had, since = there, time.monotonic()
        try:
            if _once(cache.client, place, partial, told, progress):
                break
            why = "it broke off"
        except RetryError as error:
            why = str(error)
        if time.monotonic() - since > cache.patience:
            raise _gone(place, f"{why}; nothing new came for {cache.patience:.0f} seconds")
        time.sleep(cache.pause)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)
    told.unlink(missing_ok=True)


def _once(client: Client, place: Place, partial: Path, told: Path, progress: Progress) -> bool:
    """One connection; whether the file is whole."""
    known = _state(told)
    there = partial.stat().st_size if partial.exists() and known.get("validator") else 0
    headers = {"Accept-Encoding": "identity"}
    if there:
        # Without If-Range a file that was replaced meanwhile would be continued with another's rest (RFC 9110, 13.1.5).
        headers |= {"Range": f"bytes={there}-", "If-Range": str(known["validator"])}
    with client.stream(place, headers) as reply:
        if reply.status in TRANSIENT:
            raise RetryError(f"it answers with HTTP state {reply.status}")
        if reply.status == 416 or (reply.status == 206 and _begin(reply) != there):
            partial.unlink()
            return False
        if reply.status not in (200, 206):
            raise _gone(place, f"the server answers with HTTP state {reply.status}")
        if reply.status == 200:
            there = 0
        length = reply.headers.get("Content-Length", "")
        total = there + int(length) if length.isdecimal() else None
        _require_room(partial.parent, place, total, there)
        try:
            write_file(told, json.dumps({"url": place.url, "validator": _validator(reply)}).encode(), 0o644)
            stream = partial.open("ab" if there else "wb")
        except OSError as error:
            raise _full(partial, error) from error
        with stream:
            progress(there, total)
            while piece := reply.read1(PIECE):
                there += len(piece)
                if there > LARGEST:
                    raise _gone(place, f"it sends more than {LARGEST >> 30} GiB")
                try:
                    stream.write(piece)
                    stream.flush()
                except OSError as error:
                    raise _full(partial, error) from error
                progress(there, total)
    return total is None or there == total


def _state(told: Path) -> dict[str, Any]:
    try:
        value = json.loads(told.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _validator(reply: urllib3.BaseHTTPResponse) -> str | None:
    """What tells this file from another at the same address: a strong ETag, else its date (RFC 9110, 8.8)."""
    tag = reply.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return reply.headers.get("Last-Modified")


def _begin(reply: urllib3.BaseHTTPResponse) -> int | None:
    """Where a part begins: `Content-Range: bytes 100-199/200`."""
    first = reply.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdecimal() else None


def _require_room(folder: Path, place: Place, total: int | None, there: int) -> None:
    if total is None:
        return
    if total > LARGEST:
        raise _gone(place, f"it has {total >> 30} GiB, more than the {LARGEST >> 30} that an image may have")
    free = shutil.disk_usage(folder).free
    if total - there + ROOM > free:
        raise HyperError(
            f"There is no room for {place}.",
            why=f"{(total - there + ROOM) >> 20} MiB are needed in {folder}, {free >> 20} MiB are free",
            remedy="Make room, or set XDG_CACHE_HOME to a folder with more; what was fetched is kept.",
            code=Exit.unsuitable,
        )


def _full(partial: Path, error: OSError) -> HyperError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return HyperError(
        "The disk is full." if full else f"{partial} cannot be written.",
        why=f"{partial}: {error.strerror or error}",
        remedy="Make room and run it again: it goes on where it stopped.",
        code=Exit.failed,
    )


def _gone(place: Place, why: str) -> HyperError:
    return HyperError(
        f"{place} cannot be fetched.",
        why=why,
        remedy="Run it again later: it goes on where it stopped. If it moved, name its new address; for a guest's image "
        "put a template with that into /etc/hyper-nixos/templates.",
        code=Exit.fetch,
    )
