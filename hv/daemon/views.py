"""What is looked at rather than done: statistics, logs, screen, console, disks, pools, networks."""

import asyncio
import json
import threading
import time
from typing import Any
from uuid import uuid4

import sqlalchemy as sql
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from hv.daemon import guests, snapshots
from hv.daemon.broker import Broker, caller_of, owner_name, quick_json
from hv.daemon.hostd import ask
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Caller, Permission
from hv.daemon.store import VOLUMES
from hv.daemon.virt import translated
from hv.daemon.volumes import GOING, remembered, volume_of
from hv.libvirt_python import libvirt_module
from hv.vm.domain import parsed

PIECES = 32
"""Pieces of 256 KiB that wait for a slow reader."""
MOST_CONSOLES = 64
"""Consoles that are open at once."""
LINGER = 2.0
"""Seconds that a console stays open at least: QEMU looks once a second whether somebody has opened its end (pty), and
what was typed and left before that would be lost."""
PICTURE = 64 << 20
"""Bytes of a screen's picture."""


def add(app: FastAPI, broker: Broker) -> None:
    """The routes."""

    @app.get("/1/vms/{name}/stats")
    async def stats(request: Request, name: str) -> Response:
        caller: Caller = caller_of(request)
        ref = await broker.find(name)
        broker.require(caller, Permission.statistics, ref.owner, ref.name)

        def look(connection: Any) -> dict[str, Any]:
            libvirt = libvirt_module()
            domain = guests.domain_of(connection, ref.uuid)
            nowait = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
            flags = nowait if not connection.getURI().startswith("test:") else 0
            found = connection.domainListGetStats([domain], 0, flags)
            return dict(found[0][1]) if found else {}

        values = await broker.look(f"measuring {ref.name}", look)
        # Without these libvirt could not ask QEMU, which was busy or hangs.
        runs = values.get("state.state") not in (
            libvirt_module().VIR_DOMAIN_SHUTOFF,
            libvirt_module().VIR_DOMAIN_CRASHED,
        )
        partly = runs and "block.0.rd.reqs" not in values and values.get("block.count") != 0
        return quick_json(
            {"version": 1, "name": ref.name, "time": time.time(), "partly": partly, "values": values}
        )

    @app.get("/1/vms/{name}/logs")
    async def logs(request: Request, name: str, lines: int = 200, what: str = "console") -> Response:
        caller: Caller = caller_of(request)
        ref = await broker.find(name)
        broker.require(
            caller, Permission.console if what == "console" else Permission.show, ref.owner, ref.name
        )
        verb = {"console": "console-log", "qemu": "qemu-log"}.get(what)
        if verb is None:
            raise RefusedError(
                "invalid",
                Status.invalid,
                "There is no such log.",
                why=f"{what!r} is none",
                remedy="Take console or qemu.",
            )

        asked = {"verb": verb, "uuid": ref.uuid, "lines": max(1, min(lines, 100_000))}
        if verb == "qemu-log":
            asked["name"] = ref.name
        answer = await broker.calls.run(f"reading the log of {ref.name}", lambda: ask(broker.hostd, asked))
        return quick_json(
            {"version": 1, "name": ref.name, "log": what, "text": answer["text"], "exists": answer["exists"]}
        )

    @app.get("/1/vms/{name}/screen")
    async def screen(request: Request, name: str) -> Response:
        caller: Caller = caller_of(request)
        ref = await broker.find(name)
        broker.require(caller, Permission.console, ref.owner, ref.name)

        def take(connection: Any) -> tuple[str, bytes]:
            domain = guests.domain_of(connection, ref.uuid)
            stream = connection.newStream(0)
            kind = domain.screenshot(stream, 0, 0)
            data = b""
            while piece := stream.recv(256 * 1024):
                data += piece
                if len(data) > PICTURE:
                    stream.abort()
                    raise RefusedError(
                        "too-large",
                        Status.too_large,
                        "The picture is too large.",
                        why=f"more than {PICTURE} bytes",
                        remedy="Choose a smaller resolution in the guest.",
                    )
            stream.finish()
            return kind, data

        kind, data = await broker.apart(f"photographing {ref.name}", take)
        return Response(data, media_type=kind)

    @app.get("/1/vms/{name}/snapshots")
    async def list_snapshots(request: Request, name: str) -> Response:
        caller: Caller = caller_of(request)
        ref = await broker.find(name)
        broker.require(caller, Permission.show, ref.owner, ref.name)
        rows = await broker.look(
            f"looking at {ref.name}", lambda connection: snapshots.listed(connection, ref.uuid)
        )
        return quick_json({"version": 1, "name": ref.name, "snapshots": rows})

    @app.delete("/1/volumes/{pool}/{volume}")
    async def delete_volume(request: Request, pool: str, volume: str) -> Response:
        caller: Caller = caller_of(request)
        row = remembered(broker.store, pool, volume)
        broker.require(caller, Permission.delete, row["owner"], f"the disk {volume}")
        if row["vm"] is not None or row["kind"] not in ("disk", GOING):
            raise RefusedError(
                "in-use",
                Status.conflict,
                f"The disk {volume} is in use.",
                why=f"the VM {row['vm']} has it" if row["vm"] else f"it is of kind {row['kind']}",
                remedy="Unplug it first: `hv vm detach NAME --disk TARGET`.",
            )
        if request.query_params.get("dry_run"):
            return quick_json(
                {"version": 1, "plan": [f"disk {pool}/{volume} is deleted with everything in it"]}
            )
        it = sql.update(VOLUMES).where(
            VOLUMES.c.pool == pool, VOLUMES.c.name == volume, VOLUMES.c.vm.is_(None)
        )
        if broker.store.write(it.values(kind=GOING)):
            try:
                await broker.take_away("deleting the disk", pool, volume)
            except BaseException:
                broker.store.write(it.values(kind="disk"))  # so that it is seen, and deleted once more
                raise
        broker.store.audit(
            {
                "actor": caller.uid,
                "actor_name": caller.name,
                "action": "disk-delete",
                "target": volume[:64],
                "outcome": "succeeded",
                "detail": pool,
            }
        )
        return quick_json({"version": 1, "name": f"{pool}/{volume}"})

    @app.get("/1/volumes/{pool}/{volume}/content")
    async def export(request: Request, pool: str, volume: str) -> Response:
        caller: Caller = caller_of(request)
        row = remembered(broker.store, pool, volume)
        broker.require(caller, Permission.backup, row["owner"], f"the disk {volume}")
        if row["vm"] is not None:
            found = await broker.find(row["vm"])
            state = await broker.look(
                "looking at it", lambda connection: guests.state_of(guests.domain_of(connection, found.uuid))
            )
            if state not in ("stopped", "crashed"):
                raise RefusedError(
                    "runs",
                    Status.conflict,
                    f"{found.name} is {state}.",
                    why="a disk that is being written to cannot be copied as it is",
                    remedy=f"`hv vm stop '{found.name}'` first.",
                )
        return await download(broker, row, caller)

    @app.get("/1/volumes")
    async def volumes(request: Request) -> Response:
        caller: Caller = caller_of(request)
        if not caller.roles:
            broker.require(caller, Permission.list, None, "the disks")
        query = sql.select(VOLUMES).where(VOLUMES.c.kind == "disk")
        if not any(role.everybodys for role in caller.roles):
            query = query.where(VOLUMES.c.owner == caller.uid)
        rows = broker.store.rows(query)
        known = await broker.look("listing VMs", lambda connection: guests.listing(connection, broker.store))
        names = {row["uuid"]: row["name"] for row in known}
        cache: dict[int, str] = {}
        for row in rows:
            row["vm"] = names.get(row["vm"], row["vm"])
            row["owner"] = owner_name(row["owner"], cache)
        return quick_json({"version": 1, "volumes": rows})

    @app.get("/1/pools")
    async def pools(request: Request) -> Response:
        caller: Caller = caller_of(request)
        if not caller.roles:
            broker.require(caller, Permission.list, None, "the pools")

        def look(connection: Any) -> list[dict[str, Any]]:
            found = []
            for pool in connection.listAllStoragePools(0):
                _, capacity, _, free = pool.info()
                kind = parsed(pool.XMLDesc(0)).get("type")
                found.append(
                    {
                        "name": pool.name(),
                        "kind": kind,
                        "running": bool(pool.isActive()),
                        "capacity": capacity,
                        "free": free,
                    }
                )
            return sorted(found, key=lambda row: str(row["name"]))

        return quick_json({"version": 1, "pools": await broker.look("listing pools", look)})

    @app.get("/1/networks")
    async def networks(request: Request) -> Response:
        caller: Caller = caller_of(request)
        if not caller.roles:
            broker.require(caller, Permission.list, None, "the networks")

        def look(connection: Any) -> list[dict[str, Any]]:
            found = []
            for network in connection.listAllNetworks(0):
                forward = parsed(network.XMLDesc(0)).find("forward")
                mode = "isolated" if forward is None else forward.get("mode", "nat")
                found.append(
                    {
                        "name": network.name(),
                        "mode": mode,
                        "running": bool(network.isActive()),
                        "autostart": bool(network.autostart()),
                    }
                )
            return sorted(found, key=lambda row: str(row["name"]))

        return quick_json({"version": 1, "networks": await broker.look("listing networks", look)})

    consoles: dict[str, Console] = {}

    @app.get("/1/vms/{name}/console")
    async def console(request: Request, name: str, take: int = 0) -> Response:
        caller: Caller = caller_of(request)
        ref = await broker.find(name)
        broker.require(caller, Permission.console, ref.owner, ref.name)
        if len(consoles) >= MOST_CONSOLES:
            raise RefusedError(
                "too-many",
                Status.limit,
                "Too many consoles are open.",
                why=f"{MOST_CONSOLES} are the most",
                remedy="Close one.",
            )
        opened = Console(caller.uid, asyncio.get_running_loop())
        await broker.calls.run(
            f"opening the console of {ref.name}", lambda: opened.open(broker.libvirt, ref, force=bool(take))
        )
        session = str(uuid4())
        consoles[session] = opened
        broker.store.audit(
            {
                "actor": caller.uid,
                "actor_name": caller.name,
                "action": "console",
                "target": ref.name,
                "outcome": "opened",
                "detail": session,
            }
        )

        async def pieces() -> Any:
            try:
                while (piece := await opened.pieces.get()) is not None:
                    yield piece
            finally:
                consoles.pop(session, None)
                # It waits for libvirt, and nobody waits for it.
                threading.Thread(target=opened.close, daemon=True).start()

        return StreamingResponse(
            pieces(), media_type="application/octet-stream", headers={"Console": session}
        )

    @app.post("/1/consoles/{session}")
    async def typed(request: Request, session: str) -> Response:
        caller: Caller = caller_of(request)
        opened = consoles.get(session)
        if opened is None or opened.owner != caller.uid:
            raise RefusedError(
                "no-such-console",
                Status.missing,
                "That console is closed.",
                why="it ended, or it is not yours",
                remedy="Open it again: `hv vm console NAME`.",
            )
        data = await request.body()
        await broker.calls.run("typing", lambda: opened.send(data[:65536]))
        return Response(json.dumps({}), media_type="application/json")


