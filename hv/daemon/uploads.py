"""Images on their way into a pool. The operation is there before the first byte, and ends when the image can be used.

The bytes are sent at an offset, by as many requests as it takes; what libvirt has taken for certain is written down, so
that broker, libvirt and sender may each be started anew in between. The head is looked at before a volume is made, nothing
that was taken is written over, and when all is there the volume is read back: it is an image only if its SHA-256 is the
one that was named.
"""

import hashlib
import queue
import threading
import time
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import sqlalchemy as sql

from hv.daemon.limits import Use, require_room, size
from hv.daemon.operations import Action, StoppedError, Work
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Caller, Permission
from hv.daemon.settings import Settings
from hv.daemon.store import IMAGES, OPERATIONS, UPLOADS, VOLUMES, Store
from hv.daemon.virt import Libvirt, in_words
from hv.daemon.volumes import CHUNK, GOING, STAGED, make, no_room, pool_of, refresh, removed, volume_of
from hv.libvirt_python import libvirt_module
from hv.vm.qcow2 import HEAD, head
from hv.vm.spec import NewImage
from installer.errors import HyperError

KIND = "image-import"
ISO_MAGIC = (0x8001, b"CD001")
"""Where an ISO 9660 says so (ECMA-119, 8.1)."""
LONGEST = 6 * 3600.0
"""Seconds that bringing an image may take, and as much more as its length asks for (NewImage.wait)."""
IDLE = 3600.0
"""Seconds that an operation waits for more bytes: long enough to start a sender anew, or its computer."""
SILENCE = 60.0
"""Seconds without one byte until a request that sends is ended; its sender may ask again."""
MOST = 8
"""Images that one person brings at once: each takes a thread."""
SEGMENT = 64 << 20
"""Bytes after which libvirt is asked to have them, and they count: so many are sent again at most."""
SEGMENT_SECONDS = 10.0
"""Seconds after which the same is asked of fewer."""
AWAY = 60.0
"""Seconds that libvirt may be away while an image is read back."""


def look_at(kind: str, first: bytes) -> int | None:
    """The size that a guest will see (None: that of the file); RefusedError for what is not as said."""
    if kind == "iso":
        at, magic = ISO_MAGIC
        if first[:4] == b"QFI\xfb" or first[at : at + len(magic)] != magic:
            raise unfit(
                "it is no ISO 9660 medium",
                "Name a medium; a disk is imported under the suffix of its format, e.g. .qcow2.",
            )
        return None
    try:
        return head(first).size
    except ValueError as error:
        raise unfit(
            str(error),
            "Images are whole qcow2 files: `hv image import FILE` converts others, under your own account.",
        ) from error


def unfit(why: str, remedy: str) -> RefusedError:
    """That something is no image."""
    return RefusedError("unfit-image", Status.invalid, "That image is not taken.", why=why, remedy=remedy)


def subject(name: str) -> str:
    """What stands for an image's name where operations have a guest's UUID: one name is brought once at a time."""
    return str(uuid5(NAMESPACE_URL, f"tag:hyper-nixos,2026:image:{name}"))


def volume_name(operation: str, kind: str) -> str:
    """Its volume's: nobody knows it beforehand, and it is the same after a restart."""
    return f"{operation}-image.{'iso' if kind == 'iso' else 'qcow2'}"


def kept_with(row: dict[str, Any], given: NewImage, caller: Caller) -> tuple[Any, ...]:
    """Statements that take name and room at the moment that an image is announced."""
    volume = volume_name(row["id"], given.kind)
    staged = {
        "pool": given.pool,
        "name": volume,
        "vm": None,
        "owner": caller.uid,
        "kind": STAGED,
        "size": given.length,
        "image": None,
    }
    upload = {
        "operation": row["id"],
        "pool": given.pool,
        "volume": volume,
        "received": 0,
        "changed": row["created"],
    }
    return sql.insert(VOLUMES).values(**staged), sql.insert(UPLOADS).values(**upload)


