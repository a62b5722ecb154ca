"""What every route needs: who asks, what they sent, and the way to libvirt."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from fastapi import Request, Response
from pydantic import ValidationError

from hv.daemon import copies, guests, lifecycle, making, peer, plugging, sizes, snapshots
from hv.daemon.operations import Action, Operations
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Caller, Permission, decide
from hv.daemon.settings import Settings
from hv.daemon.store import Store
from hv.daemon.uploads import Uploads
from hv.daemon.virt import Calls, Libvirt, in_words
from hv.daemon.volumes import removed, sweep
from hv.vm.spec import Typed, told
from installer.errors import HyperError

T = TypeVar("T")
LARGEST = 1 << 20
"""Bytes of a request that is no image."""


class Broker:
    """Everything the routes need."""

    def __init__(self, store: Store, libvirt: Libvirt, settings: Settings, hostd: str) -> None:
        self.store, self.libvirt, self.settings, self.hostd = store, libvirt, settings, hostd
        self.calls = Calls()
        self.uploads = Uploads(store, libvirt)
        self._removing: set[str] = set()
        known = (
            making.CREATE,
            making.DELETE,
            *lifecycle.ACTIONS,
            *sizes.ACTIONS,
            *plugging.ACTIONS,
            *copies.ACTIONS,
            *snapshots.ACTIONS,
            self.uploads.action,
        )
        self.actions: dict[str, Action] = {action.kind: action for action in known}
        self.operations = Operations(store, libvirt, settings, hostd, self.actions)

    async def look(self, what: str, call: Callable[[Any], T]) -> T:
        """Something that only looks, on the connection for that."""

        def work() -> T:
            return in_words(what, lambda: call(self.libvirt.looking()))

        try:
            return await self.calls.run(what, work)
        except RefusedError as error:
            if error.kind == "timeout":
                self.libvirt.drop()
            if error.kind != "libvirt-away":
                raise
        # libvirtd was restarted, and the old connection with it.
        self.libvirt.drop()
        return await self.calls.run(what, work)

    async def apart(self, what: str, call: Callable[[Any], T], deadline: float = 30) -> T:
        """Something that may have to wait for a QEMU, on a connection of its own."""

        def work() -> T:
            with self.libvirt.connected() as connection:
                return in_words(what, lambda: call(connection))

        return await self.calls.run(what, work, deadline)

    async def take_away(self, what: str, pool: str, name: str) -> None:
        """Remove a volume and forget it. Raises HyperError, and then it is remembered."""
        self._removing.add(name)
        try:
            await self.apart(what, lambda connection: removed(connection, self.store, pool, name))
        finally:
            self._removing.discard(name)

    def sweep(self, connection: Any) -> None:
        """Remove volumes that could not be removed when they were to be."""
        sweep(connection, self.store, self._removing)

    async def find(self, name: str) -> guests.Ref:
        """A guest by name or UUID."""
        return await self.look(
            "finding the VM", lambda connection: guests.find(connection, self.store, name)
        )

    def require(self, caller: Caller, permission: Permission, owner: int | None, target: str) -> None:
        """RefusedError (denied), and written down, unless the caller may."""
        decision = decide(caller, permission, owner, target)
        if not decision.allowed:
            self.deny(caller, permission, target, decision.why, decision.remedy)

    def deny(
        self, caller: Caller, permission: Permission, target: str, why: str, remedy: str = "Ask them."
    ) -> NoReturn:
        """RefusedError (denied), and written down."""
        self.store.audit(
            {
                "actor": caller.uid,
                "actor_name": caller.name,
                "action": str(permission),
                "target": target[:64],
                "outcome": "denied",
                "detail": why,
            }
        )
        raise RefusedError(
            "denied",
            Status.denied,
            f"You may not do that with {target}.",
            why=why,
            remedy=remedy,
            permission=str(permission),
            object=target,
        )


def caller_of(request: Request) -> Caller:
    """Who asks, as the kernel says (hv.daemon.peer)."""
    if request.client is None:
        raise RuntimeError("a connection without peer")
    return peer.caller(request.client.port)


async def body_of(request: Request, model: type[Typed]) -> Any:
    """The typed request. Raises RefusedError with every field that is wrong."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > LARGEST:
            raise RefusedError(
                "too-large",
                Status.too_large,
                "The request is too large.",
                why=f"it has more than {LARGEST} bytes",
                remedy="A request is a few fields; images are sent with `hv image import`.",
            )
    try:
        return model.model_validate_json(data or b"{}")
    except ValidationError as error:
        raise RefusedError(
            "invalid",
            Status.invalid,
            "The request is not right.",
            why=told(error),
            remedy="Mend what is named; `hv vm COMMAND --help` says what each takes.",
        ) from error


def etag(row: dict[str, Any]) -> str:
    """Changes when anything about a guest does that a person can change."""
    kept = {key: value for key, value in row.items() if key not in ("state", "saved", "changes_pending")}
    return f'"{hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]}"'


def quick_json(value: Any, **headers: str) -> Response:
    """JSON without a look at every value's type."""
    return Response(json.dumps(value, ensure_ascii=False), media_type="application/json", headers=headers)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """An operation as its asker sees it."""
    return {key: value for key, value in row.items() if key not in ("given", "key")}


def accepted(row: dict[str, Any]) -> Response:
    """That an operation has begun, or is there already."""
    return Response(
        json.dumps({"operation": shown(row)}),
        202,
        media_type="application/json",
        headers={"Location": f"/1/operations/{row['id']}"},
    )


def takes(model: type[Typed]) -> dict[str, Any]:
    """The request's schema, for the description of the interface."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def owner_name(uid: int | None, cache: dict[int, str]) -> str | None:
    """Name of an account; its number when it is gone."""
    if uid is None:
        return None
    if uid not in cache:
        try:
            cache[uid] = peer.caller(uid).name
        except HyperError:
            cache[uid] = str(uid)
    return cache[uid]
