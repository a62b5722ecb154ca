"""Long work: each piece has an id, tells how far it is, can be cancelled, has a deadline, and survives a restart.

Every piece looks before it acts, so that it can be done again: what was running when the broker stopped is taken up
where it was. One guest has one operation at a time; only a forced stop may cut in.
"""

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sql

from hv.daemon.limits import Use, require_room
from hv.daemon.problems import RefusedError, Status, problem
from hv.daemon.roles import Caller, Permission
from hv.daemon.settings import Settings
from hv.daemon.store import OPEN, OPERATIONS, Store
from hv.daemon.virt import Libvirt, translated
from hv.vm.spec import Typed
from installer.errors import HyperError

log = logging.getLogger("hvd")
KEPT = 90 * 86400.0
"""Seconds that operations which ended are kept; the audit trail is kept for ever."""


class StoppedError(Exception):
    """Somebody cancelled it, or its time is over."""


@dataclass
class Work:
    """One operation, as its action sees it."""

    id: str
    uuid: str
    """The guest's."""
    target: str
    """The guest's name when it was asked for."""
    caller: Caller
    given: Any
    """What was asked for."""
    store: Store
    settings: Settings
    libvirt: Libvirt
    connection: Any
    """libvirt's, for this work alone."""
    hostd: str
    """Socket of hv-hostd."""
    deadline: float
    """Time of the clock when it must be done."""
    cancelled: threading.Event = field(default_factory=threading.Event)

    def say(self, message: str, percent: float | None = None) -> None:
        """How far it is, 0 to 100; raises StoppedError when it should go no further."""
        self.store.write(
            sql.update(OPERATIONS)
            .where(OPERATIONS.c.id == self.id, OPERATIONS.c.status.in_(OPEN))
            .values(message=message, percent=percent)
        )
        self.check()

    def check(self) -> None:
        """Raises StoppedError when it should go no further."""
        if self.cancelled.is_set() or time.time() > self.deadline:
            raise StoppedError

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than needed; raises StoppedError."""
        self.cancelled.wait(seconds)
        self.check()


@dataclass(frozen=True)
class Action:
    """A kind of operation."""

    kind: str
    permission: Permission
    model: type[Typed]
    plan: Callable[[Work], list[str]]
    """What would be done, a line each; raises what would stop it."""
    run: Callable[[Work], dict[str, Any]]
    seconds: float = 300
    """Its deadline."""
    undo: Callable[[Work], None] | None = None
    """What puts things back when it does not come to its end."""
    also: Permission | None = None
    """What it takes of the guest's besides."""


