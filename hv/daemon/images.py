"""Images: whole qcow2 disks and ISO media that guests are made from. They are brought by people, who convert them to
qcow2 under their own account; the broker looks at the head and passes the bytes on to libvirt.
"""

import asyncio
import contextlib
import hashlib
import queue
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import sqlalchemy as sql
from fastapi import FastAPI, Request, Response

from hv.daemon.broker import Broker, caller_of, owner_name, quick_json
from hv.daemon.limits import Use, require_room
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Caller, Permission
from hv.daemon.store import IMAGES, VOLUMES
from hv.daemon.volumes import CHUNK, GOING, make, no_room, pool_of, volume_of
from hv.vm.names import simple_name
from hv.vm.qcow2 import HEAD, head
from installer.errors import HyperError

ISO_MAGIC = (0x8001, b"CD001")
"""Where an ISO 9660 says so (ECMA-119, 8.1)."""
LONGEST = 6 * 3600.0
"""Seconds that an upload may take."""


def look_at(kind: str, first: bytes) -> int | None:
    """The size that a guest will see (None: that of the file); RefusedError for what is not as said."""
    if kind == "iso":
        at, magic = ISO_MAGIC
        if first[:4] == b"QFI\xfb" or first[at : at + len(magic)] != magic:
            raise _unfit(
                "it is no ISO 9660 medium",
                "Name a medium; a disk is imported under the suffix of its format, e.g. .qcow2.",
            )
        return None
    try:
        return head(first).size
    except ValueError as error:
        raise _unfit(
            str(error),
            "Images are whole qcow2 files: `hv image import FILE` converts others, under your own account.",
        ) from error


def _unfit(why: str, remedy: str) -> RefusedError:
    return RefusedError("unfit-image", Status.invalid, "That image is not taken.", why=why, remedy=remedy)


class _Upload:
    """A volume's content on its way to libvirt: pieces go in, and a thread sends them."""

    def __init__(self, broker: Broker, pool: str, name: str, length: int) -> None:
        self._pieces: queue.Queue[bytes | None] = queue.Queue(maxsize=16)
        self._broker, self._pool, self._name, self._length = broker, pool, name, length
        self.error: Exception | None = None

    def send(self) -> None:
        """All pieces, until there are no more; runs on a thread of its own."""
        try:
            with self._broker.libvirt.connected() as connection:
                volume, _ = volume_of(connection, self._pool, self._name)
                stream = connection.newStream(0)
                volume.upload(stream, 0, self._length, 0)
                while (piece := self._pieces.get()) is not None:
                    view = memoryview(piece)
                    while view:
                        sent = stream.send(bytes(view[:CHUNK]))
                        view = view[sent:]
                stream.finish()
        except Exception as error:
            self.error = error
            raise
        finally:
            # Whoever still puts something in must not wait for ever.
            while not self._pieces.empty():
                self._pieces.get_nowait()

    async def put(self, piece: bytes | None) -> None:
        """One more piece, None at the end. Raises what the thread ended with."""
        while True:
            if self.error is not None:
                raise self.error
            try:
                self._pieces.put_nowait(piece)
                return
            except queue.Full:
                await asyncio.sleep(0.005)


def add(app: FastAPI, broker: Broker) -> None:
    """The routes."""

    @app.get("/1/images")
    async def images(request: Request) -> Response:
        caller = caller_of(request)
        if not caller.roles:
            broker.require(caller, Permission.list, None, "the images")
        rows = broker.store.rows(sql.select(IMAGES).order_by(IMAGES.c.name))
        admin = any(role.name == "admin" for role in caller.roles)
        names: dict[int, str] = {}
        shown = [row for row in rows if row["public"] or row["owner"] == caller.uid or admin]
        for row in shown:
            row["owner"] = owner_name(row["owner"], names)
        return quick_json({"version": 1, "images": shown})

    @app.put("/1/images/{name}")
    async def upload(request: Request, name: str) -> Response:
        caller = caller_of(request)
        broker.require(caller, Permission.create, None, f"a new image {name}")
        asked = request.query_params
        try:
            simple_name(name)
            system = simple_name(asked.get("os") or "generic")
            length = int(request.headers.get("content-length", ""))
        except ValueError as error:
            raise RefusedError(
                "invalid",
                Status.invalid,
                "The request is not right.",
                why=str(error),
                remedy="Choose another name.",
            ) from error
        public = asked.get("public") == "1"
        if public:
            broker.require(caller, Permission.pools, None, "an image for everybody")
        if broker.store.row(sql.select(IMAGES.c.name).where(IMAGES.c.name == name)):
            raise RefusedError(
                "exists",
                Status.conflict,
                f"There is an image {name} already.",
                why="names of images are everybody's",
                remedy="Choose another name, or delete that one.",
            )
        kind = "iso" if asked.get("kind") == "iso" else "image"
        return quick_json(
            await _take(
                broker,
                request,
                caller,
                {
                    "name": name,
                    "os": system,
                    "public": public,
                    "kind": kind,
                    "pool": simple_name(asked.get("pool") or "default"),
                    "source": str(asked.get("source", ""))[:500],
                },
                length,
            )
        )

    @app.delete("/1/images/{name}")
    async def delete(request: Request, name: str) -> Response:
        caller = caller_of(request)
        row = broker.store.row(sql.select(IMAGES).where(IMAGES.c.name == name))
        if row is None:
            raise RefusedError(
                "no-such-image",
                Status.missing,
                f"There is no image {name!r}.",
                why="hvd has none of that name",
                remedy="See `hv image list`.",
            )
        broker.require(caller, Permission.delete, row["owner"], f"the image {name}")
        where = (VOLUMES.c.image == name, VOLUMES.c.kind == "disk")
        using = broker.store.rows(sql.select(VOLUMES.c.name, VOLUMES.c.vm).where(*where))
        if using:
            raise RefusedError(
                "in-use",
                Status.conflict,
                f"Disks stand on the image {name}.",
                why=", ".join(each["name"] for each in using[:10]),
                remedy="Delete these disks first (`hv vm disks`); without the image they are lost.",
            )
        if request.query_params.get("dry_run"):
            return quick_json({"version": 1, "plan": [f"image {name} is deleted"]})
        # Nothing can be put on it once it is forgotten.
        it = sql.update(VOLUMES).where(VOLUMES.c.pool == row["pool"], VOLUMES.c.name == row["volume"])
        broker.store.write(sql.delete(IMAGES).where(IMAGES.c.name == name), it.values(kind=GOING))
        try:
            await broker.take_away("deleting the image", row["pool"], row["volume"])
        except BaseException:
            # It is seen again, and can be deleted once more.
            kind = "iso" if row["kind"] == "iso" else "image"
            broker.store.write(sql.insert(IMAGES).values(**row), it.values(kind=kind))
            raise
        _record(broker, caller, "image-delete", name)
        return quick_json({"version": 1, "name": name})

    @app.post("/1/images/{name}/publish")
    async def publish(request: Request, name: str) -> Response:
        caller = caller_of(request)
        broker.require(caller, Permission.pools, None, f"the image {name}")
        if not broker.store.write(sql.update(IMAGES).where(IMAGES.c.name == name).values(public=True)):
            raise RefusedError(
                "no-such-image",
                Status.missing,
                f"There is no image {name!r}.",
                why="hvd has none of that name",
                remedy="See `hv image list`.",
            )
        _record(broker, caller, "image-publish", name)
        return quick_json({"version": 1, "name": name})


