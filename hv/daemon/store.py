"""What the broker remembers: owners, disks, images, operations, and the audit trail. SQLite, one file.

The audit trail only grows: triggers refuse every change of a row, and each row carries the hash of the one before.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy as sql

META = sql.MetaData()
VMS = sql.Table(
    "vms",
    META,
    sql.Column("uuid", sql.String(36), primary_key=True),
    sql.Column("name", sql.String(64), nullable=False),
    sql.Column("owner", sql.Integer, nullable=False, index=True),
    sql.Column("vcpus", sql.Integer, nullable=False),
    sql.Column("memory", sql.Integer, nullable=False),
    sql.Column("tags", sql.JSON, nullable=False),
    sql.Column("os", sql.String(64), nullable=False),
    sql.Column("declared", sql.Boolean, nullable=False, default=False),
    sql.Column("created", sql.Float, nullable=False),
)
"""Guests that the broker made: owner (user id), and what they count for (bytes of memory)."""
VOLUMES = sql.Table(
    "volumes",
    META,
    sql.Column("pool", sql.String(64), primary_key=True),
    sql.Column("name", sql.String(255), primary_key=True),
    sql.Column("vm", sql.String(36), index=True),
    sql.Column("owner", sql.Integer, nullable=False, index=True),
    sql.Column("kind", sql.String(8), nullable=False),
    sql.Column("size", sql.Integer, nullable=False),
    sql.Column("image", sql.String(64)),
)
"""Every volume that the broker made; others it does not touch. `kind`: disk, seed, image, iso, staged, for an image that is
not whole yet, or going, for one that is to be removed. `vm`: whose, if any."""
IMAGES = sql.Table(
    "images",
    META,
    sql.Column("name", sql.String(64), primary_key=True),
    sql.Column("owner", sql.Integer, nullable=False),
    sql.Column("public", sql.Boolean, nullable=False),
    sql.Column("pool", sql.String(64), nullable=False),
    sql.Column("volume", sql.String(255), nullable=False),
    sql.Column("kind", sql.String(8), nullable=False),
    sql.Column("size", sql.Integer, nullable=False),
    sql.Column("sha256", sql.String(64), nullable=False),
    sql.Column("os", sql.String(64), nullable=False),
    sql.Column("source", sql.Text, nullable=False),
    sql.Column("created", sql.Float, nullable=False),
)
"""Disks and media that guests are made from."""
UPLOADS = sql.Table(
    "uploads",
    META,
    sql.Column("operation", sql.String(36), primary_key=True),
    sql.Column("pool", sql.String(64), nullable=False),
    sql.Column("volume", sql.String(255), nullable=False),
    sql.Column("received", sql.Integer, nullable=False),
    sql.Column("changed", sql.Float, nullable=False),
)
"""Images on their way here, each an operation: bytes that libvirt has taken for certain, and when more came last."""
TAKEN = sql.Table(
    "taken",
    META,
    sql.Column("address", sql.String(16), primary_key=True),
    sql.Column("vm", sql.String(36), nullable=False, index=True),
    sql.Column("boot", sql.String(36), nullable=False),
)
"""Functions of PCI devices that were taken from the host's drivers for a guest that ran, in which start of the host."""
OPERATIONS = sql.Table(
    "operations",
    META,
    sql.Column("id", sql.String(36), primary_key=True),
    sql.Column("kind", sql.String(32), nullable=False),
    sql.Column("target", sql.String(64), nullable=False),
    sql.Column("uuid", sql.String(36), nullable=False, index=True),
    sql.Column("actor", sql.Integer, nullable=False),
    sql.Column("actor_name", sql.String(64), nullable=False),
    sql.Column("given", sql.JSON, nullable=False),
    sql.Column("status", sql.String(16), nullable=False, index=True),
    sql.Column("percent", sql.Float),
    sql.Column("message", sql.Text, nullable=False, default=""),
    sql.Column("created", sql.Float, nullable=False, index=True),
    sql.Column("ended", sql.Float),
    sql.Column("deadline", sql.Float, nullable=False),
    sql.Column("result", sql.JSON),
    sql.Column("error", sql.JSON),
    sql.Column("key", sql.String(64)),
    sql.UniqueConstraint("actor", "key"),
)
"""Long work. Times are seconds since the epoch."""
AUDIT = sql.Table(
    "audit",
    META,
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("time", sql.Float, nullable=False),
    sql.Column("actor", sql.Integer, nullable=False),
    sql.Column("actor_name", sql.String(64), nullable=False),
    sql.Column("action", sql.String(32), nullable=False),
    sql.Column("target", sql.String(64), nullable=False),
    sql.Column("outcome", sql.String(16), nullable=False),
    sql.Column("detail", sql.Text, nullable=False),
    sql.Column("operation", sql.String(36)),
    sql.Column("hash", sql.String(64), nullable=False),
)
"""One row for each operation, and for each refusal."""
_GROWS_ONLY = (
    "CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    "CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'append-only'); END",
)
OPEN = ("queued", "running", "cancelling")
"""Statuses of operations that have not ended."""


class Store:
    """The database."""

    def __init__(self, file: Path) -> None:
        """Open it, and make what is missing."""
        self._engine = sql.create_engine(f"sqlite:///{file}", connect_args={"timeout": 30})
        self._writer = Lock()
        sql.event.listen(self._engine, "connect", _prepare)
        with self.writing() as connection:
            META.create_all(connection)
            for statement in _GROWS_ONLY:
                connection.exec_driver_sql(statement)

    @contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        """A transaction. SQLite has one writer: waiting here is cheaper than being told that it is locked."""
        with self._writer, self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    def rows(self, query: Any) -> list[dict[str, Any]]:
        """What a query finds."""
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def row(self, query: Any) -> dict[str, Any] | None:
        """The first of them."""
        return next(iter(self.rows(query)), None)

    def write(self, *statements: Any) -> int:
        """Carry statements out together; rows that the last one met."""
        count = 0
        with self.writing() as connection:
            for statement in statements:
                count = connection.execute(statement).rowcount
        return count

    def audit(self, row: dict[str, Any]) -> None:
        """Add a row to the trail."""
        with self.writing() as connection:
            last = connection.execute(
                sql.select(AUDIT.c.hash).order_by(AUDIT.c.number.desc()).limit(1)
            ).scalar()
            row = {"time": time.time(), "operation": None, **row}
            connection.execute(sql.insert(AUDIT).values(**row, hash=_chained(last or "", row)))

    def broken(self) -> int | None:
        """Number of the first row of the trail that does not follow from the one before; None: it is whole."""
        before = ""
        for row in self.rows(sql.select(AUDIT).order_by(AUDIT.c.number)):
            number, found = row.pop("number"), row.pop("hash")
            if found != _chained(before, row):
                return int(number)
            before = found
        return None


def _chained(before: str, row: dict[str, Any]) -> str:
    return hashlib.sha256(f"{before}\n{json.dumps(row, sort_keys=True)}".encode()).hexdigest()


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not begin transactions by itself: ours say IMMEDIATE.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "busy_timeout = 30000", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}").close()
