"""What the server remembers: who got which answers, and what machines told. SQLite, or PostgreSQL by its URL.

All of it is here: any number of servers can share one state, and each request stands for itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from installer.errors import Exit, HyperError
from installer.webhooks.event import Event

_metadata = sql.MetaData()
HANDOUTS = sql.Table(
    "handouts",
    _metadata,
    sql.Column("machine", sql.String(64), primary_key=True),
    sql.Column("claimant", sql.String(64), nullable=False, index=True),
    sql.Column("boot", sql.String(64), nullable=False),
    sql.Column("first", sql.DateTime(timezone=True), nullable=False),
    sql.Column("last", sql.DateTime(timezone=True), nullable=False),
    sql.Column("count", sql.Integer, nullable=False),
    sql.Column("installed", sql.Boolean, nullable=False, default=False),
)
"""Which machine has which entry."""
EVENTS = sql.Table(
    "events",
    _metadata,
    sql.Column("id", sql.String(36), primary_key=True),
    sql.Column("installation", sql.String(36), nullable=False, index=True),
    sql.Column("received", sql.DateTime(timezone=True), nullable=False, index=True),
    sql.Column("kind", sql.String(16), nullable=False),
    sql.Column("payload", sql.Text, nullable=False),
)
"""Everything that was told, once."""
MACHINES = sql.Table(
    "machines",
    _metadata,
    sql.Column("claimant", sql.String(64), primary_key=True),
    sql.Column("name", sql.String(64), nullable=False),
    sql.Column("host", sql.String(64), nullable=False),
    sql.Column("serial", sql.String(128)),
    sql.Column("state", sql.String(16), nullable=False, index=True),
    sql.Column("percent", sql.Float),
    sql.Column("detail", sql.Text, nullable=False),
    sql.Column("time", sql.DateTime(timezone=True), nullable=False),
    sql.Column("installation", sql.String(36)),
)
"""How far each machine is."""
KEPT = timedelta(days=90)
"""How long events are kept."""
_STATES = {
    "started": "installing",
    "step": "installing",
    "succeeded": "installed",
    "failed": "failed",
    "first-run": "installed",
}


@dataclass(frozen=True)
class Claimant:
    """A machine that asks."""

    digest: str
    """Which one: stays the same over boots."""
    boot: str
    """Which boot of it."""
    serial: str | None
    """For people."""


class _Statements:
    """Put together once: that takes longer than the database needs to carry them out."""

    def __init__(self, *, is_sqlite: bool) -> None:
        insert = sqlite.insert if is_sqlite else postgresql.insert
        this: sql.BindParameter[str] = sql.bindparam("this")
        # Not every driver counts inserted rows; a row that was put in is given back.
        handing = insert(HANDOUTS).on_conflict_do_nothing(index_elements=["machine"])
        self.hand_out = handing.returning(HANDOUTS.c.machine)
        row = sql.select(HANDOUTS).where(HANDOUTS.c.machine == this)
        self.handed_out = row if is_sqlite else row.with_for_update()
        named: dict[str, sql.BindParameter[object]] = {
            name: sql.bindparam(name) for name in ("claimant", "boot", "last", "installed")
        }
        self.hand_out_again = (
            sql.update(HANDOUTS)
            .where(HANDOUTS.c.machine == this)
            .values(count=HANDOUTS.c.count + 1, **named)
        )
        self.installed = sql.update(HANDOUTS).where(HANDOUTS.c.claimant == this).values(installed=True)
        putting = insert(EVENTS).on_conflict_do_nothing(index_elements=["id"])
        self.put_event = putting.returning(EVENTS.c.id)
        self.known = sql.select(MACHINES).where(MACHINES.c.claimant == this)
        put = insert(MACHINES)
        self.put_machine = put.on_conflict_do_update(index_elements=["claimant"], set_=dict(put.excluded))


class State:
    """The database."""

    def __init__(self, url: str) -> None:
        """Open it, and make what is missing.

        Raises:
            HyperError: it cannot be opened, or the URL has a password in it (Exit.usage).
        """
        try:
            parsed = make_url(url)
            dialect = parsed.get_backend_name()
        except (SQLAlchemyError, ValueError) as error:
            raise _unusable("it is no URL of a database") from error
        if dialect not in ("sqlite", "postgresql"):
            raise _unusable(f"{dialect} is not supported; SQLite and PostgreSQL are")
        if parsed.password:
            raise _unusable(
                "it has a password in it, which everybody on this machine could read; use PGPASSFILE"
            )
        self._is_sqlite = dialect == "sqlite"
        self._say = _Statements(is_sqlite=self._is_sqlite)
        # SQLite has one writer: waiting for it here is cheaper than being told that the database is locked.
        self._writer = Lock() if self._is_sqlite else None
        options: dict[str, Any] = {"connect_args": {"timeout": 30}} if self._is_sqlite else {"pool_size": 20}
        try:
            self._engine = sql.create_engine(parsed, pool_pre_ping=not self._is_sqlite, **options)
            if self._is_sqlite:
                sql.event.listen(self._engine, "connect", _prepare_sqlite)
            with self._engine.begin() as connection:
                if not self._is_sqlite:  # several servers may start at once
                    connection.execute(sql.text("SELECT pg_advisory_xact_lock(7220224)"))
                _metadata.create_all(connection)
        except (SQLAlchemyError, ImportError) as error:
            raise _unusable(str(getattr(error, "orig", error)).splitlines()[0]) from error

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    @contextmanager
    def _writing(self, *, lasting: bool = True) -> Iterator[sql.Connection]:
        """A transaction; `lasting`: on return it survives a power cut, which costs SQLite a wait for the disk."""
        with self._writer or nullcontext(), self._engine.begin() as connection:
            if self._is_sqlite:
                connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def claim(self, machine: str, claimant: Claimant, *, once: bool) -> str | None:
        """Hand an entry out to a machine; a text: why not. Asking again within one boot is the same handing out."""
        now = datetime.now(UTC)
        who = {"claimant": claimant.digest, "boot": claimant.boot, "last": now}
        with self._writing() as connection:
            fresh = {"machine": machine, "first": now, "count": 1, "installed": False, **who}
            if connection.execute(self._say.hand_out, fresh).first() is None:
                row = connection.execute(self._say.handed_out, {"this": machine}).one()
                same = row.claimant == claimant.digest
                if once and not same:
                    return "the answers for this machine were handed out to another one"
                if once and row.installed and row.boot != claimant.boot:
                    return "this machine was installed with these answers"
                installed = row.installed and same and row.boot == claimant.boot
                connection.execute(
                    self._say.hand_out_again, {"this": machine, "installed": installed, **who}
                )
            state = {
                "name": machine,
                "host": machine,
                "state": "answered",
                "percent": None,
                "installation": None,
            }
            about = {
                "claimant": claimant.digest,
                "serial": claimant.serial,
                "detail": "has its answers",
                "time": now,
            }
            connection.execute(self._say.put_machine, state | about)
        return None

    def record(self, event: Event) -> bool:
        """Take an event; False: it was there already."""
        now = datetime.now(UTC)
        digest = event.identity.machine()
        payload = event.model_dump_json(exclude_none=True)
        with self._writing(lasting=False) as connection:
            made = connection.execute(
                self._say.put_event,
                {
                    "id": event.id,
                    "installation": event.installation,
                    "received": now,
                    "kind": event.event,
                    "payload": payload,
                },
            )
            if made.first() is None:
                return False
            known = connection.execute(self._say.known, {"this": digest}).one_or_none()
            if known and known.installation == event.installation and known.state in ("installed", "failed"):
                return True  # a step that was told again, after the end
            state = {
                "name": known.name if known else event.host,
                "host": event.host,
                "state": _STATES[event.event],
            }
            about = {
                "claimant": digest,
                "serial": event.identity.serial,
                "detail": _detail(event),
                "time": now,
            }
            run = {"percent": event.percent, "installation": event.installation}
            connection.execute(self._say.put_machine, state | about | run)
            if event.event == "succeeded":
                connection.execute(self._say.installed, {"this": digest})
        return True

    def forget(self, machine: str) -> bool:
        """Hand an entry out anew; whether it had been handed out."""
        with self._writing() as connection:
            gone = connection.execute(sql.delete(HANDOUTS).where(HANDOUTS.c.machine == machine))
            return gone.rowcount > 0

    def tidy(self) -> int:
        """Drop events that are older than `KEPT`; how many."""
        with self._writing() as connection:
            old = sql.delete(EVENTS).where(EVENTS.c.received < datetime.now(UTC) - KEPT)
            return connection.execute(old).rowcount

    def counts(self) -> dict[str, int]:
        """How many machines are in each state."""
        with self._engine.connect() as connection:
            query = sql.select(MACHINES.c.state, sql.func.count()).group_by(MACHINES.c.state)
            return {str(state): int(count) for state, count in connection.execute(query)}

    def machines(self, state: str | None = None, limit: int = 1000, after: str = "") -> list[dict[str, Any]]:
        """Machines by name; `after` the one with this name."""
        query = sql.select(MACHINES).where(MACHINES.c.name > after).order_by(MACHINES.c.name).limit(limit)
        if state:
            query = query.where(MACHINES.c.state == state)
        with self._engine.connect() as connection:
            return [_row(row) for row in connection.execute(query).mappings()]

    def handouts(self) -> dict[str, tuple[str, int]]:
        """Entry to the machine that has it, and how often that asked."""
        with self._engine.connect() as connection:
            rows = connection.execute(sql.select(HANDOUTS)).mappings()
            return {row["machine"]: (row["claimant"], row["count"]) for row in rows}


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: ours say IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "busy_timeout = 30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _row(row: Any) -> dict[str, Any]:
    values = dict(row)
    time = values["time"]
    values["time"] = (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat(timespec="seconds")
    return values


def _detail(event: Event) -> str:
    match event.event:
        case "step" if event.step:
            return f"{event.step.number}/{event.step.of} {event.step.summary}"
        case "failed" if event.error:
            bundle = (
                f"; bundle: {event.bundle.addresses[0]}" if event.bundle and event.bundle.addresses else ""
            )
            return f"{event.error.what}: {event.error.why}{bundle}"
        case "succeeded":
            return f"installed in {event.seconds:.0f} s" if event.seconds is not None else "installed"
        case "first-run":
            open_ = [job.name for job in event.jobs if job.state in ("failed", "waiting")]
            return f"first run: not done: {', '.join(open_)}" if open_ else "first run done"
        case _:
            return "started"


def _unusable(why: str) -> HyperError:
    return HyperError(
        "the server's state cannot be opened",
        why=why,
        remedy="write --state sqlite:////path/to/file or postgresql+psycopg://user@host/database",
        code=Exit.usage,
    )