class Operations:
    """All of them."""

    def __init__(
        self, store: Store, libvirt: Libvirt, settings: Settings, hostd: str, actions: dict[str, Action]
    ) -> None:
        self.store, self.libvirt, self.settings, self.actions = store, libvirt, settings, actions
        self.hostd = hostd
        self._cancel: dict[str, threading.Event] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._since_cancel: dict[str, float] = {}

    def work(self, action: Action, row: dict[str, Any], caller: Caller, connection: Any) -> Work:
        """What an action is given."""
        return Work(
            id=row["id"],
            uuid=row["uuid"],
            target=row["target"],
            caller=caller,
            given=action.model.model_validate_json(row["given"]),
            store=self.store,
            settings=self.settings,
            libvirt=self.libvirt,
            connection=connection,
            hostd=self.hostd,
            deadline=row["deadline"],
        )

    def row(
        self, action: Action, given: Typed, caller: Caller, guest: tuple[str, str], key: str | None
    ) -> dict[str, Any]:
        """A new operation on a guest (uuid, name), not kept yet."""
        now = time.time()
        extra = float(getattr(given, "wait", 0))
        return {
            "id": str(uuid.uuid4()),
            "kind": action.kind,
            "uuid": guest[0],
            "target": guest[1],
            "actor": caller.uid,
            "actor_name": caller.name,
            "given": given.model_dump_json(),
            "status": "queued",
            "percent": None,
            "message": "",
            "created": now,
            "ended": None,
            "deadline": now + action.seconds + extra,
            "result": None,
            "error": None,
            "key": key,
        }

    def begin(
        self,
        action: Action,
        row: dict[str, Any],
        caller: Caller,
        *,
        room: tuple[int, Use] | None = None,
        first: tuple[Any, ...] = (),
        cuts_in: bool = False,
    ) -> dict[str, Any]:
        """Keep it and start it. `room`: whose limits bind, and what more it takes; `first`: what is kept with it.

        Raises RefusedError: the guest is busy, or there is no room. The same key again: the operation that is there.
        """
        with self.store.writing() as connection:
            if row["key"]:
                same = sql.select(OPERATIONS).where(
                    OPERATIONS.c.actor == caller.uid, OPERATIONS.c.key == row["key"]
                )
                known = connection.execute(same).mappings().first()
                if known is not None:
                    return dict(known)
            busy = sql.select(OPERATIONS).where(
                OPERATIONS.c.uuid == row["uuid"], OPERATIONS.c.status.in_(OPEN)
            )
            others = [dict(each) for each in connection.execute(busy).mappings()]
            if others and not cuts_in:
                other = others[0]
                raise RefusedError(
                    "busy",
                    Status.conflict,
                    f"{row['target']} is busy: {other['kind']}, asked for by {other['actor_name']}.",
                    why=f"operation {other['id']} has not ended"
                    + (f": {other['message']}" if other["message"] else ""),
                    remedy=f"Wait for it, or cancel it: `hv vm cancel {other['id']}`.",
                    operation=other["id"],
                )
            if room is not None:
                require_room(connection, self.settings, caller, *room)
            for statement in first:
                connection.execute(statement)
            connection.execute(sql.insert(OPERATIONS).values(**row))
        for other in others:
            self.cancel(other["id"])
        self._start(action, row, caller)
        return row

    def _start(self, action: Action, row: dict[str, Any], caller: Caller, *, again: bool = False) -> None:
        stop = threading.Event()
        with self._lock:
            self._cancel[row["id"]] = stop
            self._ended[row["id"]] = asyncio.Event()
        thread = threading.Thread(
            target=self._run,
            args=(action, row, caller, stop, RETURN_PATIENCE if again else 0.0),
            name=f"{row['kind']} {row['id']}",
            daemon=True,
        )
        thread.start()

    def _opened(self, stop: threading.Event, patience: float) -> Any:
        """A connection to libvirt, which after a restart of everything may need a moment. Raises RefusedError."""
        end = time.monotonic() + patience
        while True:
            try:
                return self.libvirt.open()
            except RefusedError as error:
                if error.kind != "libvirt-away" or time.monotonic() >= end or stop.wait(0.5):
                    raise

    def _run(
        self, action: Action, row: dict[str, Any], caller: Caller, stop: threading.Event, patience: float
    ) -> None:
        self.store.write(
            sql.update(OPERATIONS)
            .where(OPERATIONS.c.id == row["id"], OPERATIONS.c.status == "queued")
            .values(status="running")
        )
        connection: Any = None
        work: Work | None = None
        try:
            connection = self._opened(stop, patience)
            work = self.work(action, row, caller, connection)
            work.cancelled = stop
            try:
                result = action.run(work)
            except self.libvirt.module.libvirtError as error:
                raise translated(error, f"{action.kind} of {row['target']}") from error
        except BaseException as error:
            self._failed(action, row, work, error)
        else:
            self._finish(row, "succeeded", result=result)
        finally:
            if connection is not None:
                try:
                    connection.close()
                except self.libvirt.module.libvirtError:
                    log.warning("%s: its connection to libvirt was gone", row["id"])

    def _failed(self, action: Action, row: dict[str, Any], work: Work | None, error: BaseException) -> None:
        if not isinstance(error, HyperError | StoppedError):
            log.exception("%s of %s failed", row["kind"], row["target"])
        why = problem(error if isinstance(error, Exception) else RuntimeError(type(error).__name__))
        status = "failed"
        if isinstance(error, StoppedError):
            late = time.time() > row["deadline"]
            status = "failed" if late else "cancelled"
            why = problem(_ended_early(row, late=late))
        if action.undo is not None and work is not None:
            try:
                action.undo(work)
            except Exception as second:
                log.exception("%s of %s could not be undone", row["kind"], row["target"])
                why["detail"] += f"; and what it had done could not be undone: {second}"
        self._finish(row, status, error=why)

    def _finish(self, row: dict[str, Any], status: str, **values: Any) -> None:
        """End it, once: its status, and its row in the trail."""
        changed = self.store.write(
            sql.update(OPERATIONS)
            .where(OPERATIONS.c.id == row["id"], OPERATIONS.c.status.in_(OPEN))
            .values(status=status, ended=time.time(), **values)
        )
        if changed:
            error = values.get("error")
            self.store.audit(
                {
                    "actor": row["actor"],
                    "actor_name": row["actor_name"],
                    "action": row["kind"],
                    "target": row["target"],
                    "outcome": status,
                    "detail": f"{error['title']} {error['detail']}" if error else row["given"],
                    "operation": row["id"],
                }
            )
            log.info("%s %s %s by %s: %s", row["id"], row["kind"], row["target"], row["actor_name"], status)
        with self._lock:
            self._cancel.pop(row["id"], None)
            ended = self._ended.pop(row["id"], None)
        if ended is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(ended.set)

    def get(self, identifier: str) -> dict[str, Any]:
        """One, by id. Raises Refused."""
        row = self.store.row(sql.select(OPERATIONS).where(OPERATIONS.c.id == identifier))
        if row is None:
            raise RefusedError(
                "no-such-operation",
                Status.missing,
                f"There is no operation {identifier}.",
                why=f"operations are kept for {KEPT / 86400:.0f} days, and none has that id",
                remedy="See `hv vm operations`.",
            )
        return row

    async def wait(self, identifier: str, seconds: float) -> dict[str, Any]:
        """One, when it ends, but after so many seconds at the latest."""
        ended = self._ended.get(identifier)
        if ended is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), seconds)
        return self.get(identifier)

    def cancel(self, identifier: str) -> None:
        """Ask it to stop where it can."""
        stop = self._cancel.get(identifier)
        if stop is not None:
            self.store.write(
                sql.update(OPERATIONS)
                .where(OPERATIONS.c.id == identifier, OPERATIONS.c.status.in_(OPEN))
                .values(status="cancelling")
            )
            stop.set()

    async def watch(self) -> None:
        """Ends what is past its deadline and does not see it itself: its thread hangs in libvirt, and is left there."""
        self._loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            # Two seconds more than it has itself: who looks at the clock puts things back first.
            late = sql.select(OPERATIONS).where(
                OPERATIONS.c.status.in_(OPEN), OPERATIONS.c.deadline < time.time() - 2
            )
            for row in self.store.rows(late):
                self._finish(row, "failed", error=problem(_ended_early(row, late=True)))
            cancelling = sql.select(OPERATIONS).where(OPERATIONS.c.status == "cancelling")
            for row in self.store.rows(cancelling):
                since = self._since_cancel.setdefault(row["id"], time.time())
                if time.time() - since > CANCEL_PATIENCE:
                    self._finish(row, "cancelled", error=problem(_ended_early(row, late=False)))
                    self._since_cancel.pop(row["id"], None)

    def resume(self, caller_of: Callable[[int], Caller]) -> int:
        """Take up what was running when the broker stopped; how many."""
        self.store.write(
            sql.delete(OPERATIONS).where(
                OPERATIONS.c.ended.is_not(None), OPERATIONS.c.ended < time.time() - KEPT
            )
        )
        rows = self.store.rows(sql.select(OPERATIONS).where(OPERATIONS.c.status.in_(OPEN)))
        for row in rows:
            action = self.actions.get(row["kind"])
            if action is None or row["status"] == "cancelling" or time.time() > row["deadline"]:
                self._finish(
                    row, "failed", error=problem(_ended_early(row, late=row["status"] != "cancelling"))
                )
                continue
            try:
                caller = caller_of(row["actor"])
            except HyperError as error:
                self._finish(row, "failed", error=problem(error))
                continue
            log.info("%s %s of %s is taken up again", row["id"], row["kind"], row["target"])
            self._start(action, row, caller, again=True)
        return len(rows)


RETURN_PATIENCE = 30.0
"""Seconds that what is taken up again waits for libvirt, which was perhaps started anew as well."""
CANCEL_PATIENCE = 15.0
"""Seconds that a cancelled operation has to see it, before it is left to itself."""


def _ended_early(row: dict[str, Any], *, late: bool) -> RefusedError:
    took = time.time() - row["created"]
    if late:
        return RefusedError(
            "deadline",
            Status.timeout,
            f"{row['kind']} of {row['target']} ran out of time.",
            why=f"it had not ended after {took:.0f} s"
            + (f", at: {row['message']}" if row["message"] else ""),
            remedy="See `hv vm operations` and `hv vm show` how far it came, and do it again; a guest that hangs ends "
            "with `hv vm stop NAME --force`.",
        )
    return RefusedError(
        "cancelled",
        Status.conflict,
        f"{row['kind']} of {row['target']} was cancelled.",
        why=f"somebody asked for that after {took:.0f} s",
        remedy="Do it again if it is still wanted.",
    )