async def download(broker: Broker, row: dict[str, Any], caller: Caller) -> Response:
    """A volume's bytes, as its pool has them."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=PIECES)
    gone = threading.Event()

    def size(connection: Any) -> int:
        return volume_of(connection, row["pool"], row["name"])[0].info()[2]  # type: ignore[no-any-return]

    def send() -> None:
        try:
            with broker.libvirt.connected() as connection:
                volume, _ = volume_of(connection, row["pool"], row["name"])
                stream = connection.newStream(0)
                volume.download(stream, 0, 0, 0)
                while (piece := stream.recv(256 * 1024)) and not gone.is_set():
                    asyncio.run_coroutine_threadsafe(pieces.put(piece), loop).result()
                (stream.abort if gone.is_set() else stream.finish)()
        finally:
            asyncio.run_coroutine_threadsafe(pieces.put(None), loop)

    def record(outcome: str) -> None:
        broker.store.audit(
            {
                "actor": caller.uid,
                "actor_name": caller.name,
                "action": "export",
                "target": row["name"][:64],
                "outcome": outcome,
                "detail": row["pool"],
            }
        )

    await broker.look("looking at the disk", size)
    task = asyncio.create_task(broker.calls.run("reading the disk", send, 6 * 3600))

    async def body() -> Any:
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await task
            record("succeeded")
        finally:
            gone.set()

    return StreamingResponse(
        body(), media_type="application/octet-stream", headers={"Size": str(row["size"])}
    )


class Console:
    """A guest's serial line."""

    def __init__(self, owner: int, loop: asyncio.AbstractEventLoop) -> None:
        self.owner = owner
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._loop = loop
        self._connection: Any = None
        self._stream: Any = None
        self._opened = 0.0

    def open(self, libvirt: Any, ref: guests.Ref, *, force: bool) -> None:
        """Connect to it. Raises RefusedError: it does not run, or somebody else has it."""
        module = libvirt.module
        self._connection = libvirt.open()
        domain = guests.domain_of(self._connection, ref.uuid)
        if not domain.isActive():
            self._connection.close()
            raise RefusedError(
                "does-not-run",
                Status.conflict,
                f"{ref.name} does not run.",
                why="only a running VM has a console",
                remedy=f"`hv vm start '{ref.name}'`; what it wrote before: `hv vm logs '{ref.name}'`.",
            )
        flags = module.VIR_DOMAIN_CONSOLE_FORCE if force else module.VIR_DOMAIN_CONSOLE_SAFE
        end = time.monotonic() + LINGER + 1
        while True:
            self._stream = self._connection.newStream(module.VIR_STREAM_NONBLOCK)
            try:
                domain.openConsole(None, self._stream, flags)
                break
            except module.libvirtError as error:
                taken = "Active console" in str(error)
                if taken and time.monotonic() < end:  # perhaps somebody is just leaving
                    time.sleep(0.1)
                    continue
                self._connection.close()
                if taken:
                    raise RefusedError(
                        "console-taken",
                        Status.conflict,
                        f"Somebody else has the console of {ref.name}.",
                        why=str(error),
                        remedy=f"Wait, or take it from them: `hv vm console '{ref.name}' --take`.",
                    ) from error
                raise translated(error, f"opening the console of {ref.name}") from error
        self._opened = time.monotonic()
        events = (
            module.VIR_STREAM_EVENT_READABLE | module.VIR_STREAM_EVENT_HANGUP | module.VIR_STREAM_EVENT_ERROR
        )
        self._stream.eventAddCallback(events, self._readable, None)

    def _readable(self, stream: Any, _events: int, _: object) -> None:
        module = libvirt_module()
        try:
            piece = stream.recv(65536)
        except module.libvirtError:
            piece = b""
        if piece == -2:  # nothing yet
            return
        if not piece:
            try:
                stream.eventRemoveCallback()
            except module.libvirtError:
                piece = b""
            self._loop.call_soon_threadsafe(self.pieces.put_nowait, None)
            return
        self._loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

    def send(self, data: bytes) -> None:
        """Type into it."""
        end = time.monotonic() + 5
        while data and time.monotonic() < end:
            sent = self._stream.send(data)
            if sent == -2:
                time.sleep(0.01)
                continue
            data = data[sent:]

    def close(self) -> None:
        """Let go of it, when what was typed has gone through."""
        module = libvirt_module()
        time.sleep(max(0.0, self._opened + LINGER - time.monotonic()))
        for end in (self._stream.eventRemoveCallback, self._stream.finish, self._connection.close):
            try:
                end()
            except module.libvirtError:
                continue
