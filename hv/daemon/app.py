"""The broker's interface: HTTP with JSON on a unix socket.

Reading answers at once. What changes something is an operation: 202 with the operation, which is waited for by its id.
`?dry_run=1` tells what would be done instead. `If-Match` with the `ETag` of a guest refuses when somebody changed it
since. Errors are problems (RFC 9457) with what, why and what to do.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import sqlalchemy as sql
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hv.daemon import copies, guests, images, making, peer, plugging, screens, sizes, views
from hv.daemon.broker import (
    Broker,
    accepted,
    body_of,
    caller_of,
    etag,
    owner_name,
    quick_json,
    shown,
    takes,
)
from hv.daemon.limits import Use
from hv.daemon.operations import Action
from hv.daemon.problems import RefusedError, Status, problem
from hv.daemon.roles import Caller, Permission, decide
from hv.daemon.store import AUDIT, OPERATIONS, VMS
from hv.daemon.virt import translated
from hv.daemon.volumes import going, let_go
from hv.vm.spec import VmSpec
from installer import VERSION
from installer.errors import HyperError

LONGEST_WAIT = 60.0
"""Seconds that one request waits for an operation; who wants to wait longer asks again."""
SWEEP = 5.0
"""Seconds between looks at what is left to be removed."""
log = logging.getLogger("hvd")


def make_app(broker: Broker) -> FastAPI:
    """The application."""

    async def tidy() -> None:
        """Forget what libvirt no longer has."""
        for name in await broker.apart(
            "looking for VMs that are gone", lambda at: making.reconcile(at, broker.store)
        ):
            log.info("%s is gone from libvirt, and forgotten; its disks are kept", name)

    async def sweep() -> None:
        """Remove, again and again, what libvirt could not when it was to be removed."""
        while True:
            let_go(broker.store)
            if going(broker.store):
                with contextlib.suppress(HyperError):
                    await broker.apart("removing volumes", broker.sweep)
            await asyncio.sleep(SWEEP)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        broker.operations.resume(peer.caller)
        watch = asyncio.create_task(broker.operations.watch())
        sweeping = asyncio.create_task(sweep())
        # libvirt may be starting still: then the first who needs it sees to it.
        with contextlib.suppress(HyperError):
            await tidy()
        yield
        watch.cancel()
        sweeping.cancel()

    app = FastAPI(
        title="hvd",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/1/openapi.json",
    )

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        if isinstance(error, broker.libvirt.module.libvirtError):
            error = translated(error, "That")
        elif not isinstance(error, HyperError):
            log.error("unexpected", exc_info=error)
        content = problem(error)
        return JSONResponse(content, content["status"], media_type="application/problem+json")

    app.add_exception_handler(HyperError, failed)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        return await failed(
            request,
            RefusedError(
                "no-such-route",
                Status.missing if error.status_code == 404 else Status.bad,
                "hvd does not know that request.",
                why=f"{request.method} {request.url.path}: {error.detail}",
                remedy="Perhaps this hv and hvd are of different releases: see `hv --version`.",
            ),
        )

    @app.get("/1")
    async def about(request: Request) -> Response:
        caller = caller_of(request)
        return quick_json(
            {
                "api": 1,
                "version": VERSION,
                "you": {
                    "uid": caller.uid,
                    "name": caller.name,
                    "roles": [
                        {
                            "name": role.name,
                            "reach": "all" if role.everybodys else "own",
                            "permissions": sorted(role.permissions),
                        }
                        for role in caller.roles
                    ],
                },
            }
        )

    @app.get("/1/vms")
    async def list_vms(request: Request) -> Response:
        caller = caller_of(request)
        if not caller.roles:
            broker.require(caller, Permission.list, None, "the VMs")
        rows = await broker.look("listing VMs", lambda connection: guests.listing(connection, broker.store))
        sees_all = any(role.everybodys for role in caller.roles)
        names: dict[int, str] = {}
        rows = [row for row in rows if sees_all or row["owner"] == caller.uid]
        for row in rows:
            row["owner"] = owner_name(row["owner"], names)
        return quick_json({"version": 1, "vms": rows})

    @app.get("/1/vms/{name}")
    async def show_vm(request: Request, name: str) -> Response:
        caller = caller_of(request)
        ref = await broker.find(name)
        broker.require(caller, Permission.show, ref.owner, ref.name)
        row = await broker.look(
            f"looking at {ref.name}", lambda connection: guests.details(connection, broker.store, ref)
        )
        tag = etag(row)
        return quick_json({"version": 1, **row, "owner": owner_name(row["owner"], {})}, ETag=tag)

    async def require_unchanged(request: Request, ref: guests.Ref) -> None:
        wanted = request.headers.get("if-match")
        if wanted is None:
            return
        row = await broker.look(
            f"looking at {ref.name}", lambda connection: guests.details(connection, broker.store, ref)
        )
        if etag(row) != wanted:
            raise RefusedError(
                "changed",
                Status.changed,
                f"{ref.name} was changed by somebody else.",
                why="it is no longer as it was when you looked",
                remedy=f"Look again (`hv vm show '{ref.name}'`), then decide anew.",
            )

    async def planned(action: Action, row: dict[str, Any], caller: Caller) -> list[str]:
        return await broker.apart(
            f"planning {action.kind}",
            lambda connection: action.plan(broker.operations.work(action, row, caller, connection)),
        )

    @app.post("/1/vms", openapi_extra=takes(VmSpec))
    async def create_vm(request: Request) -> Response:
        caller = caller_of(request)
        given: VmSpec = await body_of(request, VmSpec)
        broker.require(caller, Permission.create, None, f"a new VM {given.name}")
        try:
            ref = await broker.find(given.name)
        except RefusedError as error:
            if error.kind != "no-such-vm":
                raise
        else:
            key = request.headers.get("idempotency-key")
            same = (OPERATIONS.c.actor == caller.uid, OPERATIONS.c.key == key)
            if key is None or broker.store.row(sql.select(OPERATIONS.c.id).where(*same)) is None:
                raise _taken(given.name, ref.owner == caller.uid)
        action = making.CREATE
        uuid = str(uuid4())
        row = broker.operations.row(
            action, given, caller, (uuid, given.name), request.headers.get("idempotency-key")
        )
        if request.query_params.get("dry_run"):
            return quick_json({"version": 1, "plan": await planned(action, row, caller)})
        await planned(action, row, caller)
        volumes = making.disk_rows(broker.store, given, uuid, caller)
        called = sql.select(VMS.c.uuid).where(VMS.c.name == given.name)
        if broker.store.row(called) is not None:
            await tidy()
        named = broker.store.row(called)
        if named is not None and row["key"] is None:
            raise _taken(given.name, own=True)
        row = broker.operations.begin(
            action,
            row,
            caller,
            room=(caller.uid, making.use_of(given, volumes, here=uuid)),
            first=making.kept_with(given, volumes, row, caller),
        )
        return accepted(row)

    async def act(request: Request, name: str, action: Action) -> Response:
        caller = caller_of(request)
        given = await body_of(request, action.model)
        ref = await broker.find(name)
        broker.require(caller, action.permission, ref.owner, ref.name)
        if action.also is not None:
            broker.require(caller, action.also, ref.owner, ref.name)
        await require_unchanged(request, ref)
        row = broker.operations.row(
            action, given, caller, (ref.uuid, ref.name), request.headers.get("idempotency-key")
        )
        if request.query_params.get("dry_run"):
            return quick_json({"version": 1, "plan": await planned(action, row, caller)})
        cuts_in = action.kind == "stop" and given.force
        if not cuts_in:
            await planned(action, row, caller)
        room, first = await extra(action, row, caller, ref)
        return accepted(
            broker.operations.begin(action, row, caller, room=room, first=first, cuts_in=cuts_in)
        )

    async def extra(
        action: Action, row: dict[str, Any], caller: Caller, ref: guests.Ref
    ) -> tuple[tuple[int, Use] | None, tuple[Any, ...]]:
        """What an action takes of somebody's limits, and what is kept at the same moment."""
        owner = caller.uid if ref.owner is None else ref.owner

        def work(connection: Any) -> tuple[tuple[int, Use] | None, tuple[Any, ...]]:
            this = broker.operations.work(action, row, caller, connection)
            match action.kind:
                case "resize":
                    return (owner, sizes.room_for_resize(this)), ()
                case "attach":
                    statements, more = plugging.kept_with_attach(this)
                    return ((owner, more) if more else None), statements
                case "clone":
                    statements, more = copies.kept_with_clone(this)
                    return (caller.uid, more), statements
            return None, ()

        if action.kind not in ("resize", "attach", "clone"):
            return None, ()
        return await broker.apart(f"preparing {action.kind}", work)

    def route(action: Action) -> None:
        async def handler(request: Request, name: str) -> Response:
            return await act(request, name, action)

        app.add_api_route(
            f"/1/vms/{{name}}/{action.kind}",
            handler,
            methods=["POST"],
            name=action.kind,
            openapi_extra=takes(action.model),
        )

    for action in broker.actions.values():
        if action not in (making.CREATE, broker.uploads.action):
            route(action)

    @app.get("/1/operations")
    async def list_operations(request: Request) -> Response:
        caller = caller_of(request)
        query = sql.select(OPERATIONS).order_by(OPERATIONS.c.created.desc()).limit(200)
        if not decide(caller, Permission.history, None, "operations").allowed:
            query = query.where(OPERATIONS.c.actor == caller.uid)
        return quick_json({"version": 1, "operations": [shown(row) for row in broker.store.rows(query)]})

    def own_operation(caller: Caller, identifier: str, permission: Permission) -> dict[str, Any]:
        row = broker.operations.get(identifier)
        if row["actor"] != caller.uid:
            broker.require(
                caller, permission, row["actor"], f"operation {identifier} of {row['actor_name']}"
            )
        return row

    @app.get("/1/operations/{identifier}")
    async def show_operation(request: Request, identifier: str, wait: float = 0) -> Response:
        own_operation(caller_of(request), identifier, Permission.show)
        row = await broker.operations.wait(identifier, max(0.0, min(wait, LONGEST_WAIT)))
        return quick_json({"operation": shown(row)})

    @app.delete("/1/operations/{identifier}")
    async def cancel_operation(request: Request, identifier: str) -> Response:
        row = own_operation(caller_of(request), identifier, Permission.delete)
        if request.query_params.get("dry_run"):
            return quick_json({"operation": shown(row)})
        broker.operations.cancel(identifier)
        row = await broker.operations.wait(identifier, 5)
        return quick_json({"operation": shown(row)})

    @app.get("/1/can-i")
    async def can_i(request: Request) -> Response:
        caller = caller_of(request)
        asked = request.query_params
        who = caller
        if asked.get("as") and asked["as"] != caller.name:
            broker.require(caller, Permission.roles, None, "the roles of others")
            who = peer.named(asked["as"])
        verb, target = asked.get("verb", ""), asked.get("object", "")
        permission = permission_of(broker.actions, verb)
        owner, shown_as = None, "the host"
        if target and permission is not Permission.create:
            ref = await broker.find(target)
            owner, shown_as = ref.owner, ref.name
        decision = decide(who, permission, owner, shown_as)
        return quick_json(
            {
                "version": 1,
                "allowed": decision.allowed,
                "who": who.name,
                "permission": str(permission),
                "object": shown_as,
                "why": decision.why,
                "remedy": decision.remedy,
            }
        )

    @app.get("/1/audit")
    async def audit(request: Request, limit: int = 100) -> Response:
        caller = caller_of(request)
        broker.require(caller, Permission.history, None, "the audit trail")
        query = sql.select(AUDIT).order_by(AUDIT.c.number.desc()).limit(max(1, min(limit, 10_000)))
        rows = broker.store.rows(query)[::-1]
        broken = await broker.calls.run("checking the trail", broker.store.broken, 60)
        return quick_json({"version": 1, "whole": broken is None, "broken_at": broken, "rows": rows})

    views.add(app, broker)
    screens.add(app, broker)
    images.add(app, broker)
    return app


def permission_of(actions: dict[str, Action], verb: str) -> Permission:
    """The permission that a verb needs: a permission's own name, or a command of `hv vm`. Raises Refused."""
    if verb in actions:
        return actions[verb].permission
    if verb in set(Permission):
        return Permission(verb)
    other = {
        "stats": Permission.statistics,
        "logs": Permission.show,
        "screen": Permission.console,
        "clone": Permission.create,
        "import": Permission.create,
        "apply": Permission.create,
        "export": Permission.backup,
        "publish": Permission.pools,
    }
    if verb in other:
        return other[verb]
    words = ", ".join(sorted({*map(str, Permission), *actions, *other}))
    raise RefusedError(
        "invalid",
        Status.invalid,
        f"{verb!r} is nothing that one can do.",
        why=f"known are: {words}",
        remedy="Name one of these.",
    )


def _taken(name: str, own: bool) -> RefusedError:
    return RefusedError(
        "exists",
        Status.conflict,
        f"There is a VM {name!r} already.",
        why="it is yours" if own else "it is somebody else's",
        remedy="Choose another name, or delete that one.",
    )