class Sending:
    """One request's bytes on their way to libvirt: pieces go in, and a thread sends them."""

    def __init__(self, upload: dict[str, Any], length: int) -> None:
        self.pieces: queue.Queue[bytes | None] = queue.Queue(maxsize=16)
        self.upload, self.length = upload, length
        self.started = threading.Event()
        """Set when its thread runs."""
        self.stop = threading.Event()
        """Set when it shall go no further."""
        self.ended = threading.Event()
        """Set when its thread writes nothing any more."""


class Uploads:
    """All of them."""

    def __init__(self, store: Store, libvirt: Libvirt) -> None:
        self._store, self._libvirt = store, libvirt
        self._sending: dict[str, Sending] = {}
        self._refused: dict[str, HyperError] = {}
        self._lock = threading.Lock()
        self.action = Action(KIND, Permission.create, NewImage, self.plan, self.run, LONGEST, self.undo)

    def find(self, identifier: str) -> dict[str, Any] | None:
        """An upload by its operation's id."""
        return self._store.row(sql.select(UPLOADS).where(UPLOADS.c.operation == identifier))

    # Sending.

    def begin(self, upload: dict[str, Any], length: int) -> Sending:
        """What takes a request's bytes; the thread that sends them is the caller's to start. RefusedError while another
        request's are on their way.
        """
        made = Sending(upload, length)
        with self._lock:
            if upload["operation"] in self._sending:
                raise RefusedError(
                    "sending",
                    Status.conflict,
                    "This image is being sent already.",
                    why="another request has not ended",
                    remedy="Wait for it to end, then ask how much is there.",
                )
            self._sending[upload["operation"]] = made
        return made

    def send(self, sending: Sending, given: NewImage, who: tuple[Caller, Settings]) -> None:
        """All pieces, until there are no more; runs on a thread of its own. The first one of an image has its head."""
        there: int = sending.upload["received"]
        sending.started.set()
        try:
            with self._libvirt.connected() as connection:
                first = self._next(sending) if there == 0 else None
                if first:
                    self._accept(sending, given, (first, *who), connection)
                in_words("storing the image", lambda: self._pour(sending, connection, there, first))
        finally:
            self.drop(sending)

    def drop(self, sending: Sending) -> None:
        """It writes nothing any more."""
        with self._lock:
            self._sending.pop(sending.upload["operation"], None)
        sending.ended.set()

    @staticmethod
    def _next(sending: Sending, seconds: float = SILENCE) -> bytes | None:
        """The next piece, empty when none came in that time; None: there is no more."""
        end = time.monotonic() + seconds
        while not sending.stop.is_set():
            try:
                return sending.pieces.get(timeout=min(0.5, max(0.01, end - time.monotonic())))
            except queue.Empty:
                if time.monotonic() > end:
                    return b""
        return None

    def _accept(
        self, sending: Sending, given: NewImage, what: tuple[bytes, Caller, Settings], connection: Any
    ) -> None:
        """Look at the head, then make room. Raises RefusedError."""
        first, caller, settings = what
        upload = sending.upload
        found = look_at(given.kind, first)
        here = (VOLUMES.c.pool == upload["pool"], VOLUMES.c.name == upload["volume"])
        if found is not None and found > given.length:
            with self._store.writing() as writing:
                has = writing.execute(sql.select(VOLUMES.c.size).where(*here)).scalar()
                require_room(writing, settings, caller, caller.uid, Use(disk=found - (has or 0)))
                writing.execute(sql.update(VOLUMES).where(*here).values(size=found))
        # As plain bytes: libvirt must not make a header of its own.
        volume = {"pool": upload["pool"], "name": upload["volume"], "size": given.length}
        in_words("making room for the image", lambda: make(connection, volume, kind="raw"))
        if self.find(upload["operation"]) is None:
            # It was cancelled meanwhile, and forgotten: what was made after that is remembered, to be removed.
            staged = {**volume, "vm": None, "owner": caller.uid, "kind": GOING, "image": None}
            self._store.write(sql.insert(VOLUMES).prefix_with("OR IGNORE").values(**staged))
            raise no_upload()

    def _pour(self, sending: Sending, connection: Any, there: int, first: bytes | None) -> None:
        piece = first or self._next(sending)
        while piece:
            volume, _ = volume_of(connection, sending.upload["pool"], sending.upload["volume"])
            stream = connection.newStream(0)
            volume.upload(stream, there, sending.length - there, 0)
            began, end = there, time.monotonic() + SEGMENT_SECONDS
            while piece:
                view = memoryview(piece)
                while view:
                    sent = stream.send(bytes(view[:CHUNK]))
                    view = view[sent:]
                there += len(piece)
                left = end - time.monotonic()
                if there - began >= SEGMENT or left <= 0:
                    break
                piece = self._next(sending, left)
            stream.finish()
            self._store.write(
                sql.update(UPLOADS)
                .where(UPLOADS.c.operation == sending.upload["operation"])
                .values(received=there, changed=time.time())
            )
            if piece is not None:
                piece = self._next(sending)

    def refuse(self, identifier: str, error: HyperError) -> None:
        """Let the operation end with what is wrong with what was sent."""
        self._refused[identifier] = error

    # The operation.

    def plan(self, work: Work) -> list[str]:
        """What would be done. Raises RefusedError where it cannot be."""
        given: NewImage = work.given
        if self._store.row(sql.select(IMAGES.c.name).where(IMAGES.c.name == given.name)):
            raise taken(given.name)
        pool, _ = pool_of(work.connection, given.pool)
        refresh(pool)  # else libvirt tells what was free when it looked last
        if (free := pool.info()[3]) < given.length:
            raise no_room(given.pool, free, given.length)
        whose = "everybody's" if given.public else "yours"
        return [
            f"{size(given.length)} go into the pool {given.pool}",
            f"they are read back and compared; then the image {given.name} ({given.os}) is {whose}",
        ]

    def run(self, work: Work) -> dict[str, Any]:
        """Wait for the bytes, read them back, and let them be an image."""
        given: NewImage = work.given
        volume = volume_name(work.id, given.kind)
        found = self._store.row(sql.select(IMAGES).where(IMAGES.c.volume == volume))
        if found is None:
            self._wait(work, given)
            guest_size = self._read_back(work, given, volume)
            found = self._register(work, given, volume, guest_size)
        return {key: found[key] for key in ("name", "size", "sha256")}

    def _wait(self, work: Work, given: NewImage) -> None:
        told = -1
        while True:
            upload = self.find(work.id)
            if upload is None:
                raise StoppedError  # it was ended from outside, and let go
            if (error := self._refused.pop(work.id, None)) is not None:
                raise error
            there, since = upload["received"], time.time() - upload["changed"]
            sent = work.id not in self._sending
            if there == given.length and sent:
                return
            if there != told:
                work.say(f"{size(there)} of {size(given.length)} are here", 80 * there / given.length)
                told = there
            if sent and since > IDLE:
                raise RefusedError(
                    "nobody-sends",
                    Status.timeout,
                    f"The image {given.name} did not come.",
                    why=f"{there} of {given.length} bytes are here, and no more came for {since / 60:.0f} minutes",
                    remedy="Bring it again.",
                )
            work.pause(0.1 if since < 10 else 1.0)

    def _read_back(self, work: Work, given: NewImage, volume: str) -> int:
        """Bytes that a guest will see, if what the pool has is what was meant."""
        end = time.monotonic() + AWAY
        while True:
            try:
                with self._libvirt.connected() as connection:
                    first, found = in_words(
                        "reading the image back",
                        lambda: self._read(work, connection, given, volume),
                    )
                break
            except RefusedError as error:
                if error.kind != "libvirt-away" or time.monotonic() > end:
                    raise
                work.say("libvirt is away; the image is read back when it answers", 80)
                work.pause(0.5)
        if found != given.sha256:
            raise RefusedError(
                "altered-image",
                Status.invalid,
                f"The image {given.name} is not what was announced.",
                why=f"its SHA-256 in the pool is {found}, and {given.sha256} was named",
                remedy="Bring it again; if that is said twice, see what changes the file, or the disk of the pool.",
            )
        return look_at(given.kind, first) or given.length

    @staticmethod
    def _read(work: Work, connection: Any, given: NewImage, volume: str) -> tuple[bytes, str]:
        """The head, and the SHA-256 of all."""
        stored, _ = volume_of(connection, given.pool, volume)
        stream = connection.newStream(0)
        stored.download(stream, 0, given.length, 0)
        digest, count, first, told = hashlib.sha256(), 0, b"", 0.0
        while piece := stream.recv(CHUNK):
            digest.update(piece)
            count += len(piece)
            if len(first) < HEAD:
                first += piece
            if time.monotonic() - told > 1:
                told = time.monotonic()
                work.say("reading it back", 80 + 19 * count / given.length)
            work.check()
        stream.finish()
        return first, digest.hexdigest()

    def _register(self, work: Work, given: NewImage, volume: str, guest_size: int) -> dict[str, Any]:
        row = {
            **given.model_dump(exclude={"length"}),
            "owner": work.caller.uid,
            "volume": volume,
            "size": guest_size,
            "created": time.time(),
        }
        with self._store.writing() as connection:
            # Whoever hung in libvirt until it was ended for that must not make an image after all.
            status = connection.execute(
                sql.select(OPERATIONS.c.status).where(OPERATIONS.c.id == work.id)
            ).scalar_one()
            if status != "running":
                raise StoppedError
            if connection.execute(sql.select(IMAGES.c.name).where(IMAGES.c.name == given.name)).first():
                raise taken(given.name)
            connection.execute(sql.insert(IMAGES).values(**row))
            connection.execute(
                sql.update(VOLUMES)
                .where(VOLUMES.c.pool == given.pool, VOLUMES.c.name == volume)
                .values(kind=given.kind, size=max(guest_size, given.length))
            )
            connection.execute(sql.delete(UPLOADS).where(UPLOADS.c.operation == work.id))
        return row

    def undo(self, work: Work) -> None:
        """As if nothing had come. What cannot be removed now, since libvirt is away, goes when it is back."""
        given: NewImage = work.given
        volume = volume_name(work.id, given.kind)
        here = (VOLUMES.c.pool == given.pool, VOLUMES.c.name == volume, VOLUMES.c.kind == STAGED)
        self._store.write(
            sql.delete(UPLOADS).where(UPLOADS.c.operation == work.id),
            sql.update(VOLUMES).where(*here).values(kind=GOING),
        )
        self._refused.pop(work.id, None)
        sending = self._sending.get(work.id)
        if sending is not None:
            sending.stop.set()
            sending.ended.wait(CANCEL_PATIENCE)
        try:
            with self._libvirt.connected() as connection:
                removed(connection, self._store, given.pool, volume)
        except (HyperError, libvirt_module().libvirtError):
            return


CANCEL_PATIENCE = 5.0
"""Seconds for a request that sends to notice that nobody wants it any more."""


def no_upload() -> RefusedError:
    """That nothing is on its way."""
    return RefusedError(
        "no-such-upload",
        Status.missing,
        "No image is on its way under that id.",
        why="its operation has ended, or there is none",
        remedy="See `hv vm operations`.",
    )


def taken(name: str) -> RefusedError:
    """That there is an image of that name."""
    return RefusedError(
        "exists",
        Status.conflict,
        f"There is an image {name} already.",
        why="names of images are everybody's",
        remedy="Choose another name, or delete that one.",
    )
