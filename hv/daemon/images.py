"""Images: whole qcow2 disks and ISO media that guests are made from. They are brought by people, who convert them to
qcow2 under their own account; the broker looks at the head and passes the bytes on to libvirt.
"""

import asyncio
import queue
from typing import Any

import sqlalchemy as sql
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from hv.daemon.broker import Broker, accepted, body_of, caller_of, owner_name, quick_json, takes
from hv.daemon.limits import Use
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Caller, Permission
from hv.daemon.store import IMAGES, OPEN, OPERATIONS, VOLUMES
from hv.daemon.uploads import KIND, LONGEST, MOST, SILENCE, Sending, kept_with, no_upload, subject
from hv.daemon.volumes import GOING
from hv.vm.qcow2 import HEAD
from hv.vm.spec import NewImage

GOES_ON = ("libvirt-away", "timeout", "silence", "too-long", "too-short", "no-such-upload")
"""Kinds of errors after which sending can be gone on with: they say nothing against what was sent."""


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

    @app.post("/1/images", openapi_extra=takes(NewImage))
    async def announce(request: Request) -> Response:
        caller = caller_of(request)
        given: NewImage = await body_of(request, NewImage)
        broker.require(caller, Permission.create, None, f"a new image {given.name}")
        if given.public:
            broker.require(caller, Permission.pools, None, "an image for everybody")
        action = broker.uploads.action
        row = broker.operations.row(action, given, caller, (subject(given.name), given.name), None)
        there = broker.store.row(
            sql.select(OPERATIONS).where(OPERATIONS.c.status.in_(OPEN), OPERATIONS.c.uuid == row["uuid"])
        )
        if there is not None and there["actor"] == caller.uid and there["given"] == row["given"]:
            # Its sender was started anew.
            if request.query_params.get("dry_run"):
                return quick_json({"version": 1, "plan": [f"operation {there['id']} is gone on with"]})
            return accepted(there)
        plan = await broker.apart(
            "planning an image",
            lambda connection: action.plan(broker.operations.work(action, row, caller, connection)),
        )
        if request.query_params.get("dry_run"):
            return quick_json({"version": 1, "plan": plan})
        mine = sql.select(OPERATIONS.c.id).where(
            OPERATIONS.c.status.in_(OPEN), OPERATIONS.c.kind == KIND, OPERATIONS.c.actor == caller.uid
        )
        if (count := len(broker.store.rows(mine))) >= MOST:
            raise RefusedError(
                "limit",
                Status.limit,
                "You bring too many images at once.",
                why=f"{count} are on their way, and {MOST} may be",
                remedy="Wait for one of them, or cancel it: `hv vm operations`, `hv vm cancel ID`.",
            )
        return accepted(
            broker.operations.begin(
                action,
                row,
                caller,
                room=(caller.uid, Use(disk=given.length)),
                first=kept_with(row, given, caller),
            )
        )

    def upload_of(caller: Caller, identifier: str) -> tuple[dict[str, Any], NewImage]:
        """What is on its way, and only to whoever brings it. Raises RefusedError."""
        upload = broker.uploads.find(identifier)
        operation = broker.store.row(
            sql.select(OPERATIONS).where(OPERATIONS.c.status.in_(OPEN), OPERATIONS.c.id == identifier)
        )
        if upload is None or operation is None:
            raise no_upload()
        if operation["actor"] != caller.uid:
            target = f"the image {operation['target']}, which {operation['actor_name']} brings"
            broker.require(caller, Permission.create, operation["actor"], target)
            broker.deny(caller, Permission.create, target, "nobody sends into what somebody else brings")
        return upload, NewImage.model_validate_json(operation["given"])

    @app.get("/1/uploads/{identifier}")
    async def how_far(request: Request, identifier: str) -> Response:
        upload, given = upload_of(caller_of(request), identifier)
        return quick_json({"version": 1, "received": upload["received"], "length": given.length})

    @app.patch("/1/uploads/{identifier}")
    async def send(request: Request, identifier: str) -> Response:
        caller = caller_of(request)
        upload, given = upload_of(caller, identifier)
        there, length = upload["received"], given.length
        offset = request.headers.get("upload-offset", "")
        if not offset.isascii() or not offset.isdigit() or int(offset) != there:
            raise RefusedError(
                "offset",
                Status.conflict,
                "The image is not gone on with there.",
                why=f"{there} of its {length} bytes are here, and Upload-Offset is {offset[:20]!r}",
                remedy="Send from where it is.",
                received=there,
            )
        sending = broker.uploads.begin(upload, length)
        try:
            await _pass_on(broker, request, sending, (given, caller))
        except RefusedError as error:
            if error.kind not in GOES_ON:
                broker.uploads.refuse(identifier, error)
            raise
        found = broker.uploads.find(identifier)
        return quick_json(
            {"version": 1, "received": found["received"] if found else length, "length": length}
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


def _record(broker: Broker, caller: Caller, action: str, name: str) -> None:
    broker.store.audit(
        {
            "actor": caller.uid,
            "actor_name": caller.name,
            "action": action,
            "target": name,
            "outcome": "succeeded",
            "detail": "",
        }
    )


class _Coming:
    """A request's bytes, no more than were announced, and not waited for without end."""

    def __init__(self, request: Request, left: int) -> None:
        self._stream, self._left = request.stream().__aiter__(), left
        said = request.headers.get("content-length", "")
        if said.isdigit() and int(said) > left:
            raise self._too_long(int(said) - left)

    @staticmethod
    def _too_long(count: int) -> RefusedError:
        return RefusedError(
            "too-long",
            Status.too_large,
            "More was sent than was announced.",
            why=f"there are {count} bytes too many",
            remedy="Send what was announced.",
        )

    async def piece(self) -> bytes:
        """The next ones; empty: there are no more. Raises RefusedError."""
        try:
            piece: bytes = await asyncio.wait_for(anext(self._stream, b""), SILENCE)
        except ClientDisconnect as error:
            raise RefusedError(
                "silence",
                Status.timeout,
                "Who sent the image has hung up.",
                why="the connection was closed",
                remedy="Ask how much is there, and go on from it.",
            ) from error
        except TimeoutError as error:
            raise RefusedError(
                "silence",
                Status.timeout,
                "Nothing came any more.",
                why=f"there was not one byte for {SILENCE:.0f} s",
                remedy="Ask how much is there, and go on from it.",
            ) from error
        self._left -= len(piece)
        if self._left < 0:
            raise self._too_long(-self._left)
        return piece

    async def head(self, length: int) -> bytes:
        """So many at least. Raises RefusedError."""
        data = b""
        while len(data) < length:
            piece = await self.piece()
            if not piece:
                raise RefusedError(
                    "too-short",
                    Status.bad,
                    "The image's head did not come.",
                    why=f"the first request has {len(data)} bytes, and the head is looked at in {length}",
                    remedy="Send more of it at first.",
                )
            data += piece
        return data


async def _pass_on(
    broker: Broker, request: Request, sending: Sending, about: tuple[NewImage, Caller]
) -> None:
    """Send what comes to the volume. What was taken counts, however it ends."""
    given, caller = about
    there = sending.upload["received"]
    try:
        coming = _Coming(request, given.length - there)
        piece = await (coming.piece() if there else coming.head(min(HEAD, given.length)))
    except BaseException:
        broker.uploads.drop(sending)
        raise
    who = (caller, broker.settings)
    task = asyncio.create_task(
        broker.calls.run(
            "storing an image", lambda: broker.uploads.send(sending, given, who), LONGEST + given.wait
        )
    )

    def over(_: object) -> None:
        sending.stop.set()
        if not sending.started.is_set():
            broker.uploads.drop(sending)  # libvirt hangs altogether: there was no thread for it

    task.add_done_callback(over)
    try:
        while piece:
            await _put(sending, piece)
            piece = await coming.piece()
    finally:
        await _put(sending, None)
        await task  # what went wrong with it goes before what came of that


async def _put(sending: Sending, piece: bytes | None) -> None:
    """One more piece for its thread, None at the end."""
    while not (sending.ended.is_set() or sending.stop.is_set()):
        try:
            sending.pieces.put_nowait(piece)
            return
        except queue.Full:
            await asyncio.sleep(0.005)
    if piece is not None:
        raise no_upload()
