"""Guests' screens for ordinary viewers: VNC and SPICE, carried over one request, both ways at once.

A screen has no password, and its address is libvirt's alone (a socket that only QEMU's account opens). So the broker
asks libvirt for a connection of its own (virDomainOpenGraphicsFD) for somebody who may see it, and passes bytes on: the
body of the request to QEMU, QEMU's to the body of the answer. Both are chunked and end with the connection. It looks at
nothing in them: RFB and SPICE are between the viewer and QEMU.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, Request, Response

from hv.daemon import guests
from hv.daemon.broker import Broker, caller_of, quick_json
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Caller, Permission
from hv.vm.domain import parsed

KINDS = ("vnc", "spice")
PIECE = 1 << 16
"""Bytes passed on at once."""
MOST = 32
"""Connections that one person has at once; a viewer of SPICE opens six or seven."""
MOST_OF_ALL = 256
LINGER = 5.0
"""Seconds that QEMU has to read the last of what a viewer that left has said."""
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def add(app: FastAPI, broker: Broker) -> None:
    """The routes."""
    opened: Counter[int] = Counter()

    async def allowed(request: Request, name: str, kind: str) -> tuple[Caller, guests.Ref, int]:
        """Who asks, for which guest, and which of its screens. Raises RefusedError."""
        caller: Caller = caller_of(request)
        ref = await broker.find(name)
        broker.require(caller, Permission.console, ref.owner, ref.name)

        def look(connection: Any) -> tuple[bool, list[str]]:
            domain = guests.domain_of(connection, ref.uuid)
            return bool(domain.isActive()), kinds_in(domain.XMLDesc(0))

        runs, kinds = await broker.look(f"looking at {ref.name}", look)
        if kind not in KINDS or kind not in kinds:
            raise RefusedError(
                "no-such-screen",
                Status.missing,
                f"{ref.name} has no screen by {kind.upper()[:16]}.",
                why=f"it has: {', '.join(each.upper() for each in kinds) or 'none'}",
                remedy=f"Take `hv vm screen '{ref.name}' --{kinds[0]}`."
                if set(kinds) & set(KINDS)
                else f"It has a serial line: `hv vm console '{ref.name}'`.",
            )
        if not runs:
            raise RefusedError(
                "does-not-run",
                Status.conflict,
                f"{ref.name} does not run.",
                why="only a running VM has a screen",
                remedy=f"`hv vm start '{ref.name}'`.",
            )
        return caller, ref, kinds.index(kind)

    @app.get("/1/vms/{name}/screen/{kind}")
    async def screen_kind(request: Request, name: str, kind: str) -> Response:
        """Whether it could be opened."""
        _, ref, _ = await allowed(request, name, kind)
        return quick_json({"version": 1, "name": ref.name, "kind": kind})

    @app.post("/1/vms/{name}/screen/{kind}")
    async def open_screen(request: Request, name: str, kind: str) -> Response:
        """Opens it: what is sent goes to QEMU, and what QEMU says comes back, until either ends."""
        caller, ref, number = await allowed(request, name, kind)
        if opened[caller.uid] >= MOST or opened.total() >= MOST_OF_ALL:
            raise RefusedError(
                "too-many",
                Status.limit,
                "Too many screens are open.",
                why=f"{MOST} connections to screens are the most for one person, {MOST_OF_ALL} for all together",
                remedy="Close a viewer.",
            )
        opened[caller.uid] += 1
        try:
            there = await graphics(broker, ref, number)
        except BaseException:
            opened[caller.uid] -= 1
            raise
        began = time.monotonic()

        def record(outcome: str, detail: str) -> None:
            broker.store.audit(
                {
                    "actor": caller.uid,
                    "actor_name": caller.name,
                    "action": f"screen-{kind}",
                    "target": ref.name,
                    "outcome": outcome,
                    "detail": detail,
                }
            )

        def ended() -> None:
            opened[caller.uid] -= 1
            record("closed", f"{time.monotonic() - began:.0f} s")

        record("opened", "")
        return Stream(there, ended)


def kinds_in(xml: str) -> list[str]:
    """A definition's screens, in order: vnc, spice or what else libvirt knows."""
    return [each.get("type", "") for each in parsed(xml).iterfind("devices/graphics")]


async def graphics(broker: Broker, ref: guests.Ref, number: int) -> socket.socket:
    """A connection to a guest's screen, past its password if root gave it one: who may see it was asked before.

    Raises RefusedError; one that comes only after the deadline is closed again.
    """
    lock = threading.Lock()
    made: list[int] = []
    late = False

    def take(connection: Any) -> None:
        flags = broker.libvirt.module.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH
        descriptor = guests.domain_of(connection, ref.uuid).openGraphicsFD(number, flags)
        with lock:
            if late:
                socket.socket(fileno=descriptor).close()
            else:
                made.append(descriptor)

    try:
        await broker.apart(f"opening the screen of {ref.name}", take)
    except BaseException:
        with lock:
            late = True
            for descriptor in made:
                socket.socket(fileno=descriptor).close()
        raise
    there = socket.socket(fileno=made[0])
    there.setblocking(False)
    return there


class Stream(Response):
    """An answer that goes on while its request does."""

    media_type = "application/octet-stream"

    def __init__(self, there: socket.socket, ended: Callable[[], None]) -> None:
        super().__init__()
        self._there, self._ended = there, ended

    async def __call__(self, _scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Until the viewer or QEMU hangs up."""
        loop = asyncio.get_running_loop()

        async def to_guest() -> None:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return
                if message.get("body"):
                    await loop.sock_sendall(self._there, message["body"])
                if not message.get("more_body"):
                    return

        async def to_viewer() -> None:
            while piece := await loop.sock_recv(self._there, PIECE):
                await send({"type": "http.response.body", "body": piece, "more_body": True})

        try:
            head = [(b"content-type", self.media_type.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            ways = [asyncio.create_task(to_guest()), asyncio.create_task(to_viewer())]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                with contextlib.suppress(OSError):
                    # QEMU drops what it has not read when its peer is gone (vnc_client_io), so it is to hang up itself.
                    self._there.shutdown(socket.SHUT_WR)
                await asyncio.wait(ways[1:], timeout=LINGER)
            finally:
                for way in ways:
                    way.cancel()
                # A connection that breaks is how a viewer leaves.
                await asyncio.gather(*ways, return_exceptions=True)
            with contextlib.suppress(OSError, RuntimeError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._there.close()
            self._ended()