def _record(
    broker: Broker, caller: Caller, action: str, name: str, *, failed: str = "", detail: str = ""
) -> None:
    broker.store.audit(
        {
            "actor": caller.uid,
            "actor_name": caller.name,
            "action": action,
            "target": name,
            "outcome": "failed" if failed else "succeeded",
            "detail": failed or detail,
        }
    )


async def _take(
    broker: Broker, request: Request, caller: Caller, about: dict[str, Any], length: int
) -> dict[str, Any]:
    """Receive it into a volume of its own; all or nothing."""
    stream = request.stream().__aiter__()
    first = b""
    async for piece in stream:
        first += piece
        if len(first) >= HEAD:
            break
    size = look_at(about["kind"], first) or length
    volume = f"{uuid4()}-image.{'iso' if about['kind'] == 'iso' else 'qcow2'}"
    row = {
        "pool": about["pool"],
        "name": volume,
        "vm": None,
        "owner": caller.uid,
        "kind": about["kind"],
        "size": size,
        "image": None,
    }
    with broker.store.writing() as connection:
        require_room(connection, broker.settings, caller, caller.uid, Use(disk=size))
        connection.execute(sql.insert(VOLUMES).values(**row))

    def prepare(connection: Any) -> None:
        pool, _ = pool_of(connection, about["pool"])
        if (free := pool.info()[3]) < length:
            raise no_room(about["pool"], free, length)
        # As plain bytes: libvirt must not make a header of its own.
        make(connection, row | {"size": length}, kind="raw")

    try:
        await broker.apart("making room for the image", prepare)
        digest = await _pass_on(broker, stream, first, (about["pool"], volume), length)
        known = {
            **about,
            "owner": caller.uid,
            "volume": volume,
            "size": size,
            "sha256": digest,
            "created": time.time(),
        }
        broker.store.write(sql.insert(IMAGES).values(**known))
    except BaseException as error:
        it = sql.update(VOLUMES).where(VOLUMES.c.pool == about["pool"], VOLUMES.c.name == volume)
        broker.store.write(it.values(kind=GOING))
        with contextlib.suppress(
            HyperError
        ):  # what went wrong first is told; the rest goes when libvirt is back
            await broker.take_away("taking the image away", about["pool"], volume)
        _record(
            broker, caller, "image-import", about["name"], failed=str(error)[:500] or type(error).__name__
        )
        raise
    _record(broker, caller, "image-import", about["name"], detail=digest)
    return {"version": 1, "name": about["name"], "size": size, "sha256": digest}


async def _pass_on(
    broker: Broker, stream: AsyncIterator[bytes], first: bytes, place: tuple[str, str], length: int
) -> str:
    """Send the bytes to the volume; their SHA-256."""
    sending = _Upload(broker, *place, length)
    task = asyncio.create_task(broker.calls.run("storing the image", sending.send, LONGEST))
    digest, count = hashlib.sha256(), 0
    try:
        piece = first
        while piece:
            digest.update(piece)
            count += len(piece)
            await sending.put(piece)
            piece = await anext(stream, b"")
        if count != length:
            raise _unfit(f"{count} of {length} bytes came", "Send it again.")
        await sending.put(None)
    except BaseException:
        if sending.error is None:
            await sending.put(None)
        task.cancel()
        raise
    await task
    return digest.hexdigest()
